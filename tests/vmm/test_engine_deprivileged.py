"""Without a VMM nobody enters the guest's own handlers, whichever ring asks."""

from __future__ import annotations

import pytest

from tests.vmm.images import machine
from vilab.course.runs import RING_DEMO, run_typed
from vilab.events import EventLog, ExceptionDelivered, TrapTaken


def test_a_system_call_of_a_program_is_the_end():
    run = run_typed(RING_DEMO, "deprivileged")
    assert run.total == 1
    assert "int 0x80" in run.ending
    assert "trapped in ring 3" in run.ending
    assert not [e for record in run.records for e in record.events if isinstance(e, ExceptionDelivered)]


@pytest.mark.parametrize("code", ["cd80", "0f0b", "31c9 f7f1", "fa", "f4"])
def test_whatever_traps_is_the_end(code: str):
    log = EventLog(keep=True)
    ended = machine(code, "deprivileged", log=log).engine.run()
    assert ended is not None
    assert ended.reason == "trapped"
    assert not log.of(ExceptionDelivered)
    assert all(not trap.handled for trap in log.of(TrapTaken))
