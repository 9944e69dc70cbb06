"""The assembler: what capstone prints goes in and comes out the same; labels, sizes, and errors that say where."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import capstone
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests import tools
from tests.x86.elf import text_section
from vilab.x86.assemble import Assembly, AssemblyError, assemble
from vilab.x86.assemble_forms import PREFIXES, TABLE, Form
from vilab.x86.decode import ADDRSIZE, OPSIZE, Instruction, Kind, decode
from vilab.x86.opcodes import Kind as Kinds

AT = 0x0010_0000
ENGINE = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_32)
CONTROL = (Kinds.JCC, Kinds.JMP_REL, Kinds.CALL_REL, Kinds.JMP_IND, Kinds.CALL_IND, Kinds.RET, Kinds.FAR)
SIXTEEN_BIT_NAMES = frozenset(("pushf", "popf", "iret"))
"""Capstone's names of the 16-bit ones; here they mean the 32-bit ones, as everybody writes them."""
NUMBER = re.compile(r"-?\b(0x[0-9a-f]+|\d+)\b")


def read(code: bytes, address: int = AT) -> list[str]:
    """``code`` as capstone reads it, an instruction an entry; fails where bytes are left over."""
    lines = list(ENGINE.disasm_lite(code, address))
    assert sum(line[1] for line in lines) == len(code), code.hex()
    return [f"{mnemonic} {operands}".rstrip() for _, _, mnemonic, operands in lines]


WIDTHS = ((8, r"byte ptr|\b[abcd][lh]\b"), (16, r"\bword ptr|\b([abcd]x|[sd]i|[sb]p)\b"))


def plain(text: str) -> str:
    """Numbers outside brackets without sign (-1 and 0xffffffff are one immediate); SAL as SHL; MOV DS, AX as EAX."""
    text = re.sub(r"^sal\b", "shl", text)
    text = re.sub(r"^mov ([a-z]s), ([a-z][a-z])$", r"mov \1, e\2", text)
    if text.startswith("xchg"):
        text = "xchg " + ", ".join(sorted(text[5:].split(", ")))
    first = re.sub(r"\[[^]]*\]", "", text.split(",")[0])
    bits = next((width for width, words in WIDTHS if re.search(words, first)), 32)
    parts = re.split(r"(\[[^]]*\])", text)
    mask = (1 << bits) - 1
    return "".join(p if p.startswith("[") else NUMBER.sub(lambda m: hex(int(m.group(), 0) & mask), p) for p in parts)


def known(instruction: Instruction) -> bool:
    """Is it in the assembler's set, and does its text say all that there is?"""
    words = instruction.mnemonic.split()
    if instruction.kind is Kind.UNDEFINED or words[-1] not in TABLE or words[0] not in (words[-1], *PREFIXES):
        return False
    if instruction.prefixes and instruction.target is not None:
        return False  # one byte less to jump from is one byte further to go
    if instruction.prefixes & ADDRSIZE and (
        instruction.kind in CONTROL or (instruction.memory is not None and instruction.memory.base < 0)
    ):
        return False  # its text is that of the 32-bit form
    if instruction.prefixes & OPSIZE and words[-1] == "push" and instruction.immediate is not None:
        return False
    if instruction.prefixes & OPSIZE and (instruction.kind in CONTROL or words[-1] in SIXTEEN_BIT_NAMES):
        return False
    if instruction.text == "xchg eax, eax" or (instruction.repeat == "repne" and instruction.prefixes & OPSIZE):
        return False  # is NOP; capstone mixes the sizes up
    if words[-1] == "nop" and "," in instruction.operands:
        return False  # a hint that reads as NOP
    if words[-1] == "bswap" and instruction.prefixes & OPSIZE:
        return False  # has no defined result
    if "xmm" in instruction.operands or "mm" in instruction.operands.split("[")[0]:
        return False
    return not re.search(r"e[iz]z|riz", instruction.operands)


@settings(max_examples=1500, deadline=None)
@given(st.sampled_from([b"", b"", b"\x66", b"\xf3", b"\xf0", b"\x64"]), st.binary(min_size=14, max_size=14))
def test_what_capstone_prints_assembles_to_the_same(prefix: bytes, rest: bytes) -> None:
    instruction = decode((prefix + rest)[:15], AT)
    assume(known(instruction))
    code = assemble(instruction.text, AT).code
    assert len(code) <= instruction.size
    assert [plain(text) for text in read(code)] == [plain(instruction.text)]
    assert assemble(read(code)[0], AT).code == code


