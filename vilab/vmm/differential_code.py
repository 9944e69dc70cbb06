"""Random programs as values: a list of choices, each of which becomes one *slot* of a few instructions.

::

    choice   (kind, seed)    kind picks the template, the digits of seed its operands
    (0, 0)                   the simplest there is: so a shrinking test ends at the shortest program of the plainest
                             choices that still fails

Templates are functions of the digits and of the place in the program; they are called twice, for their length first,
then with the addresses of all slots known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vilab.vmm import differential_guest as g
from vilab.x86 import encode as e
from vilab.x86.encode import EAX, EBP, EBX, ECX, EDI, EDX, ESI, ESP
from vilab.x86.validity import lock_allowed

Choice = tuple[int, int]
"""(kind, seed)"""


class Digits:
    """A number as a supply of choices, least significant first; 0 for ever once it is used up."""

    __slots__ = ("_rest",)

    def __init__(self, seed: int) -> None:
        self._rest = seed

    def below(self, count: int) -> int:
        self._rest, digit = divmod(self._rest, count)
        return digit

    def of(self, items: Sequence[int]) -> int:
        self._rest, digit = divmod(self._rest, len(items))
        return items[digit]

    def one_in(self, count: int) -> bool:
        return self.below(count) == count - 1


class Place:
    """Where a slot stands. ``slots`` are the addresses of all slots of its area, the end included."""

    def __init__(self, user: bool) -> None:
        self.user = user
        self.index = 0
        self.slots: list[int] = [0]
        self.other: list[int] = [0]
        """Slots of the other area."""

    @property
    def at(self) -> int:
        return self.slots[self.index]

    @property
    def next(self) -> int:
        return self.slots[min(self.index + 1, len(self.slots) - 1)]

    def target(self, d: Digits) -> int:
        """Mostly a slot a little further on, seldom one before, very seldom the middle of an instruction."""
        far = (1, 2, 3, 1, 4, 6, -1, -2, 0, 1)[d.below(10)]
        at = self.slots[max(0, min(self.index + far, len(self.slots) - 1))]
        return at + (1 if d.one_in(24) else 0)


def u16(value: int) -> bytes:
    return (value & 0xFFFF).to_bytes(2, "little")


def u32(value: int) -> bytes:
    return (value & 0xFFFFFFFF).to_bytes(4, "little")


# Addresses -----------------------------------------------------------------------------------------------------------

_GOOD = (g.DATA_USER, g.LOW_DATA, g.DATA_LAST, g.DATA_USER)
_AREAS = (
    g.DATA_KERNEL, g.READ_USER, g.READ_KERNEL, g.HOLE, g.DATA_KERNEL - 2, g.READ_USER - 2, g.HOLE - 2, g.DATA_LAST - 2,
    g.DATA_LAST + 0xFFE, g.REMAPPED, g.KERNEL_ALIAS, g.USER_ALIAS, g.KERNEL_CODE + 0xFFE, g.USER_CODE + 0xFFE,
    0xFFFFFFFE, 0x0, g.VARIABLES + 0x800, g.GDT + 0x80, g.TSS + 4,
)  # fmt: skip


def address(d: Digits, p: Place) -> int:
    """A linear address: plain data three times of four, else somewhere delicate."""
    kind = d.below(16)
    if kind < 12:
        return d.of(_GOOD) + 4 * d.below(200) + (d.below(4) if kind > 8 else 0)
    if kind < 14:
        return d.of(_AREAS) + d.below(8)
    if kind == 14:
        return code_byte(d, p)
    return (g.USER_STACK if p.user else g.KERNEL_STACK) - 64 + 4 * d.below(24)


def code_byte(d: Digits, p: Place) -> int:
    """A byte of the program, as itself or through the alias, mostly near by."""
    slots = p.slots
    at = slots[max(0, min(p.index + (1, 1, 2, -1, 3, -2, 5, 2)[d.below(8)], len(slots) - 1))] + d.below(8)
    if d.one_in(4):
        if p.user:
            at = at - g.USER_CODE + g.USER_ALIAS if at < g.USER_CODE + 0x1000 else at
        else:
            at = at - g.KERNEL_CODE + g.KERNEL_ALIAS
    return at


_POINTERS = (EBX, ESI, EDI, EBP)
_WORK = (EAX, ECX, EDX, EAX, EBX, EDX, ESI, EDI, EBP)


def work(d: Digits) -> int:
    """A register, seldom ESP."""
    return ESP if d.one_in(60) else d.of(_WORK)


def memory(d: Digits, p: Place, reg: int) -> tuple[bytes, bytes]:
    """(prefix, modrm and what follows) of a memory operand with ``reg`` in the middle."""
    kind = d.below(12)
    field = reg << 3
    prefix = b""
    if d.one_in(12):
        prefix = bytes((d.of((0x3E, 0x36, 0x26, 0x64, 0x65, 0x2E)),))
    if kind < 5:
        return prefix, bytes((0x05 | field,)) + u32(address(d, p))
    if kind < 8:
        return prefix, bytes((0x40 | field | d.of(_POINTERS), d.below(256)))
    if kind == 8:
        return prefix, bytes((0x44 | field, 0x24, d.below(32) * 4 & 0x7F))
    if kind == 9:
        base, index = d.of(_POINTERS), d.of((EAX, ECX, EDX, ESI))
        return prefix, bytes((0x44 | field, d.below(4) << 6 | index << 3 | base, d.below(256)))
    if kind == 10:
        return b"\x67" + prefix, bytes((0x06 | field,)) + u16(
            d.of((g.LOW_DATA, 0x9000, 0xC800, 0xE000)) + d.below(1024)
        )
    return prefix, bytes((0x80 | field | d.of((*_POINTERS, EAX, ECX)),)) + u32(d.below(64) * 4 - 128)


_SHIFTS = frozenset(bytes((opcode,)) for opcode in (0xC0, 0xC1, 0xD0, 0xD1, 0xD2, 0xD3))


def rm(d: Digits, p: Place, reg: int, register_one_in: int = 2) -> tuple[bytes, bytes, bool]:
    """(prefix, modrm..., is memory)"""
    if d.below(register_one_in):
        return *memory(d, p, reg), True
    return b"", bytes((0xC0 | reg << 3 | work(d),)), False


# Plain instructions --------------------------------------------------------------------------------------------------

_BY_RM = (
    *(bytes((op * 8 + form,)) for op in range(8) for form in range(4)),
    b"\x84", b"\x85", b"\x86", b"\x87", b"\x88", b"\x89", b"\x8a", b"\x8b", b"\x8a", b"\x8b", b"\x89", b"\x88",
    b"\x0f\xaf", b"\x0f\xb6", b"\x0f\xb7", b"\x0f\xbe", b"\x0f\xbf", *(bytes((0x0F, 0x40 | cc)) for cc in range(16)),
    b"\x0f\xa3", b"\x0f\xab", b"\x0f\xb3", b"\x0f\xbb", b"\x0f\xa5", b"\x0f\xad", b"\x0f\xbc", b"\x0f\xbd",
    b"\x0f\xc0", b"\x0f\xc1", b"\x0f\xb0", b"\x0f\xb1", b"\x63",
)  # fmt: skip
_NOT_BIT_INDEX = frozenset((b"\x0f\xa3", b"\x0f\xab", b"\x0f\xb3", b"\x0f\xbb"))

_BY_GROUP: tuple[tuple[bytes, tuple[int, ...], int], ...] = (
    (b"\x80", tuple(range(8)), 1), (b"\x81", tuple(range(8)), 4), (b"\x83", tuple(range(8)), 1),
    (b"\xc0", tuple(range(8)), 1), (b"\xc1", tuple(range(8)), 1), (b"\xd0", tuple(range(8)), 0),
    (b"\xd1", tuple(range(8)), 0), (b"\xd2", tuple(range(8)), 0), (b"\xd3", tuple(range(8)), 0),
    (b"\xf6", (0,), 1), (b"\xf7", (0,), 4), (b"\xf6", tuple(range(2, 8)), 0), (b"\xf7", tuple(range(2, 8)), 0),
    (b"\xfe", (0, 1), 0), (b"\xff", (0, 1), 0), (b"\xff", (6,), 0), (b"\x8f", (0,), 0), (b"\xc6", (0,), 1),
    (b"\xc7", (0,), 4), (b"\x69", tuple(range(8)), 4), (b"\x6b", tuple(range(8)), 1), (b"\x0f\xba", (4, 5, 6, 7), 1),
    (b"\x0f\xa4", tuple(range(8)), 1), (b"\x0f\xac", tuple(range(8)), 1), (b"\x0f\x90", (0,), 0),
    (b"\x0f\x9c", (0,), 0),
    (b"\x0f\x96", (0,), 0), (b"\x0f\x1f", (0,), 0),
)  # fmt: skip

_PLAIN = tuple(
    bytes.fromhex(code)
    for code in [
        "90",
        "40",
        "41",
        "42",
        "4b",
        "4d",
        "f8",
        "f9",
        "f5",
        "98",
        "99",
        "9f",
        "9e",
        "27",
        "2f",
        "37",
        "3f",
        "d6",
        "fc",
        "d7",
        "91",
        "92",
        "93",
        "50",
        "51",
        "52",
        "58",
        "59",
        "5a",
        "53",
        "5b",
        "60",
        "61",
        "c9",
        "9b",
        "6698",
        "6699",
        "6640",
        "0fc8",
        "0fc9",
        "0fca",
        "d40a",
        "d50a",
        "d400",
        "d510",
        "c8080000",
        "c8040001",
        "c8100002",
        "f390",
        "54",
        "6650",
        "6658",
        "0fa2",
    ]
)

_IMMEDIATES = (0, 1, 0xFF, 0x7F, 0x80, 0x8000, 0xFFFFFFFF, 0x80000000, 0x7FFFFFFF, 31, 32, 33, 0x1234)


def immediate(d: Digits, size_bytes: int) -> bytes:
    value = d.of(_IMMEDIATES) if d.below(3) else d.below(1 << 32)
    return (value & (1 << 8 * size_bytes) - 1).to_bytes(size_bytes, "little")


def plain(d: Digits, _p: Place) -> bytes:
    return d.of(_PLAIN)  # type: ignore[arg-type, return-value]


def by_rm(d: Digits, p: Place) -> bytes:
    """An instruction with a register and a register or memory operand."""
    opcode: bytes = _BY_RM[d.below(len(_BY_RM))]
    reg = work(d)
    prefix, operand, in_memory = rm(d, p, reg)
    if in_memory and opcode in _NOT_BIT_INDEX and d.below(4):
        return prefix + b"\x0f\xba" + bytes((operand[0] | 0x20,)) + operand[1:] + b"\x05"
    if d.one_in(8):
        prefix += b"\x66"
    if in_memory and d.one_in(12) and lock_allowed(int.from_bytes(opcode, "big"), operand[0]):
        prefix += b"\xf0"
    return prefix + opcode + operand


def by_group(d: Digits, p: Place) -> bytes:
    opcode, regs, size = _BY_GROUP[d.below(len(_BY_GROUP))]
    reg = d.of(regs)
    through_carry = opcode in _SHIFTS and reg in (2, 3)  # see ACCEPTED: with memory the processor itself is wrong
    prefix, operand, in_memory = rm(d, p, reg, 1 if through_carry else 2)
    if d.one_in(8):
        prefix += b"\x66"
        size = min(size, 2)
    if in_memory and d.one_in(16) and lock_allowed(int.from_bytes(opcode, "big"), operand[0]):
        prefix += b"\xf0"
    return prefix + opcode + operand + immediate(d, size)


def load_immediate(d: Digits, _p: Place) -> bytes:
    return bytes((0xB8 | d.of(_WORK),)) + immediate(d, 4)


def load_pointer(d: Digits, p: Place) -> bytes:
    return bytes((0xB8 | d.of(_POINTERS),)) + u32(address(d, p))


def absolute(d: Digits, p: Place) -> bytes:
    prefix = b"\x66" if d.one_in(6) else b""
    return prefix + bytes((0xA0 | d.below(4),)) + u32(address(d, p))


def lea(d: Digits, p: Place) -> bytes:
    prefix, operand = memory(d, p, d.of(_WORK))
    return prefix + b"\x8d" + operand


def string(d: Digits, p: Place) -> bytes:
    """Pointers, a small counter, a direction, and a string instruction with or without repetition."""
    code = bytearray()
    code += b"\xbe" + u32(address(d, p)) + b"\xbf" + u32(address(d, p))
    code += e.mov_reg_imm(ECX, (2, 0, 1, 3, 5, 17)[d.below(6)])
    code += (b"", b"\xfc", b"\xfd")[d.below(3)]
    code += (b"\xf3", b"", b"\xf2", b"\xf3\x66", b"\x66")[d.below(5)]
    code += bytes((d.of((0xA4, 0xA5, 0xAA, 0xAB, 0xA6, 0xA7, 0xAC, 0xAD, 0xAE, 0xAF)),))
    if code[-1] in (0xA6, 0xA7, 0xAE, 0xAF) or d.below(2):
        code += b"\xfc"
    return bytes(code)


def divide(d: Digits, _p: Place) -> bytes:
    """Small dividends, so that not every division faults."""
    code = e.mov_reg_imm(EDX, d.below(3)) + e.mov_reg_imm(EBX, d.below(5))
    return code + bytes((0xF7, 0xF0 | d.below(2) << 3 | EBX))


def stack_again(d: Digits, p: Place) -> bytes:
    """ESP to a sane place, sometimes to the edge of a page or an odd address."""
    top = g.USER_STACK if p.user else g.KERNEL_STACK
    return e.mov_reg_imm(ESP, top + (0, 0, 0, 1, 2, -0x7F8, 0x7F8, -0x800, 0x100)[d.below(9)])


def alter_pointer(d: Digits, p: Place) -> bytes:
    """ESP to a delicate place for one instruction or two, then back."""
    top = g.USER_STACK if p.user else g.KERNEL_STACK
    places = (g.HOLE + 2, g.READ_USER + 0x10, g.DATA_USER + 4, g.DATA_USER, g.HOLE - 2, g.READ_USER, g.READ_KERNEL + 4)
    place = code_byte(d, p) if d.one_in(8) else d.of(places)
    inner = (
        b"\x9c",
        b"\x9d",
        b"\x50",
        b"\x58",
        b"\x9c\x9d",
        b"\x60",
        b"\xc3",
        b"\xe8\0\0\0\0",
        b"\x0e",
        b"\x06",
        b"\x0f\xa1",
    )
    code = e.mov_reg_imm(ESP, place) + inner[d.below(len(inner))]
    return code + e.mov_reg_imm(ESP, top)


# Control flow --------------------------------------------------------------------------------------------------------


def jump_if(d: Digits, p: Place) -> bytes:
    condition, short = d.below(16), d.one_in(3)
    target = p.target(d)
    if short:
        return bytes((0x70 | condition, target - p.at - 2 & 0xFF))
    if d.one_in(10):
        return b"\x66\x0f" + bytes((0x80 | condition,)) + u16(target - p.at - 5)
    return e.jcc(condition, p.at, target)


def jump(d: Digits, p: Place) -> bytes:
    target = p.target(d)
    kind = d.below(8)
    if kind == 0:
        return bytes((0xEB, target - p.at - 2 & 0xFF))
    if kind == 1:
        return b"\x66\xe9" + u16(target - p.at - 4)
    if kind < 4:
        return e.jmp(p.at, target)
    if kind == 4:
        reg = d.of((EAX, ECX, EDX, EBX, ESI, EBP))
        return e.mov_reg_imm(reg, target) + (b"\x66" if d.one_in(8) else b"") + bytes((0xFF, 0xE0 | reg))
    if kind == 5:
        return b"\x68" + u32(target) + b"\xff\x24\x24"  # jmp [esp]
    if kind == 6:
        at = g.DATA_USER + 0x300
        return b"\xc7\x05" + u32(at) + u32(target) + b"\xff\x25" + u32(at)
    at = address(d, p)
    return b"\xff\x25" + u32(at)


def loop(d: Digits, p: Place) -> bytes:
    """A LOOP of its own, and sometimes one to another slot."""
    count = e.mov_reg_imm(ECX, 1 + d.below(6))
    if d.below(3):
        body = (b"\x40", b"\x01\xc3", b"\x90\x42", b"\x50\x58", b"\x9c\x9d")[d.below(5)]
        return count + body + bytes((d.of((0xE2, 0xE2, 0xE1, 0xE0)), -len(body) - 2 & 0xFF))
    prefix = b"\x67" if d.one_in(6) else b""
    at = p.at + len(count) + len(prefix)
    return count + prefix + bytes((d.of((0xE3, 0xE2, 0xE1, 0xE0)), p.target(d) - at - 2 & 0xFF))


def call(d: Digits, p: Place) -> bytes:
    target, kind = p.target(d), d.below(9)
    if kind < 2:
        return e.call(p.at, target)
    if kind == 2:
        return e.call(p.at, p.at + 5) + b"\x58"  # call next; pop eax
    if kind == 3:
        return e.mov_reg_imm(EDX, target) + b"\xff\xd2"
    if kind == 4:
        at = g.DATA_USER + 0x304
        return b"\xc7\x05" + u32(at) + u32(target) + b"\xff\x15" + u32(at)
    if kind == 5:
        return b"\x68" + u32(target) + b"\xff\x14\x24"  # call [esp]
    if kind == 6:
        return b"\x66\xe8" + u16(target - p.at - 4)
    if kind == 7:
        return b"\xff\x15" + u32(address(d, p))
    # A real function: call over it, and it returns.
    body = (b"\x40\xc3", b"\x42\xc2\x00\x00", b"\x9c\x9d\xc3", b"\xff\x04\x24\xff\x0c\x24\xc3")[d.below(4)]
    return e.jmp_short(0, 2 + len(body)) + body + e.call(p.at + 2 + len(body), p.at + 2)


def ret(d: Digits, p: Place) -> bytes:
    target, kind = p.target(d), d.below(6)
    if kind == 0:
        return b"\xc3"
    if kind < 3:
        return b"\x68" + u32(target) + b"\xc3"
    if kind == 3:
        return b"\x68" + u32(target) + b"\xc2" + u16(4 * d.below(3))
    if kind == 4:
        return b"\x66\x68" + u16(target) + b"\x66\xc3"
    return b"\x68" + u32(target) + b"\xf3\xc3"


# Flags ---------------------------------------------------------------------------------------------------------------

_FLAG_BITS = (0, 0x200, 0x8D5, 0x400, 0x100, 0x3000, 0x1000, 0x4000, 0x40000, 0x200000, 0x3200, 0x10000, 0x80000)


def flags(d: Digits, p: Place) -> bytes:
    kind = d.below(10)
    if kind < 2:
        return (b"\xfb", b"\xfa")[kind]
    if kind == 2:
        return b"\x9c" + bytes((0x58 | d.of(_WORK),))
    if kind == 3:
        return b"\x9c\x9d"
    if kind == 4:
        return (b"\xfb\xfa", b"\xfb\xfb", b"\xfb\x90\xfa", b"\x66\x9c\x66\x9d")[d.below(4)]
    if kind == 5:
        return b"\xfb" + e.jcc(d.below(16), p.at + 1, p.target(d))
    value = 2 | d.of(_FLAG_BITS) | (d.of(_FLAG_BITS) if d.one_in(2) else 0)
    if kind == 6:
        return b"\x66\x68" + u16(value) + b"\x66\x9d"
    return b"\x68" + u32(value) + b"\x9d"


def trap_flag(_d: Digits, _p: Place) -> bytes:
    """Single steps for some instructions: the handler takes TF away."""
    return b"\x9c\x80\x4c\x24\x01\x01\x9d"


# Memory that is code -------------------------------------------------------------------------------------------------

_PATCHES = (0x90, 0x40, 0x42, 0x4A, 0xF8, 0xF9, 0xF5, 0xFC, 0x98, 0x99, 0x9F, 0xC3, 0xCC, 0x0F, 0x48, 0x41)


def modify(d: Digits, p: Place) -> bytes:
    at, kind = code_byte(d, p), d.below(7)
    if kind < 3:
        return b"\xc6\x05" + u32(at) + bytes((d.of(_PATCHES),))
    if kind == 3:
        patch = bytes(d.of(_PATCHES) for _ in range(4))
        return b"\xc7\x05" + u32(at) + patch
    if kind == 4:
        return b"\xfe\x05" + u32(at)
    if kind == 5:
        # The immediate of an instruction just behind.
        code = b"\x80\x35" + u32(p.at + 8) + bytes((d.below(256),))
        return code + b"\xb0" + bytes((d.below(256),))
    reg = d.of((EAX, ECX, EDX))
    return bytes((0x89, 0x05 | reg << 3)) + u32(at)


def modify_ahead(d: Digits, p: Place) -> bytes:
    """Run a piece of code, change it, run it again."""
    body = bytes((0x40, d.of((0x42, 0x4A, 0xF9)), 0xC3))
    start = 2
    code = e.jmp_short(0, 2 + len(body)) + body
    code += e.call(p.at + len(code), p.at + start)
    code += b"\xc6\x05" + u32(p.at + start + d.below(2)) + bytes((d.of((0x41, 0x90, 0x48, 0xF8, 0xC3)),))
    return code + e.call(p.at + len(code), p.at + start)


def copy_code(d: Digits, p: Place) -> bytes:
    """Copy a later slot's first bytes over another place, with REP MOVS."""
    source = p.target(d)
    code = b"\xbe" + u32(source) + b"\xbf" + u32(code_byte(d, p)) + e.mov_reg_imm(ECX, 1 + d.below(6))
    return code + b"\xfc\xeb\x00\xf3\xa4"


