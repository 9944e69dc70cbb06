"""The opcode maps of 32-bit x86 as tables: what follows an opcode, and what a monitor has to know about it.

An instruction is laid out as ::

    prefixes      opcode                modrm          sib            displacement   immediate
    0 to 14 of    XX                    mod reg rm     scale index    0, 1, 2, 4     0, 1, 2, 3, 4, 6 bytes
    66 67 f0 f2   0f XX                  7-6 5-3 2-0   base
    f3 26 2e 36   0f 38 XX                              7-6 5-3 2-0
    3e 64 65      0f 3a XX              (only where the maps below say M)

The two maps have a cell for each opcode: ``M`` a modrm byte follows; ``b`` an 8-bit immediate, ``w`` 16-bit, ``z`` 16
or 32 by operand size, ``o`` a 16 or 32-bit address by address size, ``p`` a far pointer (``z`` + selector), ``e``
ENTER's 16 + 8; ``-`` nothing; ``!`` undefined; ``P`` a prefix; ``E`` an escape to another map. Capital ``M`` with
``?``: more must be looked at (``undefined_form`` below).

Source: Intel SDM volume 2, appendix A; AMD APM volume 3, appendix A.
"""

from __future__ import annotations

from enum import IntEnum

ONE_BYTE_MAP = """
     0   1   2   3   4   5   6   7   8   9   a   b   c   d   e   f
00   M   M   M   M   b   z   -   -   M   M   M   M   b   z   -   E
10   M   M   M   M   b   z   -   -   M   M   M   M   b   z   -   -
20   M   M   M   M   b   z   P   -   M   M   M   M   b   z   P   -
30   M   M   M   M   b   z   P   -   M   M   M   M   b   z   P   -
40   -   -   -   -   -   -   -   -   -   -   -   -   -   -   -   -
50   -   -   -   -   -   -   -   -   -   -   -   -   -   -   -   -
60   -   -   E   M   P   P   P   P   z   Mz  b   Mb  -   -   -   -
70   b   b   b   b   b   b   b   b   b   b   b   b   b   b   b   b
80   Mb  Mz  Mb  Mb  M   M   M   M   M   M   M   M   M?  M?  M?  M?
90   -   -   -   -   -   -   -   -   -   -   p   -   -   -   -   -
a0   o   o   o   o   -   -   -   -   b   z   -   -   -   -   -   -
b0   b   b   b   b   b   b   b   b   z   z   z   z   z   z   z   z
c0   Mb  Mb  w   -   E   E   Mb? Mz? e   -   w   -   -   b   -   -
d0   M   M   M   M   b   b   -   -   M?  M?  M?  M?  M?  M?  M?  M?
e0   b   b   b   b   b   b   b   b   z   z   p   b   -   -   -   -
f0   P   -   P   P   -   -   M   M   -   -   -   -   -   -   M?  M?
"""

TWO_BYTE_MAP = """
     0   1   2   3   4   5   6   7   8   9   a   b   c   d   e   f
00   M?  M?  M   M   !   -   -   -   -   -   !   -   !   M?  -   Mb?
10   M?  M?  M?  M?  M?  M?  M?  M?  M   M   M   M   M   M   M   M
20   M?  M?  M?  M?  !   !   !   !   M?  M?  M?  M?  M?  M?  M?  M?
30   -   -   -   -   -   -   !   !   E   !   E   !   !   !   !   !
40   M   M   M   M   M   M   M   M   M   M   M   M   M   M   M   M
50   M?  M?  M?  M?  M?  M?  M?  M?  M?  M?  M?  M?  M?  M?  M?  M?
60   M?  M?  M?  M?  M?  M?  M?  M?  M?  M?  M?  M?  M?  M?  M?  M?
70   Mb? Mb? Mb? Mb? M?  M?  M?  -?  M?  M?  !   !   M?  M?  M?  M?
80   z   z   z   z   z   z   z   z   z   z   z   z   z   z   z   z
90   M   M   M   M   M   M   M   M   M   M   M   M   M   M   M   M
a0   -   -   -   M   Mb  M   !   !   -   -   -   M   Mb  M   M?  M
b0   M   M   M?  M   M?  M?  M   M   M?  M?  Mb? M   M   M   M   M
c0   M   M   Mb? M?  Mb? Mb? Mb? M?  -   -   -   -   -   -   -   -
d0   M?  M?  M?  M?  M?  M?  M?  M?  M?  M?  M?  M?  M?  M?  M?  M?
e0   M?  M?  M?  M?  M?  M?  M?  M?  M?  M?  M?  M?  M?  M?  M?  M?
f0   M?  M?  M?  M?  M?  M?  M?  M?  M?  M?  M?  M?  M?  M?  M?  -
"""

