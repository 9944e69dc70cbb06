"""The bytes of a statement in a form that fits.

::

    prefixes   66 67   opcode   modrm: mod reg rm   sib: scale index base   displacement   immediates

    rm 100 means a SIB byte follows; mod 00 with rm (or base) 101 a displacement of 32 bits and no base; so [ebp] needs
    a displacement of 0, [esp] a SIB byte, and ESP cannot be an index.

Source: Intel SDM volume 2, section 2.1.5.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import msgspec

from vilab.x86.assemble_forms import Form
from vilab.x86.assemble_match import Context, signed
from vilab.x86.assemble_text import REGISTERS, FarPointer, Linear, Memory, Number, Register, Statement
from vilab.x86.assemble_tokens import AssemblyError

SEGMENT_PREFIXES = {"es": 0x26, "cs": 0x2E, "ss": 0x36, "ds": 0x3E, "fs": 0x64, "gs": 0x65}
PAIRS_16 = {
    frozenset(names.split()): number
    for number, names in enumerate(("bx si", "bx di", "bp si", "bp di", "si", "di", "bp", "bx"))
}  # fmt: skip


class OutOfReach(Exception):
    """A short jump is too far from its target. ``size``: what the instruction takes up."""

    def __init__(self, distance: int, size: int) -> None:
        self.distance, self.size = distance, size
        super().__init__(distance)


def string_prefixes(statement: Statement) -> bytes:
    """Operands of a string instruction, written out: checked, and turned into prefixes."""
    out, narrow = b"", False
    for operand in statement.operands:
        if isinstance(operand, Register) and operand.name in ("al", "ax", "eax", "dx"):
            continue
        names = [name for name, _ in operand.place.registers] if isinstance(operand, Memory) else []
        if not isinstance(operand, Memory) or names not in (["esi"], ["edi"], ["si"], ["di"]) or operand.place.constant:
            problem = f"{statement.operation} works on [esi] and es:[edi], and on nothing else"
            raise AssemblyError(statement.line, operand.column, problem)
        source = names[0][-2:] == "si"
        if source and operand.segment is not None:
            out += bytes((SEGMENT_PREFIXES[operand.segment],))
        if not source and operand.segment not in (None, "es"):
            raise AssemblyError(statement.line, operand.column, "[edi] is always in ES here")
        narrow = narrow or len(names[0]) == 2
    return out + b"\x67" * narrow


def encode(form: Form, statement: Statement, operands: tuple[object, ...], operand_bits: int, context: Context,
           prefixes: bytes) -> bytes:  # fmt: skip
    """The bytes of a statement in a form that fits. Raises ``OutOfReach``, and ``AssemblyError`` for an address."""
    address = _Address()
    reg = rm = 0
    immediates: list[int] = []
    target = 0
    far = (0, 0)
    for pattern, operand in zip(form.operands, operands, strict=True):
        if isinstance(operand, Register):
            if pattern[:2] == "rm" or pattern[0] == "R":
                rm = operand.number
                address = _Address(3, rm)
            elif pattern not in ("al", "av", "cl", "dx", "eax", "ecx"):
                reg = operand.number
        elif isinstance(operand, Memory):
            address = _address(operand, statement, context)
        elif isinstance(operand, Number):
            target = operand.amount.value(context.lookup)
            if pattern in ("imm8", "imm16", "immv", "simm8"):
                immediates.append(target)
        elif isinstance(operand, FarPointer):
            far = (operand.selector.value(context.lookup), operand.offset.value(context.lookup))
    opcode = bytearray()
    tail = b""
    for word in form.encoding:
        match word:
            case "/r":
                tail += address.bytes(reg)
            case "/rr":
                tail += bytes((0xC0 | reg << 3 | reg,))
            case "+r":
                opcode[-1] += reg
            case "ib":
                tail += bytes((immediates.pop(0) & 0xFF,))
            case "iw":
                tail += (immediates.pop(0) & 0xFFFF).to_bytes(2, "little")
            case "iv":
                tail += (immediates.pop(0) & (1 << operand_bits) - 1).to_bytes(operand_bits // 8, "little")
            case "ov":
                tail += address.displacement.to_bytes(4, "little")
            case "fp":
                tail += _far_pointer(far, statement)
            case "j8" | "j32":
                pass
            case _:
                if word[0] == "/":
                    tail += address.bytes(int(word[1]))
                else:
                    opcode.append(int(word, 16))
    front = bytearray(prefixes)
    if address.segment:
        front.append(SEGMENT_PREFIXES[address.segment])
    if address.bits == 16:
        front.append(0x67)
    if form.variable and operand_bits == 16:
        front.append(0x66)
    code = bytes(front + opcode) + tail
    if form.encoding and form.encoding[-1] in ("j8", "j32"):
        short = form.encoding[-1] == "j8"
        distance = signed(target - context.here - len(code) - (1 if short else 4), 32)
        if short and not -128 <= distance <= 127:
            raise OutOfReach(distance, len(code) + 1)
        code += struct.pack("b" if short else "<i", distance)
    return code


def _far_pointer(far: tuple[int, int], statement: Statement) -> bytes:
    selector, offset = far
    if not 0 <= selector <= 0xFFFF:
        raise AssemblyError(statement.line, statement.operands[0].column, f"{selector:#x} is no selector: 0 to 0xffff")
    return (offset & 0xFFFF_FFFF).to_bytes(4, "little") + selector.to_bytes(2, "little")


class _Address(msgspec.Struct):
    """modrm without its reg field, and what follows it."""

    mod: int = 0
    rm: int = 0
    sib: int | None = None
    displacement: int = 0
    width: int = 0
    segment: str | None = None
    bits: int = 32

    def bytes(self, reg: int) -> bytes:
        out = bytes((self.mod << 6 | reg << 3 | self.rm,))
        if self.sib is not None:
            out += bytes((self.sib,))
        return out + (self.displacement & (1 << 8 * self.width) - 1).to_bytes(self.width, "little")


def _address(operand: Memory, statement: Statement, context: Context) -> _Address:
    place = operand.place

    def fail(problem: str) -> AssemblyError:
        return AssemblyError(statement.line, operand.column, problem)

    value = place.value(context.lookup)
    if not -(1 << 31) <= value < 1 << 32:
        raise fail(f"the displacement {value} does not fit into 32 bits")
    if not place.registers:
        return _Address(0, 5, None, value & 0xFFFF_FFFF, 4, operand.segment)
    kinds = {REGISTERS[name][0] for name, _ in place.registers}
    if kinds == {"r16"}:
        return _address_16(operand, place, value, fail)
    if kinds != {"r32"}:
        raise fail("an address mixes 16 and 32-bit registers")
    base, index, scale = _base_and_index(place, fail)
    offset = signed(value, 32)
    result = _Address(displacement=value & 0xFFFF_FFFF, segment=operand.segment)
    if base is None:
        result.mod, result.width = 0, 4
    elif place.symbols or not -128 <= offset <= 127:
        result.mod, result.width = 2, 4
    elif offset or base == 5:
        result.mod, result.width = 1, 1
    if index is None and base != 4:
        result.rm = base if base is not None else 5
    else:
        result.rm = 4
        shift = {1: 0, 2: 1, 4: 2, 8: 3}[scale]
        result.sib = shift << 6 | (4 if index is None else index) << 3 | (5 if base is None else base)
    return result


def _base_and_index(place: Linear, fail: Callable[[str], AssemblyError]) -> tuple[int | None, int | None, int]:
    """(base, index, scale) as register numbers."""
    parts = [(REGISTERS[name][1], factor) for name, factor in place.registers]
    if len(parts) > 2:
        raise fail("an address has at most two registers: [base + index*scale + displacement]")
    if any(factor not in (1, 2, 4, 8) for _, factor in parts):
        raise fail("a register in an address can be taken 1, 2, 4 or 8 times")
    scaled = [part for part in parts if part[1] > 1]
    if len(scaled) > 1:
        raise fail("only one register of an address can be scaled")
    base: int | None
    index: int | None
    if scaled:
        index, scale = scaled[0]
        rest = [number for number, factor in parts if factor == 1]
        base = rest[0] if rest else None
    else:
        first, scale = parts[0][0], 1
        base, index = first, parts[1][0] if len(parts) > 1 else None
        if index == 4 and base != 4:
            base, index = 4, first
    if index == 4:
        raise fail("ESP cannot be scaled, nor taken twice: its number means no index")
    return base, index, scale


def _address_16(operand: Memory, place: Linear, value: int, fail: Callable[[str], AssemblyError]) -> _Address:
    names = [name for name, _ in place.registers]
    rm = PAIRS_16.get(frozenset(names))
    if rm is None or len(set(names)) != len(names) or any(factor != 1 for _, factor in place.registers):
        raise fail("a 16-bit address is made of bx or bp, si or di, and a displacement")
    offset = signed(value, 16)
    if place.symbols or not -128 <= offset <= 127:
        mod, width = 2, 2
    elif offset or rm == 6:
        mod, width = 1, 1
    else:
        mod, width = 0, 0
    return _Address(mod, rm, None, value & 0xFFFF, width, operand.segment, 16)
