"""Guests that nobody here wrote, from Debian's packages, under translation and under hardware assist."""

from __future__ import annotations

from pathlib import Path

import pytest

from vilab.guests.load import load
from vilab.vmm.vm import QuietConsole, VirtualMachine

MEMORY_BYTES = 64 << 20
SLICE_NS = 50_000_000
MOST_NS = 12_000_000_000


def run_until(path: Path, engine: str, append: str, words: bytes) -> str:
    """Everything the guest has said by the time it says ``words``."""
    console = QuietConsole()
    image = load(str(path), memory_bytes=MEMORY_BYTES, append=append)
    vm = VirtualMachine(image, engine, MEMORY_BYTES, console=console)
    now_ns = 0
    while words not in console.output and now_ns < MOST_NS:
        now_ns += SLICE_NS
        if vm.engine.run(until_ns=now_ns) is not None:
            break
    assert vm.engine.ended is None or vm.engine.ended.good, vm.engine.ended
    vm.close()
    return console.output.decode("latin-1")


@pytest.mark.parametrize("engine", ["bt", "svm"])
def test_gnu_mach_gets_as_far_as_it_can_without_servers(engine: str, gnumach_image: Path):
    said = run_until(gnumach_image, engine, "console=com0", b"No bootstrap code")
    assert "GNU Mach 1.8" in said
    assert "No bootstrap code loaded with the kernel" in said


@pytest.mark.parametrize("engine", ["bt", "svm"])
def test_memtest86_tests_memory(engine: str, memtest86_image: Path):
    said = run_until(memtest86_image, engine, "console=ttyS0,115200", b"Status: Testing")
    assert "Memtest86+" in said
    assert "Status: Testing" in said
