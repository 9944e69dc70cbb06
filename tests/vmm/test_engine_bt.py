"""Corner cases of binary translation, each as a small program that must end as on the bare processor.

The world is that of ``vilab/vmm/differential_guest.py``: exceptions are recorded, and execution goes on at the slot
behind; here a program is one slot, so after a fault it is at its end (CLI, HLT).
"""

from __future__ import annotations

import struct
from functools import cache

import pytest

from vilab.vmm import differential_guest as g
from vilab.vmm.differential import BT_OPTIONS, Case, Machine, Outcome, differences, prepare

ROOMY, SMALL, FLUSH = range(3)
EXIT = "cd80"
ON, OFF = 1 << 9, 0


@cache
def machine(engine: str, option: int) -> Machine:
    return Machine(engine, BT_OPTIONS[option] if engine == "bt" else {})


def run(
    engine: str, code: str, user: str = "", option: int = ROOMY, limit: int = 2000, interrupt_at: int | None = None,
    cr0: int = 0x80010011, eflags: int = 2,
) -> Outcome:  # fmt: skip
    """``code`` at 0xc000 in ring 0, ``user`` at 0x10000; halts behind ``code``."""
    _, world, state = prepare(Case(((0, 0),), ()))
    kernel, outside = bytes.fromhex(code) + b"\xfa\xf4", bytes.fromhex(user) + bytes.fromhex(EXIT)
    memory = bytearray(world)
    memory[g.KERNEL_CODE : g.KERNEL_CODE + g.CODE_BYTES] = kernel.ljust(g.CODE_BYTES, b"\xf4")
    memory[g.USER_CODE : g.USER_CODE + len(outside)] = outside
    memory[g.KERNEL_RECOVERY : g.KERNEL_RECOVERY + 0x4000] = g.recovery_table([len(kernel) - 2])
    memory[g.USER_RECOVERY : g.USER_RECOVERY + 0x4000] = g.recovery_table([len(outside) - 2])
    memory[g.KRESUME : g.KRESUME + 4] = (g.KERNEL_CODE + len(kernel) - 2).to_bytes(4, "little")
    state.eip, state.cr0, state.eflags = g.KERNEL_CODE, cr0, eflags
    it = machine(engine, option if engine == "bt" else 0)
    it.load(bytes(memory), state)
    if interrupt_at is None:
        return it.outcome(it.run_to(limit))
    reason = it.run_to(interrupt_at)
    if reason == "limit":
        it.interrupt()
        reason = it.run_to(limit)
    return it.outcome(reason)


def same(code: str, user: str = "", option: int = ROOMY, **how: int) -> Outcome:
    """Runs under both, compares everything, and gives the outcome back."""
    bare, bt = run("bare", code, user, **how), run("bt", code, user, option, **how)
    assert differences(bare, bt) == []
    return bt


def recorded(outcome: Outcome) -> list[tuple[int, int, int]]:
    """(vector, EIP, EFLAGS) of each event."""
    count = (int.from_bytes(outcome.memory[g.LOG_NEXT : g.LOG_NEXT + 4], "little") - g.LOG) // g.RECORD_BYTES
    words = [struct.unpack_from("<8I", outcome.memory, g.LOG + g.RECORD_BYTES * i) for i in range(count)]
    return [(vector, eip, eflags) for vector, _, eip, _, eflags, *_ in words]


def ring_3(flags: int = 2, eip: int = g.USER_CODE) -> str:
    """IRET to the user program."""
    frame = (g.USER_DS, g.USER_STACK, flags, g.USER_CS, eip)
    return b"".join(b"\x68" + word.to_bytes(4, "little") for word in frame).hex() + "cf"


def ring_1() -> str:
    """IRET to what stands behind, in ring 1 with IOPL 3."""
    frame = (g.RING1_DS, g.KERNEL_STACK - 0x400, 0x3002, g.RING1_CS)
    code = b"".join(b"\x68" + word.to_bytes(4, "little") for word in frame)
    return (code + b"\xe8\0\0\0\0\x83\x04\x24\x05\xcf").hex()  # call next; add [esp], 5; iret


# Single steps --------------------------------------------------------------------------------------------------------

SET_TF = "9c 804c240101 9d"


def test_the_trap_flag_counts_the_guests_instructions():
    events = recorded(same(SET_TF + "40 0fa2 0e 58 fa 9c 58 cd81 90"))
    assert [(vector, eip - g.KERNEL_CODE) for vector, eip, _ in events][:8] == [
        (1, 8), (1, 10), (1, 11), (1, 12), (1, 13), (1, 14), (1, 15), (0x81, 17)
    ]  # fmt: skip


def test_a_single_step_trap_comes_before_the_fetch_of_the_next_instruction():
    events = recorded(same(SET_TF + "bae0ffffff ffd2"))
    places = [(vector, eip) for vector, eip, _ in events]
    assert places.index((1, 0xFFFFFFE0)) + 1 == places.index((14, 0xFFFFFFE0))