MODRM, CHECK, UNDEFINED_OPCODE, PREFIX, ESCAPE = 1, 2, 4, 8, 16
IMMEDIATE_SHIFT = 5
IMMEDIATES = "-bwzope"
"""A cell is those five flags and, above ``IMMEDIATE_SHIFT``, the index of its immediate in this string."""


def parse_map(text: str) -> tuple[int, ...]:
    """The 256 cells of a map as numbers."""
    cells: list[int] = []
    for row in text.strip().splitlines()[1:]:
        for cell in row.split()[1:]:
            value = 0
            for letter in cell:
                match letter:
                    case "M":
                        value |= MODRM
                    case "?":
                        value |= CHECK
                    case "!":
                        value |= UNDEFINED_OPCODE
                    case "P":
                        value |= PREFIX
                    case "E":
                        value |= ESCAPE
                    case _:
                        value |= IMMEDIATES.index(letter) << IMMEDIATE_SHIFT
            cells.append(value)
    assert len(cells) == 256
    return tuple(cells)


class Kind(IntEnum):
    """What a translator does with an instruction."""

    IDENT = 0
    """Copy it."""
    JCC = 1
    """Direct conditional: Jcc, LOOP, LOOPE, LOOPNE, JECXZ."""
    JMP_REL = 2
    CALL_REL = 3
    JMP_IND = 4
    CALL_IND = 5
    RET = 6
    """Near return, with or without an immediate."""
    FAR = 7
    """May change CS: far CALL, JMP, RET; IRET; INT n, INT3, INT1, INTO; SYSENTER, SYSEXIT, SYSCALL, SYSRET."""
    SENSITIVE = 8
    """Privileged, critical (Robin and Irvine), or asks about the machine (CPUID, RDTSC)."""
    UNDEFINED = 9
    """Raises #UD wherever it runs: an undefined encoding, or UD0, UD1, UD2."""


_J, _S, _F = Kind.JCC, Kind.SENSITIVE, Kind.FAR

ONE_BYTE_KINDS: dict[int, tuple[Kind, str]] = {
    **{0x70 + cc: (_J, "jcc") for cc in range(16)},
    0xE0: (_J, "loopne"), 0xE1: (_J, "loope"), 0xE2: (_J, "loop"), 0xE3: (_J, "jecxz"),
    0xE9: (Kind.JMP_REL, "jmp"), 0xEB: (Kind.JMP_REL, "jmp"), 0xE8: (Kind.CALL_REL, "call"),
    0xC2: (Kind.RET, "ret"), 0xC3: (Kind.RET, "ret"),
    0x9A: (_F, "call far"), 0xEA: (_F, "jmp far"), 0xCA: (_F, "ret far"), 0xCB: (_F, "ret far"),
    0xCF: (_F, "iret"), 0xCD: (_F, "int"), 0xCC: (_F, "int3"), 0xF1: (_F, "int1"), 0xCE: (_F, "into"),
    0x06: (_S, "push seg"), 0x0E: (_S, "push seg"), 0x16: (_S, "push seg"), 0x1E: (_S, "push seg"),
    0x07: (_S, "pop seg"), 0x17: (_S, "pop seg"), 0x1F: (_S, "pop seg"),
    0x8C: (_S, "mov from seg"), 0x8E: (_S, "mov to seg"), 0xC4: (_S, "les"), 0xC5: (_S, "lds"),
    0x9C: (_S, "pushf"), 0x9D: (_S, "popf"), 0xFA: (_S, "cli"), 0xFB: (_S, "sti"), 0xF4: (_S, "hlt"),
    0x6C: (_S, "ins"), 0x6D: (_S, "ins"), 0x6E: (_S, "outs"), 0x6F: (_S, "outs"),
    0xE4: (_S, "in"), 0xE5: (_S, "in"), 0xEC: (_S, "in"), 0xED: (_S, "in"),
    0xE6: (_S, "out"), 0xE7: (_S, "out"), 0xEE: (_S, "out"), 0xEF: (_S, "out"),
}  # fmt: skip
"""Everything in the one-byte map that is not IDENT. The name is the ``op`` of a decoded instruction."""

