"""The decoder against capstone: every opcode, random bytes, operands; and the fast scan against the decoder."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import capstone
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests import tools
from tests.x86.elf import text_section
from vilab.x86.decode import DS, FS, SS, Instruction, Kind, MemoryOperand, Truncated, decode
from vilab.x86.decode import disassemble as decode_all
from vilab.x86.modrm import EBP, EBX, ESI, ESP
from vilab.x86.scan import scan

ENGINES = {
    16: capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_16),
    32: capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_32),
}
PREFIXES = frozenset(b"\x66\x67\xf0\xf2\xf3\x26\x2e\x36\x3e\x64\x65")
TAIL = bytes(range(0x11, 0x1E))


def judge(code: bytes, bits: int = 32) -> tuple[int, str] | None:
    """(size, mnemonic) of the first instruction as capstone sees it."""
    for _, size, mnemonic, _ in ENGINES[bits].disasm_lite(code, 0, 1):
        return size, mnemonic
    return None


def opcodes() -> Iterator[bytes]:
    """Every opcode of the four maps."""
    yield from (bytes((b,)) for b in range(256) if b not in PREFIXES and b != 0x0F)
    yield from (bytes((0x0F, b)) for b in range(256) if b not in (0x38, 0x3A))
    yield from (bytes((0x0F, page, b)) for page in (0x38, 0x3A) for b in range(256))


MODRMS = [
    *range(0x00, 0x40, 8), 0x04, 0x05, 0x44, 0x45, 0x84, 0x80, 0x6D, 0xAD, *range(0xC0, 0x100),
]  # fmt: skip

# Where the decoder and capstone differ on purpose: (opcode, why).
ACCEPTED = {
    "dc": "aliases without a name", "dd": "aliases", "de": "aliases", "df": "aliases",
    "0f0d": "PREFETCH hints of AMD", "0f18": "hint", "0f1a": "hint", "0f1b": "hint", "0f1c": "hint", "0f1d": "hint",
    "0f1e": "hint", "0fae": "fences ignore rm", "0fbc": "F2 before BSF is ignored", "0fbd": "F2 before BSR is ignored",
    "0f38f5": "WRUSS", "0f38f6": "WRSS", "c4": "VEX: layout only", "c5": "VEX: layout only", "62": "EVEX: layout only",
}  # fmt: skip
REFUSED = {
    "8e": "MOV CS", "0f20": "CR1, CR5-7", "0f22": "CR1, CR5-7", "c6": "XABORT", "c7": "XBEGIN", "0f37": "GETSEC",
    "0fa6": "PadLock", "0fa7": "PadLock", "0f01": "SGX, CET, TSX", "c4": "VEX after 66", "c5": "VEX after 66",
    **{f"0f38{o:02x}": "prefix" for o in (*range(0xC8, 0xCE), 0xF9)}, "0f3acc": "prefix",
}  # fmt: skip


@pytest.mark.parametrize("prefix", ["", "66", "f2", "f3"])
def test_every_opcode_has_the_length_that_capstone_gives_it(prefix: str) -> None:
    wrong = []
    for opcode in opcodes():
        for modrm in MODRMS:
            code = bytes.fromhex(prefix) + opcode + bytes((modrm,)) + TAIL
            ours, theirs = decode(code[:15], 0), judge(code[:15])
            undefined = ours.kind is Kind.UNDEFINED and not ours.op.startswith("ud")
            if theirs is None:
                if not undefined and opcode.hex() not in ACCEPTED:
                    wrong.append(f"{code.hex()} is undefined, decoded as {ours.size} bytes")
            elif undefined:
                if opcode.hex() not in REFUSED:
                    wrong.append(f"{code.hex()} is {theirs[1]}, refused")
            elif theirs[0] != ours.size and theirs[1] != "ud1":
                wrong.append(f"{code.hex()} is {theirs[1]} of {theirs[0]} bytes, not {ours.size}")
    assert wrong == []


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


SENSITIVE = words(
    "cli sti hlt in out insb insw insd outsb outsw outsd lgdt lidt lldt ltr sgdt sidt sldt str smsw lmsw clts invd"
    " wbinvd wbnoinvd invlpg rdmsr wrmsr rdtsc rdtscp rdpmc cpuid pushf pushfd popf popfd lar lsl verr verw lds les lss"
    " lfs lgs xsetbv vmcall vmlaunch vmresume vmxoff vmread vmwrite vmptrld vmptrst vmclear vmxon invept invvpid"
    " invpcid vmfunc vmrun vmmcall vmload vmsave stgi clgi skinit invlpga rsm monitor mwait monitorx mwaitx clac stac"
    " xsaves xrstors"
)
FAR = words("lcall ljmp retf iret iretd int int1 int3 into syscall sysret sysenter sysexit retfd retfw")
SEGMENTS = frozenset(("es", "cs", "ss", "ds", "fs", "gs"))


def expected_kind(mnemonic: str, operands: str, code: bytes) -> Kind:
    """The kind by the text that capstone gives, prefixes' names removed."""
    words = mnemonic.split()
    name = next(
        (w for w in reversed(words) if w not in ("rep", "repne", "repe", "lock", "data16", "bnd", "notrack")), words[-1]
    )
    arguments = [word.strip() for word in operands.split(",")]
    if name in FAR or (
        name in ("call", "jmp") and operands.startswith("ptr ")
    ):  # capstone's "ptr" alone is a far pointer
        return Kind.FAR
    if name in SENSITIVE:
        return Kind.SENSITIVE
    if name in ("mov", "push", "pop") and any(a in SEGMENTS or a[:2] in ("cr", "dr") for a in arguments):
        return Kind.SENSITIVE
    if name == "jmp":
        return Kind.JMP_REL if arguments[0].startswith(("0x", "-")) or arguments[0].isdigit() else Kind.JMP_IND
    if name == "call":
        return Kind.CALL_REL if arguments[0].startswith(("0x", "-")) or arguments[0].isdigit() else Kind.CALL_IND
    if name in ("ret", "retw"):
        return Kind.RET
    if name.startswith(("j", "loop")):
        return Kind.JCC
    if name in ("ud0", "ud1", "ud2"):
        return Kind.UNDEFINED
    return Kind.IDENT


