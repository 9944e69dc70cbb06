"""One session with the Debian guest: it boots, the same commands are typed, it is switched off. Ours, and QEMU's."""

from __future__ import annotations

import re
import subprocess
import threading
from typing import IO, Any

import msgspec

from tests.tools import require_tool
from vilab.guests import debian, debian_root
from vilab.vmm import suspend
from vilab.vmm.choices import usual_for
from vilab.vmm.runner import RunOptions, choose
from vilab.vmm.typist import Typist
from vilab.vmm.vm import QuietConsole, VirtualMachine

QUIET = "dmesg -n 1"
"""No kernel message from here on: under QEMU one may come at any moment, in the middle of a prompt."""
COMMANDS = (
    "uname -a",
    "ls /",
    "for i in 1 2 3 4 5 6 7 8; do seq $i | sort -rn | head -n 1 | wc -c; done",
    "(exit 3); echo $? $((6 * 7)) $(echo $(echo deep))",
    "modprobe sd_mod; lsmod | cut -d ' ' -f 1 | sort",
    "cat /proc/cpuinfo",
    "dmesg | grep -i hypervisor",
)
SCRIPT = "".join(f"{command}\n" for command in (QUIET, *COMMANDS, "exit")).encode()
SUSPENDED_AT_MS = 700
SECONDS = 120
PRINTK_TIME = re.compile(r"^\[ *\d+\.\d+\] ?", re.MULTILINE)


class Session(msgspec.Struct, frozen=True):
    """What came over the serial line. ``saved``: the machine as a file, in the middle of its boot."""

    serial: bytes
    statistics: dict[str, Any] = {}
    ended: str = ""
    saved: bytes = b""

    def text(self) -> str:
        return PRINTK_TIME.sub("", self.serial.decode("latin-1").replace("\r", ""))

    def boot(self) -> list[str]:
        """The lines up to the first prompt, without the kernel's times."""
        return self.text().split(debian_root.PROMPT.decode())[0].splitlines()

    def answers(self) -> dict[str, str]:
        """Command -> what it said."""
        parts = self.text().replace(debian_root.ASKS_CURSOR.decode(), "").split(debian_root.PROMPT.decode())[1:]
        return {line: answer for line, _, answer in (part.partition("\n") for part in parts)}


def ours(engine: str) -> Session:
    """Under one engine, in this process, nobody watching; where it is saved, it goes on as from the file."""
    chosen = choose(RunOptions(debian.NAME, engine))
    console = QuietConsole(SCRIPT)
    options = usual_for(chosen.image.kind, engine, {})
    vm = VirtualMachine(
        chosen.image, engine, chosen.memory_bytes, console=Typist(console, chosen.prompt), engine_options=options,
    )  # fmt: skip
    try:
        assert vm.engine.run(SUSPENDED_AT_MS * 1_000_000) is None
        saved = suspend.encode(vm, options, prompt=chosen.prompt, said=bytes(console.output[-32:]))
        vm.load_state(vm.save_state())
        ended = vm.engine.run()
        assert ended is not None
        return Session(bytes(console.output), vm.engine.statistics(), ended.sentence, saved)
    finally:
        vm.close()


def qemu(guest: debian.Debian) -> Session:
    """The same kernel, root file system and command line in QEMU's own processor and PC."""
    program = require_tool("qemu-system-i386", "the Debian package qemu-system-x86")
    options = ["-accel", "tcg", "-m", str(debian.MEMORY_BYTES >> 20), "-display", "none", "-serial", "stdio"]
    options += ["-monitor", "none", "-no-reboot", "-nic", "none", "-kernel", str(guest.kernel)]
    options += ["-initrd", str(guest.initrd), "-append", debian.COMMAND_LINE]
    with subprocess.Popen([program, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        limit = threading.Timer(SECONDS, process.kill)
        limit.start()
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            return Session(_talk(process.stdin, process.stdout))
        finally:
            limit.cancel()
            process.kill()


def _talk(to_guest: IO[bytes], from_guest: IO[bytes]) -> bytes:
    """Type a line at each prompt; without ACPI the guest halts at the end and QEMU runs on."""
    heard, at = bytearray(), 0
    lines = SCRIPT.splitlines(keepends=True)
    while b"System halted" not in heard:
        piece = from_guest.read1()  # type: ignore[attr-defined]
        if not piece:
            break
        heard += piece
        found = heard.find(debian_root.PROMPT + debian_root.ASKS_CURSOR, at)
        if found >= 0 and lines:
            at = found + len(debian_root.PROMPT)
            to_guest.write(lines.pop(0))
            to_guest.flush()
    return bytes(heard)