def test_every_opcode_of_the_integer_set_can_be_written() -> None:
    """Not by chance: each opcode with each /reg, with memory and with a register."""
    seen = set()
    for start in (*((b,) for b in range(256)), *((0x0F, b) for b in range(256))):
        for modrm in (*range(0x03, 0x43, 8), *range(0x45, 0x85, 8), *range(0xC1, 0x101, 8)):
            for prefix in (b"", b"\x66"):
                instruction = decode(prefix + bytes((*start, modrm & 0xFF)) + bytes(range(0x11, 0x1C)), AT)
                if known(instruction):
                    code = assemble(instruction.text, AT).code
                    assert [plain(text) for text in read(code)] == [plain(instruction.text)]
                    seen.add(instruction.mnemonic.split()[-1])
    assert len(seen) > 200


# Every form of the table

SAMPLES = {
    "r8": ["dl", "bh"], "r16": ["si"], "r32": ["esi"], "R16": ["si"], "R32": ["edi"], "rm8": ["ch", "byte ptr [ebx]"],
    "rmb": ["cl", "byte ptr [ebp]"], "rm16": ["cx", "word ptr [edx + ecx*2]"], "m": ["[eax + 0x100]"],
    "m8": ["byte ptr [eax]"],
    "m16": ["word ptr [esp + 4]"], "m48": ["fword ptr [ecx]"], "m64": ["qword ptr [ecx]"], "al": ["al"], "cl": ["cl"],
    "dx": ["dx"], "eax": ["eax"], "ecx": ["ecx"], "1": ["1"], "imm8": ["0x12"], "imm16": ["0x1234"], "simm8": ["-5"],
    "far": ["0x60:0x12345678"], "sreg": ["ds"], "cr": ["cr3"], "dr": ["dr7"], "moffs8": ["byte ptr [0x12345678]"],
    "rel8": [hex(AT + 0x40)], "rel32": [hex(AT + 0x4000)],
}  # fmt: skip
BY_SIZE = {
    16: {"rv": ["di"], "rmv": ["bx", "word ptr [esi*8 + 0x1000]"], "rmV": ["bx", "word ptr [esi]"], "av": ["ax"],
         "immv": ["0x1234"], "moffsv": ["word ptr [0x12345678]"]},
    32: {"rv": ["edi"], "rmv": ["ebx", "dword ptr [esi + eax*4 - 0x80]"], "rmV": ["ebx", "dword ptr [esi]"],
         "av": ["eax"], "immv": ["0x12345678"], "moffsv": ["dword ptr [0x12345678]"]},
}  # fmt: skip


def samples() -> list[tuple[str, Form]]:
    """A line of text for each form, size and kind of operand."""
    out = []
    for name, forms in TABLE.items():
        for form in forms:
            for bits in (32, 16) if form.variable else (32,):
                words = SAMPLES | BY_SIZE[bits]
                for choice in range(max((len(words[p]) for p in form.operands if p in words), default=1)):
                    picked = [words[p][min(choice, len(words[p]) - 1)] if p in words else p for p in form.operands]
                    out.append((f"{name} {', '.join(picked)}".rstrip(), form))
    return out


def test_every_form_gives_an_instruction_that_exists() -> None:
    for text, _ in samples():
        code = assemble(text, AT).code
        instruction = decode(code, AT)
        assert instruction.size == len(code), text
        assert instruction.kind is not Kind.UNDEFINED or instruction.op == "ud2", text
        assert len(read(code)) == 1, text


