"""What a guest sees of its monitor: CPUID, backdoor, MSRs. From each ring and under each engine."""

from __future__ import annotations

import itertools

import pytest

from tests.vmm.images import ENTRY, MEMORY_BYTES, code_image, machine, timer_image
from vilab.devices.backdoor import BackdoorCalled
from vilab.events import EventLog, ExceptionDelivered
from vilab.vmm import cpuid as c
from vilab.vmm.msrs import APIC_BASE
from vilab.vmm.vm import VirtualMachine

WITH_VMM = ("trap", "bt", "svm")
RESULTS = 0x500
STORE_ALL = "a300050000 891d04050000 890d08050000 89150c050000"
"""EAX EBX ECX EDX to 0x500."""


def words(vm: VirtualMachine) -> tuple[int, ...]:
    return tuple(vm.pmap.read_u32(RESULTS + 4 * i) for i in range(4))


def asked(engine: str, eax: int, ebx: int, ecx: int, edx: int, what: str, **options: object) -> VirtualMachine:
    """The four registers, an instruction, and what the registers are then."""
    code = "".join(
        f"{opcode}{value.to_bytes(4, 'little').hex()}"
        for opcode, value in (("b8", eax), ("bb", ebx), ("b9", ecx), ("ba", edx))
    )
    vm = machine(code + what + STORE_ALL + "c3", engine, **options)  # type: ignore[arg-type]
    assert vm.engine.run() is not None
    return vm


@pytest.mark.parametrize("engine", WITH_VMM)
@pytest.mark.parametrize("logged", [False, True])
def test_the_backdoor_answers_in_four_registers(engine: str, logged: bool) -> None:
    log = EventLog(keep=True) if logged else None
    vm = asked(engine, 0x564D5868, 0x1111, 10, 0x5658, "ed", log=log)
    assert words(vm) == (6, 0x564D5868, 2, 0x5658)
    vm = asked(engine, 0x564D5868, 0x1111, 45, 0x5658, "ed", log=log)
    assert words(vm) == (1_000_000_000, 0, 100_000_000, 0x5658)
    vm = asked(engine, 0x564D5868, 0x1111, 0x1234, 0x5658, "ed", log=log)
    assert words(vm) == (0xFFFFFFFF, 0x1111, 0x1234, 0x5658)
    if log is not None:
        assert [event.command for event in log.of(BackdoorCalled)] == [10, 45, 0x1234]


@pytest.mark.parametrize("engine", ["bare", *WITH_VMM])
def test_without_the_magic_number_or_32_bits_it_is_a_port_where_nobody_is(engine: str) -> None:
    assert words(asked(engine, 0x564D5869, 5, 10, 0x5658, "ed")) == (0xFFFFFFFF, 5, 10, 0x5658)
    assert words(asked(engine, 0x564D5868, 5, 10, 0x5658, "66ed")) == (0x564DFFFF, 5, 10, 0x5658)
    assert words(asked(engine, 0x564D5868, 5, 10, 0x5659, "ed")) == (0xFFFFFFFF, 5, 10, 0x5659)


def test_the_bare_machine_has_neither_backdoor_nor_hypervisor_leaves() -> None:
    assert words(asked("bare", 0x564D5868, 5, 10, 0x5658, "ed")) == (0xFFFFFFFF, 5, 10, 0x5658)
    assert words(asked("bare", 0x40000000, 5, 0, 0, "0fa2")) == (0, 0, 0, 0)
    assert not words(asked("bare", 1, 5, 0, 0, "0fa2"))[2] & c.HYPERVISOR


@pytest.mark.parametrize("engine", WITH_VMM)
def test_hypervisor_leaves(engine: str) -> None:
    eax, *name = words(asked(engine, 0x40000000, 0, 0, 0, "0fa2"))
    assert eax == 0x40000010
    assert b"".join(word.to_bytes(4, "little") for word in name) == b"VMwareVMware"
    assert words(asked(engine, 0x40000010, 0, 0, 0, "0fa2")) == (1_000_000, 100_000, 0, 0)
    assert words(asked(engine, 1, 0, 0, 0, "0fa2"))[2] == c.HYPERVISOR


@pytest.mark.parametrize("leaf", [0, 1, 2, 0x80000000, 0x80000001, 0x7FFFFFFF])
def test_the_virtual_cpu_is_the_same_under_every_engine(leaf: int) -> None:
    seen = {engine: list(words(asked(engine, leaf, 0, 0, 0, "0fa2"))) for engine in ("bare", *WITH_VMM)}
    for answer in seen.values():
        answer[2] &= ~c.HYPERVISOR
    assert len({tuple(answer) for answer in seen.values()}) == 1


# MSRs ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", WITH_VMM)
def test_the_apic_goes_away_with_its_msr_bit(engine: str) -> None:
    """RDMSR, WRMSR without bit 11, then CPUID."""
    vm = asked(engine, 0, 0, APIC_BASE, 0, "0f32 25fff7ffff 0f30 b801000000 0fa2")
    assert not words(vm)[3] & c.APIC
    assert words(asked(engine, 1, 0, 0, 0, "0fa2"))[3] & c.APIC
    assert not vm.lapic.enabled


GENERAL_PROTECTION = 13


