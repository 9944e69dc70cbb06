"""The outside judge of the teaching kernel: QEMU's own Multiboot loader, processor and devices."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.tools import require_tool

SECONDS = 60


def run(kernel: Path, append: str = "", typed: str = "", memory: str = "64M", seconds: float = SECONDS) -> str:
    """Everything that the guest sent to its serial line until it switched itself off, with plain line ends."""
    qemu = require_tool("qemu-system-i386", "the Debian package qemu-system-x86")
    command = [qemu, "-accel", "tcg", "-m", memory, "-display", "none", "-serial", "stdio", "-monitor", "none"]
    command += ["-no-reboot", "-nic", "none", "-kernel", str(kernel), "-append", append]
    done = subprocess.run(command, input=typed.encode(), capture_output=True, timeout=seconds)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().replace("\r\n", "\n")
