"""Instructions that a monitor carries out, judged by the bare processor, and by the manual where that is wrong."""

from __future__ import annotations

import pytest

from tests.vmm.images import MEMORY_BYTES, code_image
from vilab.events import AddressSpaceSwitched, EventLog
from vilab.vmm.vm import VirtualMachine

HELPED = ("trap", "bt", "svm")
IDT = 0x3000
FAULT = 0xE0
"""A handler answers with this plus its vector."""


def handled(code: str, engine: str, handlers: dict[int, str] | None = None, log: EventLog | None = None) -> int:
    """EAX at the end of a guest whose exceptions end it too."""
    code_of = {n: f"b8{FAULT + n:02x}000000 bc00000900 c3" for n in (0, 1, 3, 6, 8, 10, 11, 12, 13, 14)}
    code_of |= handlers or {}
    table, more = bytearray(0x800), []
    for vector, source in code_of.items():
        at = 0x100400 + 32 * vector
        table[vector * 8 : vector * 8 + 8] = (at & 0xFFFF | 8 << 16).to_bytes(4, "little") + (
            at & 0xFFFF0000 | 0x8E00
        ).to_bytes(4, "little")
        more.append((at, bytes.fromhex(source)))
    more += [(IDT, bytes(table)), (0x2800, (0x7FF).to_bytes(2, "little") + IDT.to_bytes(4, "little"))]
    image = code_image("0f011d00280000" + code, more=tuple(more))
    vm = VirtualMachine(image, engine, MEMORY_BYTES, log=log)
    ended = vm.engine.run(until_ns=100_000_000)
    assert ended is not None
    assert ended.reason == "returned", ended.sentence
    return vm.engine.vcpu.gpr[0] & 0xFFFFFFFF


CASES = {
    "DR6 keeps its ones": "31c0 0f23f0 0f21f0 c3",
    "DR7 keeps its one": "31c0 0f23f8 0f21f8 c3",
    "DR5 is DR7": "b855000000 0f23e8 31c0 0f21f8 c3",
    "CR4.DE takes DR4 away": "0f20e0 0c08 0f22e0 0f21e0 c3",
    "single step sets DR6.BS": "9c 58 0d00010000 50 9d 90 c3",
    "no RDTSCP": "b801000000 0f01f9 c3",
    "no CR1": "0f20c8 c3",
    "LMSW sets, and cannot clear PE": "b80a000000 0f01f0 0f20c0 c3",
    "no null SS": "31c0 8ed0 c3",
    "no counters": "31c9 0f33 c3",
}
STEP_HANDLER = {1: "0f21f0 bc00000900 c3"}


@pytest.mark.parametrize("engine", HELPED)
@pytest.mark.parametrize("code", CASES.values(), ids=CASES.keys())
def test_as_the_bare_processor(code: str, engine: str):
    assert handled(code, engine, STEP_HANDLER) == handled(code, "bare", STEP_HANDLER)


def test_paging_without_protected_mode_is_a_general_protection_fault():
    assert handled("b800000080 0f22c0 c3", "bt") == FAULT + 13


@pytest.mark.parametrize("engine", ["trap", "bt"])
@pytest.mark.parametrize(("code", "switches"), [("0f06", 0), ("0f20d8 0f22d8", 1), ("0f20e0 0f22e0", 0)])
def test_only_loading_cr3_switches_the_address_space(engine: str, code: str, switches: int):
    log = EventLog(keep=True)
    handled(f"{code} 31c0 c3", engine, log=log)
    assert sum(event.at_ns > 0 for event in log.of(AddressSpaceSwitched)) == switches