def check_against_capstone(code: bytes, bits: int = 32) -> None:
    """Whatever both accept has one length and the kind that its text says."""
    lines = list(ENGINES[bits].disasm_lite(code, 0x1000, 1))
    ours = decode(code, 0x1000, bits)
    if not lines or ours.kind is Kind.UNDEFINED:
        return
    _, size, mnemonic, operands = lines[0]
    if mnemonic in ("ud1", "wait") or ours.opcode == 0x9B:  # capstone joins WAIT with what follows
        return
    assert (ours.size, ours.kind) == (size, expected_kind(mnemonic, operands, code)), (
        f"{code.hex()} {mnemonic} {operands}"
    )
    # Behind a 67, which is about addresses of data, capstone takes 16 bits of a jump's displacement for all of it.
    if ours.target is not None and bits == 32 and ours.operand_bits == 32 and ours.address_bits == 32:
        assert f"{ours.target:#x}" == operands or str(ours.target) == operands


@pytest.mark.parametrize("prefix", ["", "66", "f2", "f3"])
def test_every_opcode_has_the_kind_that_its_mnemonic_says(prefix: str) -> None:
    for opcode in opcodes():
        for modrm in MODRMS:
            check_against_capstone((bytes.fromhex(prefix) + opcode + bytes((modrm,)) + TAIL)[:15])


@settings(max_examples=2000, deadline=None)
@given(st.binary(min_size=15, max_size=15))
@example(bytes.fromhex("670f0100112233445566778899aabb"))
def test_random_bytes_agree_with_capstone(code: bytes) -> None:
    check_against_capstone(code)


@settings(max_examples=2000, deadline=None)
@given(st.lists(st.sampled_from(sorted(PREFIXES - {0xF0})), max_size=3), st.binary(min_size=15, max_size=15))
def test_random_prefixes_agree_with_capstone(prefixes: list[int], rest: bytes) -> None:
    check_against_capstone((bytes(prefixes) + rest)[:15])


@settings(max_examples=1000, deadline=None)
@given(st.binary(min_size=15, max_size=15))
def test_16_bit_code_agrees_with_capstone(code: bytes) -> None:
    check_against_capstone(code, 16)


LOCKABLE = words("add or adc sbb and sub xor inc dec neg not xchg xadd cmpxchg cmpxchg8b bts btr btc")


@settings(max_examples=2000, deadline=None)
@given(st.sampled_from(list(opcodes())), st.binary(min_size=12, max_size=12))
def test_lock_is_only_allowed_on_a_read_modify_write_of_memory(opcode: bytes, rest: bytes) -> None:
    plain, locked = decode((opcode + rest)[:15], 0), decode((b"\xf0" + opcode + rest)[:15], 0)
    if plain.kind is Kind.UNDEFINED:
        assert locked.kind is Kind.UNDEFINED
        return
    mnemonic = plain.mnemonic.split()[-1]
    writes_memory = plain.operands.split(",")[0].endswith("]") or (mnemonic == "xchg" and "[" in plain.operands)
    assert (locked.kind is not Kind.UNDEFINED) == (mnemonic in LOCKABLE and writes_memory), plain.text