def test_clang_assembles_the_same(tmp_path: Path) -> None:
    """All samples in one file through LLVM's assembler: texts and lengths agree, the choice of encoding need not."""
    tools.require_module("ziglang", "the PyPI package ziglang (extra: guest)")
    other_name = {
        "pushf": "pushfd", "popf": "popfd", "iret": "iretd", "ljmp": None, "lcall": None, "salc": None, "int1": None,
        "icebp": None, "wait": None, "xlat": "xlatb", "pushfw": "pushf", "popfw": "popf", "iretw": "iret",
        "pushaw": None, "popaw": None, "pushad": "pushal", "popad": "popal", "pusha": "pushal", "popa": "popal",
        "lret": "retf", "sysret": None, "jcxz": None, "invlpga": None, "loopnz": "loopne", "loopz": "loope",
    }  # fmt: skip
    ours, theirs = [], []
    for text, form in samples():
        name, _, rest = text.partition(" ")
        operands = form.operands
        if other_name.get(name, name) is None or "rel8" in operands or "rel32" in operands or "far" in operands:
            continue
        if name in ("vmrun", "vmload", "vmsave", "skinit", "xchg") or "m48" in operands:
            continue  # other spellings, or another order of equal operands
        if operands in (("R16", "sreg"), ("sreg", "rm16")):
            continue  # LLVM drops a prefix that counts, and keeps one that does not
        if operands in (("es",), ("cs",), ("ss",), ("ds",), ("fs",), ("gs",)):
            continue  # LLVM takes the 16-bit form
        if operands == ("r16", "rm16") or (name in ("lar", "lsl") and "dword ptr" in rest):
            continue  # LLVM has no text for these encodings
        ours.append(assemble(text, AT).code)
        theirs.append(f"{other_name.get(name, name)} {rest}")
    source, output = tmp_path / "x.s", tmp_path / "x.o"
    source.write_text(".intel_syntax noprefix\n.code32\n" + "\n".join(theirs) + "\n")
    command = [
        sys.executable,
        "-m",
        "ziglang",
        "cc",
        "-target",
        "x86-freestanding-none",
        "-c",
        str(source),
        "-o",
        str(output),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[:2000]
    _, code = text_section(output.read_bytes())
    at = 0
    for mine, text in zip(ours, theirs, strict=True):
        size = decode(code[at : at + 15], AT).size
        its = code[at : at + size]
        assert (len(mine), [plain(t) for t in read(mine)]) == (size, [plain(t) for t in read(its)]), text
        at += size
    assert len(ours) > 500
    assert at == len(code)


# Text


def code(text: str, address: int = AT) -> str:
    return assemble(text, address).code.hex()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cli; pushf; popf", "fa9c9d"),
        ("mov eax, cr3", "0f20d8"),
        ("MOV EAX, DWORD PTR [EBX+ESI*4+8]", "8b44b308"),
        ("mov eax, [eax + eax]", "8b0400"),
        ("mov eax, [eax*4]", "8b048500000000"),
        ("mov eax, [ebp]", "8b4500"),
        ("mov eax, [esp]", "8b0424"),
        ("mov eax, [eax + esp]", "8b0404"),
        ("mov al, [bx + si]", "678a00"),
        ("mov ax, [bp]", "67668b4600"),
        ("mov eax, fs:[0x10]", "64a110000000"),
        ("mov ecx, [gs:eax]", "658b08"),
        ("push 5; push 500; push -1", "6a0568f40100006aff"),
        ("add eax, 0xffffffff", "83c0ff"),
        ("add ax, 0xffff", "6683c0ff"),
        ("rep movsd; repne scasb al, byte ptr es:[edi]", "f3a5f2ae"),
        ("lodsb al, byte ptr fs:[esi]", "64ac"),
        ("jmp 0x60:0x12345678", "ea785634126000"),
        ("call far [0x102000]", "ff1d00201000"),
        ("call ptr [0x102000]", "ff1d00201000"),
        ("lar eax, cx; lsl eax, ecx", "0f02c10f03c1"),
        ("mov ds, ax; mov ax, ds; mov [eax], ds", "8ed8668cd88c18"),
        ("str ax; str eax; str word ptr [eax]", "660f00c80f00c80f0008"),
        ("lock inc dword ptr [eax]", "f0ff00"),
        ("db 1, 'ab', \"c\", 0x10; dw 0x1234; dd 10h", "016162631034121000" + "0000"),
        ("dd 'A'; db 2*3+1, -(1)", "4100000007ff"),
        ("align 4; nop; align 4; resb 2", "909090900000"),
        ("times 3 inc eax", "404040"),
        ("n equ 5\nm = n * 2\nmov eax, m", "b80a000000"),
        ("shl eax; shl eax, 1; shl eax, cl; sar byte ptr [eax], 3", "d1e0d1e0d3e0c03803"),
        ("in al, dx; out 0x80, eax", "ece780"),
        ("# only a comment", ""),
        ("nop # behind // twice", "90"),
        ("int3; int 0x80", "cccd80"),
    ],
)
def test_text_and_bytes(text: str, expected: str) -> None:
    assert code(text) == expected


def test_labels_reach_in_both_directions() -> None:
    result = assemble("a: jmp b; c: dec eax; jne c; b: jmp a; dd a, b, $", 0x1000)
    assert read(result.code[:7], 0x1000) == ["jmp 0x1005", "dec eax", "jne 0x1002", "jmp 0x1000"]
    assert result.labels == {"a": 0x1000, "c": 0x1002, "b": 0x1005}
    assert result.code[7:] == b"".join(n.to_bytes(4, "little") for n in (0x1000, 0x1005, 0x1007))


@given(st.integers(100, 160), st.integers(100, 160))
@settings(max_examples=40, deadline=None)
def test_a_jump_is_short_exactly_if_it_reaches(ahead: int, behind: int) -> None:
    result = assemble(f"s: resb {behind}; jmp e; resb {ahead}; e: jmp s", AT)
    first = 2 if ahead <= 127 else 5
    assert decode(result.code[behind:], AT + behind).target == result.labels["e"] == AT + behind + first + ahead
    assert decode(result.code[behind:], AT).size == first
    last = decode(result.code[behind + first + ahead :], result.labels["e"])
    assert last.target == AT
    assert last.size == (2 if behind + first + ahead + 2 <= 128 else 5)