def remap(d: Digits, _p: Place) -> bytes:
    """Another page where code was called, with INVLPG or CR3; called before and after."""
    called = e.mov_reg_imm(EDX, g.REMAPPED) + b"\xff\xd2"
    entry = (g.FUNCTIONS + 0x1000 * d.below(2)) | (7, 7, 7, 5, 3, 6)[d.below(6)] | 0x60
    change = b"\xc7\x05" + u32(g.REMAPPED_ENTRY) + u32(entry)
    # The privileged instruction also comes first, so that outside ring 0 the entry is not changed and then not flushed.
    if d.below(2):
        before = after = b"\x0f\x01\x3d" + u32(g.REMAPPED)
    else:
        before, after = b"\x0f\x20\xd9", b"\x0f\x22\xd9"
    return (called if d.below(3) else b"") + before + change + after + (called if d.below(3) else b"")


# Segments ------------------------------------------------------------------------------------------------------------

_KERNEL_SELECTORS = (
    g.KERNEL_DS, g.KERNEL_DS, g.USER_DS, 0, g.SHIFTED_DS, g.USER_SHIFTED, g.READ_ONLY, g.EXPAND_DOWN, g.FRESH, g.ABSENT,
    g.EXECUTE_ONLY, g.KERNEL_CS, g.CONFORMING, g.TASK, 0x3, 0x04, 0x0F, 0x1C, 0x24, 0x13, 0xFFF8, 0xF8, g.CALL_GATE,
)  # fmt: skip
_USER_SELECTORS = (
    g.USER_DS,
    g.USER_DS,
    0,
    g.USER_SHIFTED,
    0x20,
    g.KERNEL_DS,
    0x0F,
    g.CONFORMING | 3,
    g.ABSENT | 3,
    0xFB,
)