def test_a_repeated_instruction_traps_after_each_round():
    events = recorded(same("b903000000 be00400100 bf00410100" + SET_TF + "f3a4 90"))
    rep = g.KERNEL_CODE + 15 + 7
    assert [eip for _, eip, _ in events] == [rep, rep, rep + 2, rep + 3, rep + 4]


def test_single_steps_in_ring_3_go_on_over_what_the_monitor_does():
    same(ring_3(0x102), "90 9a000000007300 0fa2 0f0b 90")


def test_a_single_step_over_a_store_across_two_pages_of_code_traps_once():
    # A function at 0xd010 is called, so that both pages are traced; then DEC dword [0xcffe].
    code = bytes.fromhex("e80b100000" + SET_TF + "ff0dfecf0000 90 fa f4").ljust(0x1010, b"\x90") + b"\xc3"
    events = recorded(same(code.hex()))
    assert [(vector, eip - g.KERNEL_CODE) for vector, eip, _ in events] == [(1, 18), (1, 19), (1, 20)]


# Interrupts ----------------------------------------------------------------------------------------------------------


def irq(outcome: Outcome) -> int:
    """Where the interrupt was taken, counted from the start of the program."""
    (eip,) = [eip for vector, eip, _ in recorded(outcome) if vector == g.VECTOR_BASE + g.IRQ]
    return eip - g.KERNEL_CODE


@pytest.mark.parametrize(
    ("code", "at"),
    [
        ("fb 40 41 42", 2), ("fb fb 40 41", 2), ("fb 0fa2 41", 3), ("fb 7400 41", 3), ("fb e800000000 58", 6),
        ("40404040 40404040 404040 fb 41 42", 13), ("6802020000 9d 40 41", 6),
        ("6802320000 9d fb 40 41", 6), ("6802300000 9d fb 40 41", 8), ("fb 9c 9d 41", 2),
    ],
)  # fmt: skip
def test_an_interrupt_is_taken_behind_the_shadow_of_sti(code: str, at: int):
    assert irq(same(code, interrupt_at=1)) == at


def test_a_load_of_ss_casts_a_shadow_of_its_own_but_not_within_another():
    # The bare processor steps over MOV SS and the instruction behind it as one, so it is no judge here.
    assert irq(run("bt", "b810000000 fb 8ed0 41 42", interrupt_at=1)) == 8
    assert irq(run("bt", "b810000000 6802020000 fa 9d 8ed0 41 42", interrupt_at=1)) == 12
    assert irq(run("bt", "b810000000 8ed0 fb 41 42 43", interrupt_at=1)) == 8


def test_a_fault_in_the_shadow_of_sti_ends_it():
    # The page fault's gate is a trap gate, so the interrupt is taken at the first instruction of its handler.
    events = recorded(same("fb a100800100 90", interrupt_at=1))
    handler = g.HANDLERS + 14 * g.STUB_BYTES
    assert [(vector, eip) for vector, eip, _ in events][:1] == [(g.VECTOR_BASE + g.IRQ, handler)]
    outcome = same(ring_1() + "fb a100800100 90", interrupt_at=7)
    assert (g.VECTOR_BASE + g.IRQ, handler) in [(vector, eip) for vector, eip, _ in recorded(outcome)]


def test_halting_in_the_shadow_of_sti_loses_no_interrupt():
    assert irq(same("90 fb f4 40 41", interrupt_at=1)) == 3


def test_an_interrupt_that_iret_lets_in_comes_before_the_next_fetch():
    # The bare processor fetches first.
    events = recorded(run("bt", "90" + ring_3(ON | 2, 0x12000), interrupt_at=1))
    assert [(vector, eip) for vector, eip, _ in events][:2] == [(g.VECTOR_BASE + g.IRQ, 0x12000), (14, 0x12000)]


# Code that changes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", [ROOMY, SMALL, FLUSH])
def test_a_store_changes_the_next_instruction_of_its_own_unit(option: int):
    # mov byte [next], 41h (inc ecx): what stands there is inc eax
    outcome = same("31c0 31c9 c6050bc0000041 40 90", option=option)
    assert (outcome.vcpu.gpr[0], outcome.vcpu.gpr[1]) == (0, 1)


@pytest.mark.parametrize("option", [ROOMY, SMALL, FLUSH])
def test_a_function_that_was_called_is_changed_and_called_again(option: int):
    outcome = same("eb02 40c3 31c0 e8f7ffffff c60502c0000048 e8ebffffff 90", option=option)
    assert outcome.vcpu.gpr[0] == 0


@pytest.mark.parametrize("option", [ROOMY, SMALL, FLUSH])
def test_code_is_changed_through_another_linear_address(option: int):
    outcome = same("eb02 40c3 31c0 e8f7ffffff c6050200030048 e8ebffffff 90", option=option)
    assert outcome.vcpu.gpr[0] == 0