TWO_BYTE_KINDS: dict[int, tuple[Kind, str]] = {
    **{0x80 + cc: (_J, "jcc") for cc in range(16)},
    0x02: (_S, "lar"), 0x03: (_S, "lsl"), 0x06: (_S, "clts"), 0x08: (_S, "invd"), 0x09: (_S, "wbinvd"),
    0x20: (_S, "mov from cr"), 0x21: (_S, "mov from dr"), 0x22: (_S, "mov to cr"), 0x23: (_S, "mov to dr"),
    0x30: (_S, "wrmsr"), 0x31: (_S, "rdtsc"), 0x32: (_S, "rdmsr"), 0x33: (_S, "rdpmc"), 0xA2: (_S, "cpuid"),
    0xA0: (_S, "push seg"), 0xA8: (_S, "push seg"), 0xA1: (_S, "pop seg"), 0xA9: (_S, "pop seg"),
    0xAA: (_S, "rsm"), 0xB2: (_S, "lss"), 0xB4: (_S, "lfs"), 0xB5: (_S, "lgs"),
    0x05: (_F, "syscall"), 0x07: (_F, "sysret"), 0x34: (_F, "sysenter"), 0x35: (_F, "sysexit"),
    0x0B: (Kind.UNDEFINED, "ud2"), 0xB9: (Kind.UNDEFINED, "ud1"), 0xFF: (Kind.UNDEFINED, "ud0"),
    0x78: (_S, "vmread"), 0x79: (_S, "vmwrite"),
}  # fmt: skip

THREE_BYTE_KINDS: dict[int, tuple[Kind, str]] = {
    0x0F3880: (_S, "invept"), 0x0F3881: (_S, "invvpid"), 0x0F3882: (_S, "invpcid"),
}  # fmt: skip
"""All others of the maps 0f 38 and 0f 3a are IDENT."""

GROUP_9 = {3: "xrstors", 5: "xsaves", 6: "vmptrld", 7: "vmptrst"}
"""``0f c7 /reg`` with a memory operand, those that are sensitive (66 before /6 is VMCLEAR, f3 VMXON)"""

GROUP_5: tuple[tuple[Kind, str], ...] = (
    (Kind.IDENT, ""), (Kind.IDENT, ""), (Kind.CALL_IND, "call"), (_F, "call far"),
    (Kind.JMP_IND, "jmp"), (_F, "jmp far"), (Kind.IDENT, ""), (Kind.UNDEFINED, ""),
)  # fmt: skip
"""``ff /reg``"""

GROUP_6 = ("sldt", "str", "lldt", "ltr", "verr", "verw", "", "")
"""``0f 00 /reg``, all sensitive"""

GROUP_7_MEMORY = ("sgdt", "sidt", "lgdt", "lidt", "smsw", "", "lmsw", "invlpg")
"""``0f 01 /reg`` with a memory operand, all sensitive"""

GROUP_7_REGISTER: dict[int, tuple[Kind, str]] = {
    **dict.fromkeys(range(0xE0, 0xE8), (_S, "smsw")),
    **dict.fromkeys(range(0xF0, 0xF8), (_S, "lmsw")),
    0xC1: (_S, "vmcall"), 0xC2: (_S, "vmlaunch"), 0xC3: (_S, "vmresume"), 0xC4: (_S, "vmxoff"),
    0xC8: (_S, "monitor"), 0xC9: (_S, "mwait"), 0xCA: (_S, "clac"), 0xCB: (_S, "stac"),
    0xD0: (Kind.IDENT, ""), 0xD1: (_S, "xsetbv"), 0xD4: (_S, "vmfunc"),
    0xD8: (_S, "vmrun"), 0xD9: (_S, "vmmcall"), 0xDA: (_S, "vmload"), 0xDB: (_S, "vmsave"),
    0xDC: (_S, "stgi"), 0xDD: (_S, "clgi"), 0xDE: (_S, "skinit"), 0xDF: (_S, "invlpga"),
    0xEE: (Kind.IDENT, ""), 0xEF: (Kind.IDENT, ""), 0xFC: (Kind.IDENT, ""),
    0xF9: (_S, "rdtscp"), 0xFA: (_S, "monitorx"), 0xFB: (_S, "mwaitx"),
}  # fmt: skip
"""``0f 01`` with mod 3, by the whole modrm byte (d0 is XGETBV, ee RDPKRU, ef WRPKRU, fc CLZERO)"""
