"""MP tables, read back by a reader that knows nothing but the specification."""

from __future__ import annotations

import struct

import pytest

from tests.devices.helpers import make_pc
from vilab.devices.mp_table import FIRST, LAST, MpInterrupt, MpRecord, mp_tables, place_mp_tables

MEMORY_BYTES = 4 << 20


class Memory:
    def __init__(self) -> None:
        self.data = bytearray(MEMORY_BYTES)

    def write(self, gpa: int, data: bytes) -> None:
        self.data[gpa : gpa + len(data)] = data


def find(memory: bytes) -> list[tuple[int, bytes]]:
    """The entries: (kind, bytes)."""
    for at in range(0xF0000, 0x100000, 16):
        pointer = memory[at : at + 16]
        if pointer[:4] == b"_MP_" and sum(pointer) & 0xFF == 0:
            break
    else:
        return []
    table_at = struct.unpack_from("<I", pointer, 4)[0]
    size = struct.unpack_from("<H", memory, table_at + 4)[0]
    table = memory[table_at : table_at + size]
    assert table[:4] == b"PCMP"
    assert sum(table) & 0xFF == 0
    entries, at = [], 44
    for _ in range(struct.unpack_from("<H", table, 34)[0]):
        length = 20 if table[at] == 0 else 8
        entries.append((table[at], table[at : at + length]))
        at += length
    assert at == size
    return entries


def record(processors: tuple[int, ...] = (0,)) -> MpRecord:
    return MpRecord(
        processors=processors, signature=0x600, features=1, lapic_version=0x14, lapic_address=0xFEE00000,
        ioapics=((4, 0xFEC00000),), ioapic_version=0x11, buses=("ISA",), interrupts=(MpInterrupt(0, 1, 4, 1),),
        local=(),
    )  # fmt: skip


def test_the_table_of_the_pc() -> None:
    memory = Memory()
    place_mp_tables(make_pc()[0].mp_record(), memory, [], MEMORY_BYTES)
    entries = find(bytes(memory.data))
    kinds = [kind for kind, _ in entries]
    assert kinds == sorted(kinds)
    assert (kinds.count(0), kinds.count(1), kinds.count(2), kinds.count(4)) == (1, 2, 1, 2)
    assert [e[2:8] for kind, e in entries if kind == 1] == [b"PCI   ", b"ISA   "]
    pins = {e[5]: e[7] for kind, e in entries if kind == 3 and e[1] == 0 and e[4] == 1}
    assert pins == {0: 2} | {irq: irq for irq in (1, *range(3, 16))}


def test_more_processors_and_which_one_starts() -> None:
    entries = find(bytes(FIRST) + mp_tables(record((0, 1, 2, 5)), FIRST) + bytes(4096))
    assert [(e[1], e[3]) for kind, e in entries if kind == 0] == [(0, 3), (1, 1), (2, 1), (5, 1)]


@pytest.mark.parametrize(
    ("taken", "at"),
    [
        ([], 0xF0000),
        ([(0x100000, 0x1000)], 0xF0000),
        ([(0xEFF00, 0x203)], 0xF0110),
        ([(0xF0008, 8), (0xF0010, 0x90)], 0xF00A0),
        ([(0xF0000, 0xFF00)], 0xFFF00),
        ([(0xF0000, 0x10000)], None),
        ([(0xA0000, 0x400000)], None),
    ],
)
def test_it_is_put_where_nothing_is(taken: list[tuple[int, int]], at: int | None) -> None:
    memory = Memory()
    assert place_mp_tables(record(), memory, taken, MEMORY_BYTES) == at
    used = [i for i, byte in enumerate(memory.data) if byte]
    assert (used[0] if used else None) == at
    assert not used or used[-1] <= LAST
    assert bool(find(bytes(memory.data))) == (at is not None)


def test_a_machine_that_ends_below_has_no_room() -> None:
    memory = Memory()
    assert place_mp_tables(record(), memory, [], 0xF0000) is None
    assert not any(memory.data)