@pytest.mark.parametrize("option", [ROOMY, FLUSH])
def test_a_store_across_from_a_code_page_into_a_page_that_was_not_there_yet(option: int):
    same("c705feff030012345678 c705fecf000012345678 90", option=option)


def test_a_fragment_shorter_than_the_exit_it_stands_in_is_dropped():
    # Twelve instructions; a unit of one INT 81h, which takes the place of their exit; INC EAX behind that. In three
    # rounds, and the INT is made another one in the first.
    body = bytes.fromhex("31f6" + "90" * 12 + "cd81 40 c6050fc0000090 46 83fe03 75")
    back = bytes((2 - len(body) - 1 & 0xFF,))
    outcome = same((body + back).hex())
    assert [vector for vector, _, _ in recorded(outcome)] == [0x81, 0x90, 0x90]


def test_a_callout_that_ends_a_unit_does_not_run_into_its_neighbour():
    # INTO that is not taken goes on behind itself, whatever stands behind its fragment.
    outcome = same("31c0 ce 40 eb00 ce 40 cd81 ce 40 90")
    assert outcome.vcpu.gpr[0] == 3


def test_an_emulated_store_into_translated_code_is_noticed():
    same("eb07 b844444444 c390 e8f4ffffff 0f010504c00000 e8e8ffffff 90")


# Memory --------------------------------------------------------------------------------------------------------------


def test_popf_from_a_page_that_cannot_be_written():
    page = g.empty_world()[g.READ_USER : g.READ_USER + 0x1000]
    plain = next(at for at in range(0, 0x1000, 4) if not page[at + 1] & 0x71)  # neither TF nor IOPL nor NT
    outcome = same("bc" + (g.READ_USER + plain).to_bytes(4, "little").hex() + "9d bc00980000 90")
    assert recorded(outcome) == []


@pytest.mark.parametrize(
    "code", ["9c", "9d", "50", "c3", "e800000000", "ff1504400100", "0e", "06", "60", "ff15f07f0100"]
)
@pytest.mark.parametrize("esp", [0x14000, 0x18002, 0x18000, 0x17FFE, 0x16004])
def test_a_fault_inside_a_template_leaves_the_guests_registers_alone(code: str, esp: int):
    outcome = same("b978563412 bc" + esp.to_bytes(4, "little").hex() + code + "bc00980000 90")
    if recorded(outcome):
        assert outcome.vcpu.gpr[1] == 0x12345678


@pytest.mark.parametrize("code", ["a1feffffff 90", "c705feffffff00000000 90"])
def test_an_access_across_the_end_of_the_address_space(code: str):
    same(code, limit=100)
    same(ring_3(), code, limit=100)


def test_operands_in_a_code_segment_with_a_base():
    outcome = same("ea07b000003800 2ea100300100 2e8b1d04300100 ea18c000000800 90")
    assert outcome.vcpu.gpr[0] == int.from_bytes(outcome.memory[0x14000:0x14004], "little")


def test_sse_is_undefined_until_the_guest_says_it_saves_those_registers():
    events = recorded(same("0f57c0 90"))
    assert [vector for vector, _, _ in events] == [6]
    assert recorded(same("0f20e0 0d00020000 0f22e0 0f57c0 90")) == []


def test_a_vex_encoded_jump_stays_out_of_the_cache():
    """A real processor without AVX refuses it; the one underneath would jump. In the cache that would lead anywhere."""
    events = recorded(run("bt", "c5f98d56a50000 90"))
    assert [(vector, eip) for vector, eip, _ in events] == [(6, g.KERNEL_CODE)]


# Rings and segments --------------------------------------------------------------------------------------------------


def test_ring_3_changes_its_code_segment_by_itself():
    events = recorded(same(ring_3(), "9a070001006800 0f0b 90"))
    assert [vector for vector, _, _ in events] == [6, 0x80]


def test_null_segments_on_the_way_out():
    same("b803000000 8ec0 8ee0" + ring_3(), "90")


def test_a_jump_to_nowhere_is_an_undefined_opcode():
    events = recorded(same("b8000000f0 83e810 ffe0", cr0=0x11))
    assert [(vector, eip) for vector, eip, _ in events] == [(6, 0xEFFFFFF0)]


def test_a_jump_to_address_0_is_a_page_fault():
    events = recorded(same("31c0 ffe0"))
    assert [(vector, eip) for vector, eip, _ in events] == [(14, 0)]


def test_iret_with_nt_and_no_task_to_return_to():
    events = recorded(same("6802400000 9d 6802000000 0e 6800c10000 cf"))
    assert [vector for vector, _, _ in events] == [10]


def test_leaving_protected_mode_goes_on_in_real_mode():
    outcome = same("0f20c0 83e0fe 25ffffff7f 0f22c0 41 8cd2", cr0=0x11)
    assert not outcome.vcpu.cr0 & 1
