"""The outside judge: QEMU's own Multiboot loader, processor and devices."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

from tests.tools import require_tool

SECONDS = 60


def command(kernel: Path, append: str, memory: str) -> list[str]:
    qemu = require_tool("qemu-system-i386", "the Debian package qemu-system-x86")
    options = ["-accel", "tcg", "-m", memory, "-display", "none", "-serial", "stdio", "-monitor", "none", "-no-reboot"]
    return [qemu, *options, "-nic", "none", "-kernel", str(kernel), "-append", append]


def run(kernel: Path, append: str = "", typed: str = "", memory: str = "64M") -> str:
    """Everything that the guest sent to its serial line until it switched itself off, with plain line ends."""
    return run_bytes(kernel, append, typed, memory).decode().replace("\r\n", "\n")


def run_bytes(kernel: Path, append: str = "", typed: str = "", memory: str = "64M") -> bytes:
    done = subprocess.run(command(kernel, append, memory), input=typed.encode(), capture_output=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def run_until(text: str, kernel: Path, append: str = "", memory: str = "64M") -> str:
    """For guests that never end by themselves: the serial output until ``text`` has come, or all there was in time."""
    process = subprocess.Popen(command(kernel, append, memory), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    limit = threading.Timer(SECONDS, process.kill)
    limit.start()
    output = bytearray()
    try:
        assert process.stdout is not None
        while text.encode() not in output:
            piece = process.stdout.read1()
            if not piece:
                break
            output += piece
    finally:
        limit.cancel()
        process.kill()
        process.communicate()
    return output.decode(errors="replace")