def selectors(p: Place) -> tuple[int, ...]:
    return _USER_SELECTORS if p.user else _KERNEL_SELECTORS


def load_segment(d: Digits, p: Place) -> bytes:
    value, kind = d.of(selectors(p)), d.below(5)
    index = d.of((4, 5, 0, 4, 5, 3))
    back = b"" if index > 3 or d.one_in(8) else e.mov_reg_imm(EAX, p_data(p)) + bytes((0x8E, 0xC0 | index << 3))
    if kind < 2:
        return e.mov_reg_imm(EAX, value) + bytes((0x8E, 0xC0 | index << 3)) + back
    push = b"\x68" + u32(value)
    if kind == 2:
        pop = {0: b"\x07", 3: b"\x1f", 4: b"\x0f\xa1", 5: b"\x0f\xa9"}[index]
        return push + pop + back
    if kind == 3:
        return push + bytes((0x8E, 0x04 | index << 3, 0x24)) + b"\x58" + back  # mov seg, [esp]; pop eax
    at = g.DATA_USER + 0x320
    opcode = {0: b"\xc4", 3: b"\xc5", 4: b"\x0f\xb4", 5: b"\x0f\xb5"}[index]
    return b"\xc7\x05" + u32(at + 4) + u32(value) + opcode + bytes((0x05 | d.of(_WORK[:3]) << 3,)) + u32(at) + back


