"""The pmap: reads and writes across pages, holes, and who hears of what."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vilab.machine.memory import MachineMemory
from vilab.memory.pmap import Pmap

FRAMES = (5, 2, 7, 0)


class Listener:
    def __init__(self) -> None:
        self.heard: list[tuple[int, int, int]] = []

    def page_unmapped(self, ppn: int) -> None:
        raise AssertionError

    def page_write_protected(self, ppn: int) -> None:
        raise AssertionError

    def all_write_protected(self) -> None:
        raise AssertionError

    def page_content_changed(self, ppn: int, offset: int, size_bytes: int) -> None:
        self.heard.append((ppn, offset, size_bytes))


@given(st.integers(0, 4 * 4096 + 100), st.binary(min_size=1, max_size=9000))
def test_what_is_written_is_read_back_wherever_the_frames_are(gpa: int, data: bytes):
    memory = MachineMemory(8 * 4096)
    pmap = Pmap(memory, FRAMES)
    listener = Listener()
    pmap.listeners.append(listener)  # type: ignore[arg-type]
    pmap.write(gpa, data)
    inside = max(0, min(len(data), 4 * 4096 - gpa))
    assert pmap.read(gpa, len(data)) == data[:inside] + b"\xff" * (len(data) - inside)
    assert sum(size for _, _, size in listener.heard) == inside
    for ppn, offset, size in listener.heard:
        at = ppn * 4096 + offset - gpa
        assert memory.read(FRAMES[ppn] * 4096 + offset, size) == data[at : at + size]
    others = [frame for frame in range(8) if frame not in FRAMES]
    assert not any(memory.frame(frame).any() for frame in others)


def test_dwords_go_to_the_right_frame():
    memory = MachineMemory(8 * 4096)
    pmap = Pmap(memory, FRAMES)
    pmap.write_u32(0x1004, 0xDEAD1234)
    assert memory.read(2 * 4096 + 4, 4) == bytes.fromhex("3412adde")
    assert pmap.read_u32(0x1004) == 0xDEAD1234
    assert pmap.read_u32(0x8000) == 0xFFFFFFFF