def test_long_jumps_push_others_out_of_reach() -> None:
    """Each jump is just in reach until the one inside it grows."""
    text = "\n".join(f"jmp l{n}" for n in range(20)) + "\nresb 100\n" + "\n".join(f"l{n}: resb 3" for n in range(20))
    result = assemble(text, AT)
    at = 0
    for n in range(20):
        instruction = decode(result.code[at:], AT + at)
        assert instruction.target == result.labels[f"l{n}"]
        at += instruction.size


def test_lines_say_where_each_statement_went() -> None:
    result: Assembly = assemble("cli ; pushf\n\nx: mov eax, 1 # one\n", AT)
    assert [(line.line, line.offset, line.size, line.source) for line in result.lines] == [
        (1, 0, 1, "cli"), (1, 1, 1, "pushf"), (3, 2, 5, "x: mov eax, 1"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ("nop\nmvo eax, 1", 2, 1, "'mov'?"),
        ("mov eax, foo", 1, 10, "'foo' is not defined"),
        ("start: jmp strat", 1, 12, "did you mean 'start'"),
        ("mov [eax], 5", 1, 5, "byte ptr"),
        ("nop; mov al, 300", 1, 14, "from -128 to 255"),
        ("mov eax, bl", 1, 10, "a 32-bit register"),
        ("lea eax, 5", 1, 10, "must be memory"),
        ("push", 1, 1, "push takes 1 operand, here are 0"),
        ("mov eax, [ebx", 1, 14, "expected ']'"),
        ("mov eax, ebx ecx", 1, 14, "expected ','"),
        ("mov eax,", 1, 9, "found the end"),
        ("mov eax, 12q", 1, 10, "is no number"),
        ("mov %eax, 1", 1, 5, "Intel syntax"),
        ("movl eax, 1", 1, 1, "in Intel syntax it is 'mov'"),
        ("lock mov [eax], eax", 1, 6, "LOCK"),
        ("mov cs, ax", 1, 1, "#UD"),
        ("mov cr1, eax", 1, 1, "#UD"),
        ("jecxz far_away; resb 200; far_away:", 1, 7, "200 away"),
        ("jmp short x; resb 200; x:", 1, 5, "200 away"),
        ("x: nop\nx: nop", 2, 4, "line 1"),
        ("eax: nop", 1, 1, "is a register"),
        ("far: nop", 1, 1, "cannot be a label"),
        ("mov eax, [ebx + ecx + edx]", 1, 10, "at most two registers"),
        ("mov eax, [ebx*3]", 1, 10, "1, 2, 4 or 8"),
        ("mov eax, [esp*2]", 1, 10, "ESP"),
        ("mov eax, [bx + cx]", 1, 10, "16-bit address"),
        ("mov eax, [bx + ecx]", 1, 10, "mixes"),
        ("mov eax, [0x1ffffffff]", 1, 10, "does not fit"),
        ("movsd es:[ebx], [esi]", 1, 7, "[esi] and es:[edi]"),
        ("jmp 0x12345:0", 1, 5, "no selector"),
        ("db 256", 1, 4, "does not fit into 1 byte"),
        ("db 'abc", 1, 4, "not closed"),
        ("a = b + 1; b = a + 1", 1, 1, "circle"),
        ("times 2000000 nop", 1, 15, "1 MB"),
        ("rep", 1, 4, "expected an instruction"),
        ("5 nop", 1, 1, "expected an instruction"),
        ("mov eax, ebx + 1", 1, 14, "expected ','"),
        ("mov eax, 1 + ebx", 1, 14, "cannot be part"),
    ],
)  # fmt: skip
def test_errors_name_line_column_and_what_was_expected(text: str, line: int, column: int, words: str) -> None:
    with pytest.raises(AssemblyError) as caught:
        assemble(text, AT)
    assert (caught.value.line, caught.value.column) == (line, column)
    assert words in caught.value.problem
    assert str(caught.value).startswith(f"line {line}, column {column}: ")


@settings(max_examples=500, deadline=None)
@given(st.text(alphabet="movadjpushe axbcd[]+*-,:;'0123456789\n$#", max_size=40))
def test_any_text_assembles_or_ends_in_one_sentence(text: str) -> None:
    problem: AssemblyError | None = None
    result = Assembly(AT, b"", (), {})
    try:
        result = assemble(text, AT)
    except AssemblyError as error:
        problem = error
    assert sum(line.size for line in result.lines) == len(result.code)
    if problem is not None:
        assert 1 <= problem.line <= text.count("\n") + 1
        assert "\n" not in str(problem)