def p_data(p: Place) -> int:
    return g.USER_DS if p.user else g.KERNEL_DS


def load_stack_segment(d: Digits, p: Place) -> bytes:
    """SS, and back to the flat one soon."""
    flat = e.mov_reg_imm(EAX, p_data(p)) + b"\x8e\xd0"
    if p.user:
        return flat + b"\x90"
    value = d.of((g.KERNEL_DS, g.SMALL_STACK, g.SHIFTED_DS, 0x04, 0, g.USER_DS, g.ABSENT, g.FRESH))
    inner = (b"\x50\x58", b"\x9c\x9d", b"\xe8\0\0\0\0\x59", b"\x0e\x59", b"\xfa\xfb", b"\x55\x89\xe5\xc9", b"\x60\x61")
    top = g.KERNEL_STACK - (g.SHIFT if value in (g.SHIFTED_DS,) else 0)
    load = e.mov_reg_imm(EAX, value) + b"\x8e\xd0" if d.below(2) else b"\x68" + u32(value) + b"\x17"
    code = load + (e.mov_reg_imm(ESP, top) if d.below(3) else b"") + inner[d.below(len(inner))]
    return code + flat + (e.mov_reg_imm(ESP, g.KERNEL_STACK) if d.below(3) else b"")


def read_segment(d: Digits, _p: Place) -> bytes:
    kind = d.below(4)
    if kind == 0:
        return bytes((0x8C, 0xC0 | d.below(6) << 3 | d.of(_WORK)))
    if kind == 1:
        return bytes((0x8C, 0x05 | d.below(6) << 3)) + u32(g.DATA_USER + 0x330)
    push = (b"\x0e", b"\x16", b"\x1e", b"\x06", b"\x0f\xa0", b"\x0f\xa8")[d.below(6)]
    if kind == 2:
        return push + b"\x5a"
    return b"\x66" + push + b"\x66\x5a"