def random_operands() -> st.SearchStrategy[bytes]:
    return st.tuples(
        st.sampled_from([b"", b"\x64", b"\x2e", b"\x67", b"\x67\x36"]), st.binary(min_size=7, max_size=7)
    ).map(lambda t: t[0] + b"\x8b" + t[1])


REGISTERS = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")
DETAIL = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_32)
DETAIL.detail = True


@settings(max_examples=1500, deadline=None)
@given(random_operands())
def test_memory_operands_are_those_of_capstone(code: bytes) -> None:
    ours = decode(code + bytes(6), 0).memory
    theirs = next(DETAIL.disasm(code + bytes(6), 0))
    operands = [o.mem for o in theirs.operands if o.type == capstone.x86.X86_OP_MEM]
    if not operands:
        assert ours is None
        return
    assert ours is not None
    memory = operands[0]

    def number(register: int) -> int:
        """Capstone names a missing index EIZ where a SIB byte has one."""
        name = theirs.reg_name(register) if register else None
        if name in (None, "eiz", "riz"):
            return -1
        return REGISTERS.index(name if name in REGISTERS else "e" + name)

    mask = 0xFFFF if ours.bits == 16 else 0xFFFF_FFFF
    assert (ours.base, ours.index) == (number(memory.base), number(memory.index))
    assert ours.displacement & mask == memory.disp & mask
    if ours.index >= 0:
        assert ours.scale == memory.scale
    if memory.segment:
        assert ("es", "cs", "ss", "ds", "fs", "gs")[ours.segment] == theirs.reg_name(memory.segment)
    else:
        assert ours.segment == (SS if ours.base in (ESP, EBP) else DS)


def test_an_effective_address_wraps_at_the_address_size() -> None:
    gpr = (0, 0, 0, 0xFFFF_FFFF, 0, 0, 0x10, 0)
    assert MemoryOperand(DS, EBX, ESI, 4, 8, 32).offset(gpr) == 0x47
    assert MemoryOperand(DS, EBX, ESI, 1, 8, 16).offset(gpr) == 0x17


def one(text: str, bits: int = 32) -> Instruction:
    return decode(bytes.fromhex(text), 0x1000, bits)


def test_immediates() -> None:
    assert one("c744240878563412").immediate == 0x12345678
    assert (one("83c0ff").immediate, one("83c0ff").signed_immediate) == (0xFF, -1)
    assert one("c21000").immediate == 16
    assert (one("ea785634126000").immediate, one("ea785634126000").selector) == (0x12345678, 0x60)
    assert one("66ea34126000").immediate == 0x1234
    assert one("c8341205").immediate == 0x1234
    assert one("89c8").immediate is None
    assert one("a178563412").immediate is None
    assert one("cd80").immediate == 0x80


def test_targets() -> None:
    assert one("75fe").target == 0x1000
    assert one("e8fbffffff").target == 0x1000
    assert one("66e90000").target == 0x1004
    assert decode(b"\xeb\x10", 0xFFFF_FFF8).target == 0xA
    assert decode(b"\x66\xeb\x10", 0xFFF8).target == 0xB
    assert one("ffe0").target is None


def test_moffs_is_a_memory_operand() -> None:
    assert one("64a178563412").memory == MemoryOperand(FS, -1, -1, 1, 0x12345678, 32)
    assert one("67a13412").memory == MemoryOperand(DS, -1, -1, 1, 0x1234, 16)


def test_mov_cr_is_a_register_form_whatever_mod_says() -> None:
    instruction = one("0f2000")
    assert (instruction.size, instruction.op, instruction.memory) == (3, "mov from cr", None)


def test_the_last_of_several_prefixes_counts() -> None:
    instruction = one("2ef2f364a5")
    assert (instruction.repeat, instruction.segment_override) == ("rep", FS)


@pytest.mark.parametrize(
    ("text", "op"),
    [
        ("fa", "cli"), ("9c", "pushf"), ("669d", "popf"), ("0f00c8", "str"), ("0f00e1", "verr"), ("0f0100", "sgdt"),
        ("0f01e0", "smsw"), ("0f01f0", "lmsw"), ("0f013d00000000", "invlpg"), ("0f22d8", "mov to cr"),
        ("0f02c1", "lar"), ("8cc8", "mov from seg"), ("8ed8", "mov to seg"), ("0e", "push seg"), ("17", "pop seg"),
        ("0fa2", "cpuid"), ("0f01d9", "vmmcall"), ("0f30", "wrmsr"),
    ],
)  # fmt: skip
def test_sensitive_instructions_are_named(text: str, op: str) -> None:
    assert (one(text).kind, one(text).op) == (Kind.SENSITIVE, op)


