"""A kernel that needs MP tables, local APIC and I/O APIC: the same words from every engine, and from QEMU's PC."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.guests.qemu import run as run_in_qemu
from tests.vmm.images import bundled
from vilab.events import Event, EventLog, InterruptDelivered, MmioWritten, encode
from vilab.guests.bundled import PREBUILT
from vilab.vmm.vm import QuietConsole, VirtualMachine

SAID = """\
processors: 1
local APIC at fee00000, I/O APIC at fec00000
local APIC number 0
version 20
pins of the I/O APIC: 24
IRQ 0 goes to pin 2
IRQ 4 goes to pin 4
the local APIC's timer has come
the PIT has come through the I/O APIC
sent to itself, held back: 0
let through: 1
this line was sent by interrupts
spurious: 0
"""


@pytest.mark.parametrize("engine", ["bare", "trap", "bt", "svm"])
def test_every_engine_gives_the_kernel_its_interrupts(engine: str) -> None:
    vm, console = bundled("apic", engine)
    ended = vm.engine.run()
    assert ended is not None
    assert (ended.reason, console.output.decode()) == ("powered_off", SAID)


@pytest.mark.interop
def test_qemu_gives_it_the_same() -> None:
    assert run_in_qemu(PREBUILT / "apic.elf") == SAID


LONG_WAIT_NS = 1_000_000
STEPPED_BEFORE_NS = 100_000


def first_events(vm: VirtualMachine, count: int) -> list[Event]:
    engine = vm.engine
    while engine.ended is None and len(vm.log.events) < count:
        engine.run(until_ns=engine.now_ns() + 100_000)
    return vm.log.events[:count]


def stepped_events(vm: VirtualMachine, count: int, expected: list[Event]) -> list[Event]:
    """With a step's own events left out.

    The kernel waits for ticks in a loop, 10 ms each time: the first wait is stepped from its beginning to its end,
    of the others their beginning and their end.
    """
    engine = vm.engine
    waits = [(a.at_ns, b.at_ns) for a, b in pairwise(expected) if b.at_ns - a.at_ns > LONG_WAIT_NS]
    runs = [(a + STEPPED_BEFORE_NS, b - STEPPED_BEFORE_NS) for a, b in waits[1:]]
    while engine.ended is None and len(vm.log.events) < count:
        if runs and engine.now_ns() >= runs[0][0]:
            engine.run(until_ns=runs.pop(0)[1])
        else:
            engine.step_instruction()
    return vm.log.events[:count]


@pytest.mark.parametrize("engine", ["bare", "trap", "bt", "svm"])
def test_a_stepped_run_logs_the_same_accesses_at_the_same_times(engine: str) -> None:
    """Until after the second interrupt of the local APIC's timer."""
    vm, _ = bundled("apic", engine, log=EventLog(keep=True))
    expected = first_events(vm, 2000)
    vm.close()
    stepped, _ = bundled("apic", engine, log=EventLog(keep=True))
    found = stepped_events(stepped, 2000, expected)
    stepped.close()
    assert any(isinstance(event, InterruptDelivered) for event in expected)
    assert any(isinstance(event, MmioWritten) for event in expected)
    assert [encode(event) for event in found] == [encode(event) for event in expected]


@pytest.mark.parametrize("engine", ["bare", "bt", "svm"])
@pytest.mark.parametrize("at_ns", [30_000_000, 150_000_000])
def test_saved_between_two_ticks_it_goes_on_elsewhere(engine: str, at_ns: int) -> None:
    first, console = bundled("apic", engine)
    first.engine.run(until_ns=at_ns)
    state = first.save_state()
    said = bytes(console.output)
    second, other = bundled("apic", engine)
    second.load_state(state)
    ended = second.engine.run()
    assert isinstance(other, QuietConsole)
    assert ended is not None
    assert ended.reason == "powered_off"
    assert (said + other.output).decode() == SAID