def inspect(d: Digits, p: Place) -> bytes:
    """LAR LSL VERR VERW ARPL."""
    code = e.mov_reg_imm(EDX, d.of(selectors(p)))
    kind = d.below(5)
    if kind < 2:
        return code + bytes((0x0F, 2 + kind, 0xC0 | d.of((EAX, EBX, ESI)) << 3 | EDX))
    if kind < 4:
        return code + bytes((0x0F, 0x00, 0xE2 if kind == 2 else 0xEA))
    return code + b"\x89\x15" + u32(g.DATA_USER + 0x340) + b"\x0f\x02\x0d" + u32(g.DATA_USER + 0x340)


def system(d: Digits, p: Place) -> bytes:
    """System registers, read and written with values that the program survives."""
    kind = d.below(20)
    if p.user and kind in (0, 1, 2, 3, 4):
        kind = 5
    at = g.DATA_USER + 0x350
    reg = d.of((EAX, ECX, EDX))
    match kind:
        case 0:
            return bytes((0x0F, 0x01, 0x05 | d.below(2) << 3)) + u32(at if d.below(4) else address(d, p))
        case 1:
            return bytes((0x0F, 0x00, 0xC0 | d.below(2) << 3 | reg))
        case 2:
            return bytes((0x0F, 0x00, 0x05 | d.below(2) << 3)) + u32(at)
        case 3:
            return bytes((0x0F, 0x01, 0xE0 | reg)) if d.below(2) else b"\x0f\x01\x25" + u32(at)
        case 4:
            table = d.below(2) << 3
            return bytes((0x0F, 0x01, 0x05 | table)) + u32(at) + bytes((0x0F, 0x01, 0x15 | table)) + u32(at)
        case 5 | 6:
            return bytes((0x0F, 0x20, 0xC0 | d.of((0, 2, 3, 4)) << 3 | reg))
        case 7:
            return b"\x0f\x20\xd8\x0f\x22\xd8"
        case 8:
            bit = d.of((0x8, 0x10000, 0x20, 0x4, 0x80000000, 0x8))
            return b"\x0f\x20\xc0\x35" + u32(bit) + b"\x0f\x22\xc0"
        case 9:
            return b"\x0f\x20\xe0\x35" + u32(d.of((0x10, 0x4, 0x200, 0x8))) + b"\x0f\x22\xe0"
        case 10:
            return b"\x0f\x06"
        case 11:
            return e.mov_reg_imm(EAX, d.of((0x1, 0xB, 0x5, 0x9, 0x0)) | 1) + b"\x0f\x01\xf0"
        case 12:
            return b"\x0f\x01\x3d" + u32(address(d, p))
        case 13:
            return (b"\x0f\x08", b"\x0f\x09")[d.below(2)]
        case 14:
            return e.mov_reg_imm(EAX, d.of((0, 1, 2, 0x80000000))) + b"\x0f\xa2"
        case 15:
            return e.mov_reg_imm(EAX, d.of((g.LOCAL, 0, g.KERNEL_DS, g.TASK, 0xFFF8))) + b"\x0f\x00\xd0"
        case 16:
            return e.mov_reg_imm(EAX, d.of((g.IDLE_TASK, g.TASK, g.LOCAL))) + b"\x0f\x00\xd8"
        case 17:
            return e.mov_reg_imm(EAX, d.below(1 << 16)) + bytes((0x0F, 0x22, 0xD0))  # mov cr2, eax
        case 18:
            return (b"\x0f\x0b", b"\x0f\xff\xc0", b"\xf0\x90", b"\x8e\xc8", b"\xc7\xc8\0\0\0\0")[d.below(5)]
        case _:
            return (
                bytes((0xE4 | d.below(4),)) + b"\x80" if d.below(2) else b"\xba\xed\0\0\0" + bytes((0xEC | d.below(4),))
            )


