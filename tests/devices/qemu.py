"""QEMU's devices as the outside judge: its processor stands still, its ports are worked through the qtest protocol.

::

    outb 0x21 0xff        -> OK
    inb 0x21              -> OK 0x00ff
    set_irq_in PATH unnamed-gpio-in 3 1 -> OK

Virtual time does not move while the processor is stopped, so nothing here depends on the speed of a machine.
"""

from __future__ import annotations

import re
import subprocess
from types import TracebackType

from tests.tools import require_tool

PACKAGE = "the Debian package qemu-system-x86"
WIDTHS = {1: "b", 2: "w", 4: "l"}
ARGUMENTS = ("-machine", "pc", "-m", "64", "-S", "-nodefaults", "-display", "none", "-serial", "null")


def qemu() -> str:
    return require_tool("qemu-system-i386", PACKAGE)


def pic_paths() -> tuple[str, str]:
    """Where the master and the slave are in QEMU's object tree."""
    tree = subprocess.run(
        [qemu(), *ARGUMENTS, "-monitor", "stdio"],
        input="info qom-tree\nquit\n",
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    found = sorted(int(number) for number in re.findall(r"device\[(\d+)\] \(isa-i8259\)", tree))
    assert len(found) == 2, "QEMU's object tree shows two 8259A"
    master, slave = (f"/machine/unattached/device[{number}]" for number in found)
    return master, slave


class QemuPorts:
    """A stopped QEMU."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [qemu(), *ARGUMENTS, *arguments, "-qtest", "stdio", "-qtest-log", "none"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> QemuPorts:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()

    def _ask(self, command: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        while True:
            line = self._process.stdout.readline()
            assert line, f"QEMU ended at {command!r}: {self._process.stderr and self._process.stderr.read()}"
            if not line.startswith("IRQ"):
                break
        assert line.startswith("OK"), f"{command}: {line}"
        return line[2:].strip()

    def read_port(self, port: int, size_bytes: int = 1) -> int:
        return int(self._ask(f"in{WIDTHS[size_bytes]} {port:#x}"), 16)

    def write_port(self, port: int, size_bytes: int, value: int) -> None:
        self._ask(f"out{WIDTHS[size_bytes]} {port:#x} {value:#x}")

    def read_mmio(self, address: int, size_bytes: int = 4) -> int:
        return int(self._ask(f"read{WIDTHS[size_bytes]} {address:#x}"), 16)

    def write_mmio(self, address: int, size_bytes: int, value: int) -> None:
        self._ask(f"write{WIDTHS[size_bytes]} {address:#x} {value:#x}")

    def set_irq(self, path: str, number: int, high: bool) -> None:
        self._ask(f"set_irq_in {path} unnamed-gpio-in {number} {int(high)}")