@pytest.mark.parametrize("engine", WITH_VMM)
@pytest.mark.parametrize(
    "index", [0xC0010000, 0xC0010004, 0xC0010007, 0x186, 0xC1, 0xC0000080, 0x174, 0x277, 0xFFFFFFFF]
)
@pytest.mark.parametrize("how", ["0f32", "0f30"])
def test_an_msr_that_there_is_not_is_a_general_protection_fault(engine: str, index: int, how: str) -> None:
    """The handler's gate is the one for vector 13."""
    log = EventLog(keep=True)
    handler = 0x100400
    gate = (handler & 0xFFFF | 8 << 16).to_bytes(4, "little") + (handler & 0xFFFF0000 | 0x8E00).to_bytes(4, "little")
    table = bytes(GENERAL_PROTECTION * 8) + gate
    image = code_image(
        bytes.fromhex("0f011d00280000 b9" + index.to_bytes(4, "little").hex() + how),
        more=(
            (0x3000, table), (0x2800, (len(table) - 1).to_bytes(2, "little") + (0x3000).to_bytes(4, "little")),
            (handler, bytes.fromhex("83c410 c3")),
        ),
    )  # fmt: skip
    vm = VirtualMachine(image, engine, MEMORY_BYTES, log=log)
    ended = vm.engine.run()
    assert ended is not None
    assert ended.reason == "returned"
    (fault,) = log.of(ExceptionDelivered)
    assert (fault.vector, fault.error_code, fault.eip) == (GENERAL_PROTECTION, 0, ENTRY + 12)


# Registers in memory -------------------------------------------------------------------------------------------------

LOCAL_APIC_TIMER = (
    "c705f000e0fe ff010000"  # SVR: on
    "c7055003e0fe 00000100"  # LINT0: masked
    "c705e003e0fe 0b000000"  # divide by 1
    "c7052003e0fe 20000000"  # timer: once, vector 20
    "c7058003e0fe d0070000"  # 2000 counts, 20 us
)
END_OF_INTERRUPT = "50 31c0 a3b000e0fe 58"


@pytest.mark.parametrize("engine", ["bare", "trap", "bt", "svm"])
def test_the_local_apics_interrupt_comes_at_the_same_place_stepped_and_unstepped(engine: str) -> None:
    """ECX counts until the handler has set EBX."""
    code = LOCAL_APIC_TIMER + "31db 31c9 fb 41 8b153003e0fe 85db 74f5 89c8 c3"
    logs = []
    for stepped in (False, True):
        log = EventLog(keep=True)
        vm = VirtualMachine(timer_image(code, END_OF_INTERRUPT + "43 cf"), engine, MEMORY_BYTES, log=log)
        if stepped:
            while vm.engine.step_instruction():
                pass
        else:
            vm.engine.run()
        assert vm.engine.ended is not None
        assert vm.engine.ended.reason == "returned"
        logs.append([event for event in log.events if type(event).__name__ != "PoweredOn"])
        assert vm.engine.exits["interrupt"] == 1
        assert vm.engine.exits["mmio"] > 6
    assert logs[0] == logs[1]


@pytest.mark.parametrize("engine", ["bare", "trap", "bt", "svm"])
@pytest.mark.parametrize("paged", [False, True])
def test_an_access_says_where_and_when_it_was(engine: str, paged: bool) -> None:
    """Three loads in one block, 6 bytes each and a NOP between: virtual time tells them apart."""
    log = EventLog(keep=True)
    code = "90 8b0d3000e0fe 90 8b0d3000e0fe 90 8b0d3000e0fe c3"
    if paged:  # 4 MB pages, one to one
        directory = b"".join((page << 22 | 0x83).to_bytes(4, "little") for page in range(1024))
        image = code_image(bytes.fromhex("b800400000 0f22d8 b810000000 0f22e0 0f20c0 0d00000080 0f22c0" + code),
                           more=((0x4000, directory),))  # fmt: skip
    else:
        image = code_image(code)
    vm = VirtualMachine(image, engine, MEMORY_BYTES, log=log)
    vm.engine.run()
    assert vm.engine.ended is not None
    assert vm.engine.ended.reason == "returned"
    at = [event.at_ns for event in log.events if type(event).__name__ == "MmioRead"]
    assert [b - a for a, b in itertools.pairwise(at)] == [7, 7]


RING_3 = (
    "0f011500250000"  # lgdt [2500]
    "6a23 6800000800 6802000000 6a1b 6800061000"  # SS, ESP, EFLAGS with IOPL 0, CS, EIP
    "b823000000 8ed8 cf"
)
ASKS = "b868584d56 b90a000000 ba58560000 ed a300050000 891d04050000 f4"


@pytest.mark.parametrize("engine", ["bt", "svm"])
def test_ring_3_may_use_the_backdoor_whatever_iopl_says(engine: str) -> None:
    """HLT ends it: there is no handler for its #GP."""
    flat = (0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF, 0x00CFFB000000FFFF, 0x00CFF3000000FFFF)
    table = b"".join(entry.to_bytes(8, "little") for entry in flat)
    image = code_image(
        bytes.fromhex(RING_3),
        stop=False,
        more=(
            (0x2600, table),
            (0x2500, (len(table) - 1).to_bytes(2, "little") + (0x2600).to_bytes(4, "little")),
            (0x100600, bytes.fromhex(ASKS)),
        ),
    )
    vm = VirtualMachine(image, engine, MEMORY_BYTES)
    ended = vm.engine.run()
    assert ended is not None
    assert ended.reason == "triple_fault"
    assert words(vm)[:2] == (6, 0x564D5868)