def string_io(d: Digits, p: Place) -> bytes:
    code = b"\xba\x80\0\0\0" + bytes((0xBE | d.below(2),)) + u32(address(d, p)) + b"\xbf" + u32(address(d, p))
    code += e.mov_reg_imm(ECX, d.below(4)) + b"\xfc"
    return code + (b"\xf3", b"")[d.below(2)] + bytes((0x6C | d.below(4),))


def interrupt(d: Digits, _p: Place) -> bytes:
    kind = d.below(7)
    if kind < 3:
        return (b"\xcc", b"\xcd\x81", b"\xce")[kind]
    if kind == 3:
        return bytes((0xCD, d.of((0x82, 0x85, 0x86, 0x20, 0x90, 3, 0x31, 0xFF))))
    if kind == 4:
        return b"\xb0\x7f\x04\x01\xce"  # overflow, then INTO
    if kind == 5:
        at = g.DATA_USER + 0x360
        code = b"\xc7\x05" + u32(at) + u32(0) + b"\xc7\x05" + u32(at + 4) + u32(5)
        return code + b"\x62\x05" + u32(at)  # bound eax, [at]
    return b"\xdb\xe3\xd9\xe8" + b"\xdd\x1d" + u32(g.DATA_USER + 0x368)  # fninit; fld1; fstp


