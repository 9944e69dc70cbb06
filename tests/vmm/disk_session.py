"""A Debian guest with disks that a test talks to: it types a line, runs on to the next prompt, and reads the answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

from vilab.guests import debian, debian_root
from vilab.vmm import suspend
from vilab.vmm.choices import usual_for
from vilab.vmm.runner import RunOptions, choose
from vilab.vmm.scsi_disks import ScsiAdapter
from vilab.vmm.vm import QuietConsole, VirtualMachine

SLICE_NS = 50_000_000
MOST_NS = 400_000_000_000
PROMPT = debian_root.PROMPT.decode()
CONTROL = re.compile(r"\x1b\[6n|\r")


class DiskSession:
    """``said``: all that came over the serial line."""

    def __init__(self, vm: VirtualMachine, console: QuietConsole, options: dict[str, object]) -> None:
        self.vm, self.console, self.options = vm, console, options
        self._read = 0

    @classmethod
    def boot(cls, engine: str, adapters: Sequence[ScsiAdapter]) -> DiskSession:
        """Up to the first prompt."""
        controller = adapters[0].controller
        # The disks are the test's own: this one only says that there are some.
        chosen = choose(RunOptions(debian.NAME, engine, disks=(Path("disk"),), controller=controller))
        console = QuietConsole()
        options = usual_for(chosen.image.kind, engine, {})
        vm = VirtualMachine(
            chosen.image, engine, chosen.memory_bytes, console=console, engine_options=options, adapters=adapters,
        )  # fmt: skip
        session = cls(vm, console, options)
        session._to_prompt()
        session.run("dmesg -n 1")
        return session

    def _to_prompt(self, during: int = 0) -> str:
        """What was said until the guest asks for a line."""
        end_ns = self.vm.engine.now_ns() + MOST_NS
        while True:
            text = CONTROL.sub("", bytes(self.console.output[self._read :]).decode("latin-1"))
            if text.endswith(PROMPT):
                self._read = len(self.console.output)
                return text
            assert self.vm.engine.now_ns() < end_ns, text[-500:]
            assert self.vm.engine.run(self.vm.engine.now_ns() + SLICE_NS) is None, text[-500:]

    def type(self, line: str) -> None:
        self.console.type(line)

    def slice(self, ns: int = SLICE_NS) -> None:
        """Run on for a moment."""
        assert self.vm.engine.run(self.vm.engine.now_ns() + ns) is None

    def answer(self, line: str) -> str:
        """What came behind a line that was typed, up to the next prompt."""
        text = self._to_prompt()
        flat = text.replace("\n", "")
        assert flat.startswith(line.replace("\n", "")), text
        return text[_echo_end(text, line) :].removesuffix(PROMPT).strip("\n")

    def rest(self) -> str:
        """What is said until the next prompt, by a guest that was resumed in the middle of a command."""
        return self._to_prompt().removesuffix(PROMPT)

    def run(self, line: str) -> str:
        """A command and its output. Raises ``AssertionError`` if it does not end."""
        self.type(line)
        return self.answer(line)

    def succeed(self, line: str) -> str:
        """The same for a command that has to end well."""
        text = self.run(f"{line}; echo =$?")
        text, _, status = text.rpartition("=")
        assert status == "0", (line, text, status)
        return text.rstrip("\n")

    def halt(self) -> None:
        self.type("exit")
        ended = self.vm.engine.run(self.vm.engine.now_ns() + MOST_NS)
        assert ended is not None
        assert ended.reason == "powered_off"

    def saved(self) -> bytes:
        return suspend.encode(self.vm, self.options)

    @classmethod
    def resumed(
        cls, data: bytes, adapters: Sequence[ScsiAdapter] | None = None, engine: str | None = None
    ) -> DiskSession:
        """From a suspended machine; its disks are opened again unless others are given. ``engine``: another one."""
        console = QuietConsole()
        found = suspend.decode(data)
        if engine is not None:
            options = usual_for(found.header.image.kind, engine, {})
            header = msgspec.structs.replace(found.header, engine=engine, engine_options=options)
            found = msgspec.structs.replace(found, header=header)
        vm = found.resume(console, adapters=adapters)
        return cls(vm, console, dict(found.header.engine_options))

    def close(self) -> None:
        self.vm.close()
        for adapter in self.vm.adapters:
            adapter.close()


def _echo_end(text: str, line: str) -> int:
    """Where the echo of a line ends: the terminal breaks it at its right edge."""
    left, at = len(line), 0
    while left:
        if text[at] != "\n":
            left -= 1
        at += 1
    return at
