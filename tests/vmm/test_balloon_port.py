"""A guest's own IN at the balloon's port, under each engine: who answers, and what happens to its pages."""

from __future__ import annotations

import pytest

from tests.vmm.images import MEMORY_BYTES, code_image, machine
from vilab.devices.balloon_port import BalloonCalled
from vilab.errors import GuestStopped
from vilab.events import EventLog
from vilab.memory.balloon import MOST_LIES
from vilab.memory.page_state import PageState
from vilab.vmm.bench_balloon import OneGuest
from vilab.vmm.vm import VirtualMachine

WITH_VMM = ("trap", "bt", "svm")
RESULTS = 0x500
MAGIC = 0x456C6D6F
NOBODY = 0xFFFFFFFF


def code(*calls: tuple[int, int, int], magic: int = MAGIC, port: int = 0x5670, what: str = "ed") -> str:
    """Each call (ECX, EBX, ESI); its EAX, EBX, ECX go to ``RESULTS``, 16 bytes a call."""
    text = ""
    for number, (ecx, ebx, esi) in enumerate(calls):
        for opcode, value in (("b8", magic), ("bb", ebx), ("b9", ecx), ("ba", port), ("be", esi)):
            text += opcode + value.to_bytes(4, "little").hex()
        text += what
        at = [(RESULTS + 16 * number + 4 * i).to_bytes(4, "little").hex() for i in range(3)]
        text += f"a3{at[0]} 891d{at[1]} 890d{at[2]}"
    return text + "c3"


def hosted(
    program: str, engine: str, log: EventLog | None = None, more: tuple[tuple[int, bytes], ...] = ()
) -> tuple[VirtualMachine, OneGuest]:
    host = OneGuest(MEMORY_BYTES, log=log)
    return VirtualMachine(code_image(program, more=more), engine, MEMORY_BYTES, log=log, grant=host.grant), host


def answers(vm: VirtualMachine, calls: int) -> list[tuple[int, ...]]:
    return [tuple(vm.pmap.read_u32(RESULTS + 16 * n + 4 * i) for i in range(3)) for n in range(calls)]


@pytest.mark.parametrize("engine", ["bare", *WITH_VMM])
def test_where_nobody_manages_memory_nobody_answers(engine: str):
    vm = machine(code((0, 0x1E, 0)), engine)
    assert vm.engine.run() is not None
    assert answers(vm, 1) == [(NOBODY, 0x1E, 0)]


@pytest.mark.parametrize("engine", WITH_VMM)
def test_without_the_magic_number_or_32_bits_nobody_answers(engine: str):
    for options in ({"magic": MAGIC + 1}, {"port": 0x5671}):
        vm, host = hosted(code((0, 0x1E, 0), **options), engine)  # type: ignore[arg-type]
        assert vm.engine.run() is not None
        assert answers(vm, 1) == [(NOBODY, 0x1E, 0)]
    vm, host = hosted(code((0, 0x1E, 0), what="66ed"), engine)
    assert vm.engine.run() is not None
    assert answers(vm, 1) == [(MAGIC | 0xFFFF, 0x1E, 0)]
    assert host.balloon.state.calls == 0


@pytest.mark.parametrize("logged", [False, True])
@pytest.mark.parametrize("engine", WITH_VMM)
def test_a_driver_starts_and_gives_pages_one_by_one_and_in_a_batch(engine: str, logged: bool):
    log = EventLog(keep=True) if logged else None
    batch = b"".join((page << 12).to_bytes(8, "little") for page in (0x200, 0x201, 0x200))
    calls = ((0, 0x1E, 0), (4, 1, 0), (1, 900, 0), (2, 0x180, 0), (6, 0x2A0, 3), (3, 0x180, 0), (99, 1, 0))
    vm, host = hosted(code(*calls), engine, log, more=((0x2A0000, batch), (0x201000, b"old")))
    host.balloon.set_target(100)
    free = host.frames.free_frames
    assert vm.engine.run() is not None
    assert answers(vm, len(calls)) == [
        (0x3000000, 100, 6), (0, 1, 4), (0, 100, 1), (0, 100, 2), (0, 100, 6), (0, 100, 3), (1, 1, 99),
    ]  # fmt: skip
    assert [vm.pmap.read_u32(0x2A0000 + 8 * i) for i in range(3)] == [0x200000, 0x201000, 0x200003]
    assert [ppn for ppn in range(host.pmap.pages) if host.pmap.state_of(ppn) is PageState.BALLOONED] == [0x200, 0x201]
    assert host.frames.free_frames >= free  # the old page's frame is back; two were needed to run
    assert (host.balloon.state.guest_id, host.balloon.state.guest_pages) == (1, 900)
    if log is not None:
        assert [event.command for event in log.of(BalloonCalled)] == [call[0] for call in calls]
        assert log.of(BalloonCalled)[3].describe() == "LOCK 180 -> OK, target 100"


@pytest.mark.parametrize("engine", WITH_VMM)
def test_a_guest_that_touches_what_it_gave_gets_zeros_and_has_to_start_again(engine: str):
    touch = "8b1d 00102000 891d f0050000"  # mov ebx, [0x201000]; mov [0x5f0], ebx
    program = code((0, 6, 0), (2, 0x201, 0))[:-2] + touch + code((1, 0, 0))
    vm, host = hosted(program, engine, more=((0x201000, b"old!"), (0x5F0, b"????")))
    host.balloon.set_target(100)
    assert vm.engine.run() is not None
    assert vm.pmap.read_u32(0x5F0) == 0
    assert answers(vm, 1) == [(7, 100, 1)]
    assert host.balloon.state.popped == 1
    assert not host.balloon.active


@pytest.mark.parametrize("engine", WITH_VMM)
def test_a_guest_that_gives_away_its_own_code_or_stack_only_hurts_itself(engine: str):
    """Zeros are code too, so the guest may go on; what counts is that pages and frames agree."""
    for page in (0x100, 0x90, 0x8F):
        vm, host = hosted(code((0, 6, 0), (2, page, 0), (1, 0, 0)), engine)
        host.balloon.set_target(100)
        vm.engine.run(vm.engine.now_ns() + 50_000)
        assert host.balloon.state.locked == 1
        inside = host.pmap.count(PageState.BALLOONED)
        assert inside == host.balloon.locked_pages
        owned = sum(1 for ppn in range(host.pmap.pages) if host.pmap.frame(ppn) is not None)
        assert owned == host.pmap.count(PageState.PRIVATE)


@pytest.mark.parametrize("engine", WITH_VMM)
def test_a_driver_that_keeps_lying_stops_its_machine(engine: str):
    start, lie = code((0, 6, 0))[:-2], code((2, 0x12345, 0))[:-2]
    loop = lie + "eb" + (256 - len(bytes.fromhex(lie)) - 2).to_bytes(1, "little").hex()
    vm, host = hosted(start + loop, engine)
    with pytest.raises(GuestStopped, match="it locks page 0x12345, beyond memory"):
        vm.engine.run(vm.engine.now_ns() + 2_000_000)
    assert host.balloon.state.lies == MOST_LIES + 1
