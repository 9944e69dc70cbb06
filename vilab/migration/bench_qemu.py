"""QEMU's own live migration of the stock Debian guest, to stand beside ours.

::

    qemu-system-i386 ═ loopback TCP, pages ═> qemu-system-i386 -incoming        both with TCG, in processes of their own
      │ QMP       │ serial line                 │ QMP
    query-migrate  the shell that writes        ready to be moved to

The same kernel, initramfs, command line, memory size and shell loop as our guest has; ``max-bandwidth`` is as good as
none. Source: QEMU, ``docs/devel/migration.rst`` and the QMP reference, ``migrate``, ``query-migrate``.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from vilab.errors import AdminError, VmmBug
from vilab.guests import debian

PROGRAM, PACKAGE = "qemu-system-i386", "qemu-system-x86"
BANDWIDTH_BYTES_PER_S = 1 << 40
DOWNTIME_LIMIT_MS = 30
START_S, BOOT_S, MIGRATION_S, POLL_S = 20.0, 120.0, 120.0, 0.01


class QemuMoved(msgspec.Struct, frozen=True):
    """As ``query-migrate`` says, in whole milliseconds. ``sent_bytes``: of memory; ``rounds``: of its dirty bitmap."""

    downtime_ms: float
    total_ms: float
    sent_bytes: int
    rounds: int


def missing() -> str:
    """Why there is nothing to compare with, in a sentence; empty: there is."""
    if shutil.which(PROGRAM) is None:
        return f"{PROGRAM} is not there to compare with; it comes with the Debian package {PACKAGE}."
    try:
        debian.find()
    except AdminError as error:
        return str(error)
    return ""


class Qemu:
    """One process. ``incoming``: it waits for a machine; then ``port`` says where."""

    def __init__(self, folder: Path, name: str, memory_mb: int, append: str, incoming: bool) -> None:
        guest = debian.find()
        control, line = folder / f"{name}.qmp", folder / f"{name}.tty"
        command = [
            PROGRAM, "-accel", "tcg", "-m", str(memory_mb), "-display", "none", "-nodefaults", "-no-reboot",
            "-kernel", str(guest.kernel), "-initrd", str(guest.initrd), "-append", f"{debian.COMMAND_LINE} {append}",
            "-qmp", f"unix:{control},server=on,wait=off", "-serial", f"unix:{line},server=on,wait=off",
        ]  # fmt: skip
        self._process = subprocess.Popen(
            [*command, "-incoming", "defer"] if incoming else command, stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            self._control, self._line = self._called(control), self._called(line)
            self._answers = self._control.makefile("rb")
            self._answers.readline()
            self.ask("qmp_capabilities")
            self.port = self._incoming() if incoming else 0
        except BaseException:
            self.close()
            raise

    def _called(self, path: Path) -> socket.socket:
        until = time.monotonic() + START_S
        while True:
            try:
                made = socket.socket(socket.AF_UNIX)
                made.settimeout(BOOT_S)
                made.connect(str(path))
                return made
            except OSError:
                made.close()
                if self._process.poll() is not None or time.monotonic() > until:
                    said = (
                        self._process.stderr.read() if self._process.poll() is not None and self._process.stderr else ""
                    )
                    raise VmmBug(f"{PROGRAM} did not start: {said.strip() or 'it is silent'}") from None
                time.sleep(POLL_S)

    def _incoming(self) -> int:
        self.ask("migrate-incoming", uri="tcp:127.0.0.1:0")
        (address,) = self.ask("query-migrate")["socket-address"]
        return int(address["port"])

    def ask(self, command: str, **arguments: Any) -> Any:
        """A QMP command and what it returns; events in between are passed over."""
        self._control.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while line := self._answers.readline():
            answer = json.loads(line)
            if "error" in answer:
                raise VmmBug(f"QEMU refused {command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]
        raise VmmBug(f"QEMU ended during {command}.")

    def wait_for(self, what: bytes) -> None:
        """Until the guest has said that."""
        said, until = b"", time.monotonic() + BOOT_S
        while what not in said:
            got = self._line.recv(4096)
            if not got or time.monotonic() > until:
                raise VmmBug(f"The guest under QEMU did not say {what!r}; it said {said[-300:]!r}.")
            said += got

    def type(self, line: str) -> None:
        self._line.sendall(line.encode() + b"\n")

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
        for each in ("_control", "_line"):
            if hasattr(self, each):
                getattr(self, each).close()


class QemuGuest:
    """The Debian guest under QEMU, at work; moved again and again, to a new process each time."""

    def __init__(self, folder: Path, memory_mb: int, append: str, prompt: bytes, work: str, ready: bytes) -> None:
        self._folder, self._memory_mb, self._append = folder, memory_mb, append
        self._made = 0
        self._at = self._start(False)
        try:
            self._at.wait_for(prompt)
            self._at.type(work)
            self._at.wait_for(ready)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> QemuGuest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self, incoming: bool) -> Qemu:
        self._made += 1
        return Qemu(self._folder, f"qemu{self._made}", self._memory_mb, self._append, incoming)

    def move(self) -> QemuMoved:
        """Raises ``VmmBug``: QEMU says that it has failed, or is not done after two minutes."""
        there = self._start(True)
        try:
            here, until = self._at, time.monotonic() + MIGRATION_S
            limits = {"max-bandwidth": BANDWIDTH_BYTES_PER_S, "downtime-limit": DOWNTIME_LIMIT_MS}
            here.ask("migrate-set-parameters", **limits)
            here.ask("migrate", uri=f"tcp:127.0.0.1:{there.port}")
            while (found := here.ask("query-migrate"))["status"] not in ("completed", "failed"):
                if time.monotonic() > until:
                    raise VmmBug(f"QEMU's migration is {found['status']} after {MIGRATION_S:g} s.")
                time.sleep(POLL_S)
            if found["status"] == "failed":
                raise VmmBug(f"QEMU's migration has failed: {found.get('error-desc', 'it does not say why')}")
        except BaseException:
            there.close()
            raise
        here.close()
        self._at = there
        memory = found["ram"]
        return QemuMoved(
            float(found["downtime"]), float(found["total-time"]), memory["transferred"], memory["dirty-sync-count"]
        )

    def close(self) -> None:
        self._at.close()
