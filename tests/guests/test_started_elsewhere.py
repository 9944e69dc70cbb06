"""What the loaders here produce, started on QEMU: the same bytes, the same first state, somebody else's machine."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.guests import qemu, trampoline
from vilab.guests import LoadedImage, load

MEMORY_BYTES = 64 << 20
pytestmark = pytest.mark.interop

# EAX to the serial line, low byte first; then the power register.
SEND_EAX_AND_STOP = bytes.fromhex("89c3 66baf803" + "88d8ee c1eb08" * 4 + "66ba0406 66b80020 66ef f4")


def put(folder: Path, image: LoadedImage) -> Path:
    path = folder / "trampoline"
    path.write_bytes(trampoline.build(image))
    return path


def call(folder: Path, name: str, append: str = "") -> int:
    """Runs an image that returns; its return stub is replaced by one that sends EAX."""
    image = load(name, memory_bytes=MEMORY_BYTES, append=append)
    segments = tuple((gpa, SEND_EAX_AND_STOP if gpa == image.stop_eip else data) for gpa, data in image.segments)
    output = qemu.run_bytes(put(folder, msgspec.structs.replace(image, segments=segments)))
    assert len(output) == 4
    return int.from_bytes(output, "little")


def test_teaching_kernel_takes_its_command_line_and_memory_from_our_information(tmp_path: Path) -> None:
    image = load("forkwait", memory_bytes=MEMORY_BYTES, append="7")
    output = qemu.run(put(tmp_path, image))
    assert "paging: 64 MB of memory\n" in output
    assert "forkwait: 7 processes created and ended\n" in output


def test_gnumach_comes_to_its_own_end(tmp_path: Path, gnumach_image: Path) -> None:
    image = load(str(gnumach_image), memory_bytes=MEMORY_BYTES, append="console=com0")
    assert "No bootstrap code" in qemu.run_until("No bootstrap code", put(tmp_path, image))


def test_memtest86_starts_testing(tmp_path: Path, memtest86_image: Path) -> None:
    image = load(str(memtest86_image), memory_bytes=MEMORY_BYTES, append="console=ttyS0,115200")
    assert "Testing" in qemu.run_until("Testing", put(tmp_path, image))


@pytest.mark.parametrize(
    ("name", "append", "answer"),
    [
        ("isprime", "49", 0),
        ("isprime", "10007", 1),
        ("straight25", "", 300),
        ("bench-ring0-mixed", "1000", 4000),
        ("bench-cli-sti", "1000", 0),
        ("bench-call-ret", "1000", 1000),
        ("bench-ring3", "1000", 4000),
    ],
)
def test_image_without_a_kernel_returns_its_answer(tmp_path: Path, name: str, append: str, answer: int) -> None:
    assert call(tmp_path, name, append) == answer
