"""The checkers of lesson 14: right answers written another way pass, typical mistakes are shown. Outside judge of
where a byte lies: debugvmfs."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.tools import require_tool
from vilab.course import checkers_shared as shared
from vilab.course.feedback import Feedback, WrongAnswer
from vilab.storage.vmfs.layout import MIB
from vilab.storage.vmfs.mkfs import OVERHEAD_BYTES

LIVE = 0xABCDEF02


def wrong(check: Callable[..., Feedback], *arguments: Any) -> Feedback:
    with pytest.raises(WrongAnswer) as caught:
        check(*arguments)
    return caught.value.feedback


def slots(lock: bytes, looks: Sequence[tuple[int, bytes]]) -> tuple[int, bytes, list[tuple[int, int, int, int, bytes]]]:
    """What the sectors say, with struct: (seq, owner, [(second, magic, seq, stamp, host)])."""
    (hb_pos, hb_seq) = struct.unpack_from("<QQ", lock, 0x0C)
    rows = []
    for second, region in looks:
        magic, _, seq, stamp, host = struct.unpack_from("<IQQQ16s", region, hb_pos - 0x300000)
        rows.append((second, magic, seq, stamp, host))
    return hb_seq, lock[0x28:0x38], rows


def verdict(lock: bytes, looks: Sequence[tuple[int, bytes]]) -> tuple[str, int]:
    if not struct.unpack_from("<I", lock, 0x24)[0]:
        return ("free", 0)
    seq, owner, rows = slots(lock, looks)
    events = [("stale", second) for second, magic, s, _, host in rows if (magic, s, host) != (LIVE, seq, owner)]
    events += [("in use", row[0]) for row in rows if row[3] != rows[0][3] and ("stale", row[0]) not in events]
    events += [("break", second) for second, *_ in rows if second >= 16]
    return min(events, key=lambda event: event[1])


def test_whose_lock_it_is() -> None:
    assert shared.check_verdict(verdict, (1, 2)).right


def test_every_decision_there_is_comes_up() -> None:
    found = {shared.case(kind, 1).what for kind in shared.KINDS}
    assert found == {"free", "stale", "in use", "break"}


def no_seq(lock: bytes, looks: Sequence[tuple[int, bytes]]) -> tuple[str, int]:
    """The seq is not looked at: a host that has come back is taken for the owner."""
    _, _, rows = slots(lock, looks)
    faked = bytearray(lock)
    struct.pack_into("<Q", faked, 0x14, rows[0][2])
    return verdict(bytes(faked), looks)


def no_lock_word(lock: bytes, looks: Sequence[tuple[int, bytes]]) -> tuple[str, int]:
    """What a free lock says of its last owner is believed."""
    faked = bytearray(lock)
    struct.pack_into("<I", faked, 0x24, 1)
    return verdict(bytes(faked), looks)


def impatient(lock: bytes, looks: Sequence[tuple[int, bytes]]) -> tuple[str, int]:
    what, second = verdict(lock, looks)
    return ("break", 3) if second > 3 else (what, second)


@pytest.mark.parametrize("mistake", [no_seq, no_lock_word, impatient, lambda *_: ("break", 16), lambda *_: None])
def test_mistakes_about_locks_are_shown(mistake: Callable[..., Any]) -> None:
    feedback = wrong(shared.check_verdict, mistake)
    assert "decided" in feedback.sentence or "two things are wanted" in feedback.sentence


def test_the_counter_example_is_the_lock_and_its_slot() -> None:
    feedback = wrong(shared.check_verdict, lambda *_: ("free", 0))
    assert feedback.trace[0].split() == ["state", "seq", "stamp", "host"]
    assert feedback.trace[1].startswith("lock, slot ")
    assert "taken" in feedback.trace[1]


def where(
    inode: bytes, offset: int, pointer_block: Callable[[int], bytes], sub_block: Callable[[int], int]
) -> int | None:
    (unit,) = struct.unpack_from("<Q", inode, 0x21C)
    (kind,) = struct.unpack_from("<I", inode, 0x244)
    entries = struct.unpack_from("<256I", inode, 0x400)
    n = offset // unit
    if kind == 3:
        outer = entries[n >> 10]
        block = struct.unpack("<1024I", pointer_block(outer))[n & 1023] if outer else 0
    else:
        block = entries[n]
    if block == 0:
        return None
    begin = sub_block(block) if kind == 2 else (block >> 6) * unit
    return begin + offset % unit


def test_where_a_byte_lies() -> None:
    assert shared.check_where(where, ((1, 1), (2, 3), (8, 5))).right


def test_at_its_place_there_is_what_the_host_reads() -> None:
    given = shared.files(2, 3)
    kinds = set()
    for place in given.places:
        if place.pos is None:
            assert place.data == bytes(16)
        else:
            raw = given.disk.read(OVERHEAD_BYTES + place.pos // 512 * 512, 512)[place.pos % 512 :][:16]
            assert raw == place.data
            kinds.add(place.path)
    assert len(kinds) == 3
    assert any(place.pos is None for place in given.places)


@pytest.mark.interop
def test_places_are_those_that_debugvmfs_finds(tmp_path: Path) -> None:
    debugvmfs = require_tool("debugvmfs", "the Debian package vmfs-tools")
    given = shared.files(1, 1)
    image = given.disk.save(tmp_path / "volume.img")
    for place in given.places:
        if place.path == "/vm.vmx":
            continue
        command = [debugvmfs, str(image), "get_file_block", place.path, f"{place.offset:x}"]
        block = int(subprocess.run(command, capture_output=True, check=True, text=True).stdout, 16)
        assert place.pos == ((block >> 6) * MIB + place.offset % MIB if block else None)


def always_kind_1(inode: bytes, offset: int, *_: object) -> int:
    (block,) = struct.unpack_from("<I", inode, 0x400 + offset // MIB % 256 * 4)
    return block // 64 * MIB + offset % MIB


@pytest.mark.parametrize("mistake", [
    always_kind_1,
    lambda *given: where(*given) or 0,
    lambda inode, offset, pointer, sub: where(inode, offset, pointer, lambda _: 0),
    lambda *_: "there",
])  # fmt: skip
def test_mistakes_about_places_are_shown(mistake: Callable[..., Any]) -> None:
    feedback = wrong(shared.check_where, mistake)
    assert feedback.sentence


def test_a_pointer_block_that_is_not_of_the_file_is_named() -> None:
    feedback = wrong(shared.check_where, lambda inode, offset, pointer, sub: pointer(0x1234))
    assert "pointer_block(0x1234)" in feedback.sentence