@settings(max_examples=500, deadline=None)
@given(st.binary(min_size=15, max_size=15))
def test_every_cut_is_truncated_or_already_undefined(code: bytes) -> None:
    whole = decode(code, 0)
    for size in range(whole.size):
        if whole.kind is Kind.UNDEFINED:
            with pytest.raises(Truncated):
                decode(code[:size], 0)
        else:
            with pytest.raises(Truncated) as caught:
                decode(code[:size], 0)
            assert caught.value.have_bytes == size


@given(st.sampled_from(list(opcodes())), st.binary(min_size=13, max_size=13), st.sampled_from((16, 32)))
@settings(max_examples=2000)
@example(b"\x85", bytes.fromhex("98140f4af0") + bytes(8), 32)
@example(b"\xa1", bytes(13), 32)
def test_an_undefined_instruction_has_no_operand(opcode: bytes, rest: bytes, bits: int) -> None:
    i = decode((b"\xf0" + opcode + rest)[:15], 0x1000, bits)
    if i.kind is Kind.UNDEFINED:
        assert i.memory is None
    else:
        assert i.memory is not None, "LOCK only goes with memory"


def test_more_than_15_bytes_are_too_long() -> None:
    instruction = decode(b"\x66" * 14 + b"\x90" * 2, 0)
    assert (instruction.kind, instruction.size) == (Kind.IDENT, 15)
    instruction = decode(b"\x66" * 15 + b"\x90", 0)
    assert (instruction.kind, instruction.op) == (Kind.UNDEFINED, "too long")
    assert decode(b"\x66" * 13 + b"\x81\xc0" + bytes(8), 0).op == "too long"


def test_text_of_what_capstone_does_not_know_is_data() -> None:
    assert one("f0ffc0").text == "db 0xf0, 0xff, 0xc0"


def test_disassemble_walks_and_stops_before_a_cut() -> None:
    lines = decode_all(bytes.fromhex("89f9be0200000039ce7d05e800"), 0x1000)
    assert [line.text for line in lines] == ["mov ecx, edi", "mov esi, 2", "cmp esi, ecx", "jge 0x1010"]
    assert [a.end == b.address for a, b in pairwise(lines)] == [True] * 3


def test_every_instruction_of_a_real_kernel_agrees_with_capstone() -> None:
    """GNU Mach: 228 thousand instructions, one after another, by the decoder and by the scan."""
    address, code = text_section(tools.gnumach().read_bytes())
    at, count = 0, 0
    boundaries = []
    while at < len(code) - 15:
        check_against_capstone(code[at : at + 15])
        boundaries.append(at)
        at += decode(code[at : at + 15], address + at).size
        count += 1
    assert count > 200_000
    at, found = 0, []
    while at < len(code) - 15:
        run = scan(code[at : at + 15 * 12], address + at)
        found += [at + offset for offset, _, _ in run]
        at += run[-1][0] + run[-1][1]
    assert found[: len(boundaries)] == boundaries


# scan


def reference_scan(code: bytes, limit: int, past_sensitive: bool) -> list[tuple[int, int, Kind]]:
    out: list[tuple[int, int, Kind]] = []
    at = 0
    while len(out) < limit:
        try:
            instruction = decode(code[at : at + 15], at)
        except Truncated:
            return out
        out.append((at, instruction.size, instruction.kind))
        at += instruction.size
        if instruction.kind is not Kind.IDENT and not (past_sensitive and instruction.kind is Kind.SENSITIVE):
            return out
    return out


@settings(max_examples=1500, deadline=None)
@given(st.binary(min_size=1, max_size=60), st.integers(1, 14), st.booleans())
def test_scan_finds_what_the_decoder_finds(code: bytes, limit: int, past_sensitive: bool) -> None:
    expected = reference_scan(code, limit, past_sensitive)
    if not expected:
        with pytest.raises(Truncated):
            scan(code, 0, limit, past_sensitive=past_sensitive)
    else:
        assert scan(code, 0, limit, past_sensitive=past_sensitive) == expected


def test_scan_agrees_on_every_opcode_and_modrm() -> None:
    for opcode in opcodes():
        for modrm in range(256):
            code = opcode + bytes((modrm,)) + TAIL
            instruction = decode(code[:15], 0)
            assert scan(code, 0, 1) == [(0, instruction.size, instruction.kind)], code.hex()


def test_scan_of_is_prime_ends_at_its_first_jump() -> None:
    assert scan(bytes.fromhex("89f9be0200000039ce7d05e800"), 0x1000) == [
        (0, 2, Kind.IDENT), (2, 5, Kind.IDENT), (7, 2, Kind.IDENT), (9, 2, Kind.JCC),
    ]  # fmt: skip