def far(d: Digits, p: Place) -> bytes:
    target = p.next
    flat = g.USER_CS if p.user else g.KERNEL_CS
    odd = d.of((flat, flat, 0, g.ABSENT_CODE, g.KERNEL_DS, g.CONFORMING, g.RING1_CS, g.TASK | 3, 0x14, 0x8))
    match d.below(8):
        case 0:
            return b"\xea" + u32(target) + u16(odd)
        case 1:
            return b"\x9a" + u32(target) + u16(odd)
        case 2:
            return b"\x68" + u32(odd) + b"\x68" + u32(target) + (b"\xcb", b"\xca\x04\x00")[d.below(2)]
        case 3:
            return b"\x9a\0\0\0\0" + u16(g.CALL_GATE | (3 if p.user else 0))
        case 4:
            return b"\x9c\x68" + u32(odd) + b"\x68" + u32(target) + b"\xcf"
        case 5:
            at = g.DATA_USER + 0x370
            store = b"\xc7\x05" + u32(at) + u32(target) + b"\xc7\x05" + u32(at + 4) + u32(odd)
            return store + b"\xff" + bytes((0x2D - d.below(2) * 0x10,)) + u32(at)
        case 6 if not p.user:
            # Through a segment with another base, and back.
            start = p.at + 7 - g.SHIFT
            inner = (
                b"\x40",
                b"\x0e\x58",
                b"\xe8\0\0\0\0\x58",
                b"\x9c\x9d",
                b"\x8c\xc8",
                b"\x2e\xa1" + u32(g.DATA_USER - g.SHIFT),
            )
            back = b"\xea" + u32(target) + u16(flat)
            return b"\xea" + u32(start) + u16(g.SHIFTED_CS) + inner[d.below(6)] + back
        case _:
            return b"\x0e\x68" + u32(target) + b"\xcb"


