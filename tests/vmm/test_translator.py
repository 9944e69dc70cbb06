"""What becomes of each kind of instruction, judged by capstone's reading of the bytes that are emitted."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vilab.errors import GuestFault
from vilab.vmm import translator as translator_module
from vilab.vmm.translator import STUB, UNIT_INSTRUCTIONS, Mode, Translator
from vilab.vmm.unit import CALLOUT, CONTROL, IDENT, IN_CACHE, Callout, Unit
from vilab.x86.decode import Instruction, disassemble

EIP, AT = 0x1000, 0xF0400000
PLAIN = Mode(8, 0, True)


def translate(
    code: str, mode: Mode = PLAIN, eip: int = EIP, end: int = 0x3000
) -> tuple[Unit, bytes, dict[int, Callout]]:
    """``code`` at ``eip``; nothing is mapped from ``end`` on."""
    raw = bytes.fromhex(code)

    def fetch(linear: int, size_bytes: int) -> bytes:
        if linear + size_bytes > end:
            raise GuestFault(14, 0, max(linear, end))
        at = linear - eip - mode.cs_base
        return raw[at : at + size_bytes].ljust(size_bytes, b"\x90")

    stubs = iter(range(0xF0500000, 0xF0600000, 8))
    return Translator(fetch, lambda: next(stubs)).translate(eip, AT, mode)


def emitted(code: str, mode: Mode = PLAIN) -> list[Instruction]:
    """The translation of the first instruction."""
    unit, out, _ = translate(code, mode)
    _, _, _, at, size = unit.lines[0]
    return disassemble(out[at - AT : at - AT + size], at)


def test_straight_code_makes_units_of_twelve():
    unit, _, _ = translate("40" * 25)
    assert len(unit.lines) == UNIT_INSTRUCTIONS == 12
    assert unit.end_eip == EIP + 12
    assert [line[2] for line in unit.lines] == [IDENT] * 12


@pytest.mark.parametrize(
    "code", ["7400", "eb00", "e800000000", "c3", "ffe0", "ffd0", "cc", "cf", "0f0b", "ea000000000800"]
)
def test_control_flow_ends_a_unit(code: str):
    unit, _, _ = translate("40 90" + code + "41")
    assert len(unit.lines) == 3
    assert unit.lines[2][2] in (CONTROL, CALLOUT)


def test_a_call_pushes_the_guests_own_return_address():
    first, *_ = emitted("e800000000")
    assert first.text == "push 0x1005"


def test_popf_writes_nothing_to_the_guests_stack():
    code = emitted("9d")
    assert not [i for i in code if i.mnemonic.startswith("push")]
    stores = [i.operands for i in code if i.mnemonic in ("mov", "pop") and i.operands.split(",")[0].endswith("]")]
    assert stores
    assert all("[0xf0000" in operands for operands in stores)


def test_popf_has_a_way_out_to_the_monitor_for_tf_and_iopl():
    unit, _, callouts = translate("9d 90")
    ((at, callout),) = callouts.items()
    assert callout.popped
    assert not callout.ends
    assert at == unit.lines[1][3] - 1


def test_sti_and_the_instruction_in_its_shadow_stand_in_one_unit():
    unit, _, _ = translate("40" * 11 + "fb 90")
    assert len(unit.lines) == 11
    unit, _, _ = translate("40" * 10 + "fb 90")
    assert len(unit.lines) == 12
    assert unit.shadows == [unit.lines[11][3]]


def test_a_second_sti_casts_no_shadow():
    unit, _, _ = translate("fb fb 90")
    assert unit.shadows == [unit.lines[1][3]]


def test_a_load_of_ss_casts_a_shadow():
    unit, _, callouts = translate("8ed0 90")
    assert unit.lines[0][2] == CALLOUT
    assert unit.shadows == [unit.lines[1][3]]
    assert not callouts[AT].ends


def test_vex_encodings_are_not_copied():
    """The processor underneath would run ``c5 f9 8d rel32`` as a jump."""
    unit, _, callouts = translate("c5f98d56a50000 90")
    assert unit.lines[0][2] == CALLOUT
    assert callouts[AT].ends


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("2ea100300100", "mov eax, dword ptr ss:[0x14000]"),
        ("2e8b4304", "mov eax, dword ptr ss:[ebx + 0x1004]"),
        ("2e8b0c8d10000000", "mov ecx, dword ptr ss:[ecx*4 + 0x1010]"),
        ("2e8b442404", "mov eax, dword ptr ss:[esp + 0x1004]"),
        ("2ec70312345678", "mov dword ptr ss:[ebx + 0x1000], 0x78563412"),
    ],
)
def test_operands_in_a_code_segment_with_a_base_get_that_base(code: str, text: str):
    mode = Mode(0x38, 0x1000, True)
    unit, out, _ = translate(code, mode)
    assert unit.lines[0][2] == IN_CACHE
    first = disassemble(out, AT)[0]
    assert first.text.replace("ss:", "") == text.replace("ss:", "")
    assert first.segment_override == 2


def test_where_the_next_page_is_missing_the_unit_ends_before_it():
    unit, out, _ = translate("90" * 4, eip=0x1FFE, end=0x2000)
    assert len(unit.lines) == 2
    assert out.endswith(STUB)


def test_an_instruction_that_cannot_be_fetched_whole_faults_at_the_missing_page():
    with pytest.raises(GuestFault) as caught:
        translate("b8 01020304", eip=0x1FFE, end=0x2000)
    assert caught.value.vector == 14
    assert caught.value.address == 0x2000


def test_in_other_modes_whatever_needs_the_monitors_words_is_a_callout():
    for code in ("fa", "fb", "9c", "9d", "c3", "ffe0", "e800000000"):
        unit, _, callouts = translate(code, Mode(8, 0, False))
        assert unit.lines[0][2] in (CALLOUT, CONTROL)
        assert AT in callouts


def test_lines_cover_guest_code_and_fragment_without_gaps():
    unit, out, _ = translate("40 fa 9c 9d fb 8cc8 0fa2 2e8b4304 7400")
    eip, at = EIP, AT
    for guest, length, _, tc, size in unit.lines:
        assert (guest, tc) == (eip, at)
        eip, at = eip + length, at + size
    assert at <= AT + len(out) == unit.end
    assert len(unit.source) == eip - EIP


def test_an_sti_that_casts_no_shadow_may_be_the_twelfth():
    unit, _, _ = translate("40" * 10 + "fb fb 90")
    assert len(unit.lines) == 12
    assert unit.shadows == [unit.lines[11][3]]


def everything(code: bytes, mode: Mode, superblocks: bool) -> tuple[object, ...]:
    stubs = iter(range(0xF0700000, 0xF0600000, -8))

    def fetch(linear: int, size_bytes: int) -> bytes:
        at = linear - 0x100000 & 0xFFFFFFFF
        if at >= len(code):
            raise GuestFault(14, 0, linear)
        return code[at : at + size_bytes]

    translator = Translator(fetch, lambda: next(stubs), superblocks=superblocks)
    unit, fragment, callouts = translator.translate(0x100000 - mode.cs_base & 0xFFFFFFFF, 0xF0400000, mode)
    exits = [(c.kind, c.target, c.stub, c.patch_at, c.condition) for c in unit.continuations]
    called = [(at, c.instruction, c.ends, c.popped, c.simulated) for at, c in callouts.items()]
    return fragment, unit.lines, unit.source, unit.end_eip, unit.end, unit.shadows, unit.calls, exits, called


COMMON = st.sampled_from(
    [bytes.fromhex(code) for code in (
        "74 10", "0f 85 00 01 00 00", "eb f0", "e9 78 56 34 12", "e8 00 00 00 80", "c3", "64 a1 00 00 00 00", "fb",
        "65 8b 04 25 10 00 00 00", "3e 74 02", "26 c3", "2e 8b 00", "64 8e d8", "36 0f b6 04 24", "66 e8 00 00", "fa",
        "89 d8", "0f 84 78 56 34 f2", "0f 0b", "f4", "cf",
    )]
)  # fmt: skip


@given(
    st.lists(COMMON | st.binary(min_size=1, max_size=6), min_size=1, max_size=30), st.booleans(),
    st.sampled_from([PLAIN, Mode(8, 0, False), Mode(8, 0x4000, True)]),
)  # fmt: skip
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_quick_way_translates_as_the_decoder_would(pieces: list[bytes], superblocks: bool, mode: Mode):
    code = b"".join(pieces) + bytes(40)
    quick = everything(code, mode, superblocks)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(translator_module, "length_tables", lambda: (bytes(65536), bytes(65536)))
        patch.setattr(translator_module, "DIRECT", frozenset())
        patch.setattr(Translator, "_emit_direct", lambda *_: (0, False))
        assert everything(code, mode, superblocks) == quick