def enter_ring(d: Digits, p: Place) -> bytes:
    """From ring 0 by IRET to the user program (or ring 1); INT 80h comes back. In ring 3: INT 80h."""
    if p.user:
        return b"\xcd\x80"
    value = 2 | d.of((0x200, 0, 0x200, 0x3200, 0x200, 0x100, 0x3000))
    resume = b"\xc7\x05" + u32(g.KRESUME) + u32(p.next)
    if d.one_in(5):
        frame = (g.RING1_DS, g.KERNEL_STACK - 0x400, value, g.RING1_CS, p.next)
    else:
        frame = (g.USER_DS, g.USER_STACK, value, g.USER_CS, p.other[d.below(len(p.other))])
    code = b"".join(b"\x68" + u32(word) for word in frame)
    if d.one_in(6):
        # Data segments of ring 0 become null on the way.
        return resume + code + b"\xcf"
    return resume + e.mov_reg_imm(EAX, g.USER_DS) + b"\x8e\xd8\x8e\xc0" + code + b"\xcf"


def floating(d: Digits, p: Place) -> bytes:
    at = g.DATA_USER + 0x380
    return (
        b"\xdb\xe3\xd9\xe8\xd9\xeb\xde\xc1\xdf\xe0",
        b"\xdb\xe3\xd9\xee\xd9\x3d" + u32(at),
        b"\xdb\xe3\xdb\x05" + u32(address(d, p)) + b"\xdd\x1d" + u32(at),
        b"\x0f\x6e\xc8\x0f\xfe\xc9\x0f\x7e\xca\x0f\x77",
        b"\x66\x0f\x6e\xc0\x66\x0f\xfe\xc0\x66\x0f\x7e\xc2",
        b"\x0f\x57\xc0",
    )[d.below(6)]


def raw(d: Digits, _p: Place) -> bytes:
    """Any bytes at all."""
    return bytes(d.below(256) for _ in range(1 + d.below(7)))


def halt(d: Digits, _p: Place) -> bytes:
    return (b"\xfa\x90", b"\xfb\x90", b"\xf4", b"\xfb\xf4")[d.below(4)]


Template = Callable[[Digits, Place], bytes]

TEMPLATES: tuple[tuple[Template, int], ...] = (
    (plain, 10), (by_rm, 16), (by_group, 14), (load_immediate, 4), (load_pointer, 5), (absolute, 3), (lea, 3),
    (string, 4), (divide, 2), (stack_again, 4), (alter_pointer, 3), (jump_if, 8), (jump, 6), (loop, 4), (call, 6),
    (ret, 4), (flags, 8), (trap_flag, 1), (modify, 5), (modify_ahead, 2), (copy_code, 2), (remap, 3), (load_segment, 5),
    (load_stack_segment, 3), (read_segment, 3), (inspect, 3), (system, 8), (string_io, 1), (interrupt, 3), (far, 4),
    (enter_ring, 6), (floating, 2), (raw, 3), (halt, 1),
)  # fmt: skip
"""(template, weight): how often, among ``KINDS``."""

_BY_KIND: tuple[Template, ...] = tuple(template for template, weight in TEMPLATES for _ in range(weight))
KINDS = len(_BY_KIND)


def kind_template(kind: int) -> Template:
    """The template that a choice's kind stands for."""
    return _BY_KIND[kind % KINDS]


KERNEL_END = b"\xfa\xf4\xeb\xfc"  # cli; hlt; jmp back
USER_END = b"\xcd\x80\xeb\xfc"


class Program:
    """Both areas, laid out. ``kernel`` and ``user`` are (address, bytes); ``*_slots`` the addresses of slots."""

    def __init__(self, kernel: Sequence[Choice], user: Sequence[Choice], kernel_at: int, user_at: int) -> None:
        inside, outside = Place(user=False), Place(user=True)
        lengths = [
            [len(_slot(choice, place)) for choice in area] for area, place in ((kernel, inside), (user, outside))
        ]
        for place, sizes, at in ((inside, lengths[0], kernel_at), (outside, lengths[1], user_at)):
            place.slots = [at]
            for size in sizes:
                place.slots.append(place.slots[-1] + size)
        inside.other, outside.other = outside.slots, inside.slots
        self.kernel_slots, self.user_slots = inside.slots, outside.slots
        self.kernel = (kernel_at, _lay_out(kernel, inside) + KERNEL_END)
        self.user = (user_at, _lay_out(user, outside) + USER_END)


def _slot(choice: Choice, place: Place) -> bytes:
    return kind_template(choice[0])(Digits(choice[1]), place)


def _lay_out(area: Sequence[Choice], place: Place) -> bytes:
    out = bytearray()
    for index, choice in enumerate(area):
        place.index = index
        out += _slot(choice, place)
    return bytes(out)
