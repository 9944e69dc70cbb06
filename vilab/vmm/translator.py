"""The binary translator: one unit of guest kernel code in, one compiled code fragment out.

Adams and Agesen 2006, section 3.2: a unit ends after 12 instructions or with control flow. What becomes of each:

==================  ==================================================================================================
most                the same bytes (*identical*)
Jcc, JMP, CALL      the same, to a stub; CALL pushes the guest's return address, so that the guest sees only its own
RET                 ``mov ss:[spill],ecx; mov ecx,[esp]; movzx ecx,cl; jmp ss:[returns+ecx*4]`` (or ``cx``: a
                    table of 65,536 entries)
JMP, CALL indirect  the same with a table of 65,536 entries
CLI, STI            ``mov ss:[flags],0`` or ``200h``
PUSHF               ``pushfd``, then IF on the stack is corrected from the monitor's word
POPF                IF goes to the monitor's word, the rest to the CPU
MOV, PUSH of CS     the guest's selector as an immediate
other sensitive     INT3: a *callout*; the monitor emulates it and the fragment goes on behind
==================  ==================================================================================================

Where a table leads, a prelude compares the whole address before the fragment is entered (``in_cache``).

In-cache code keeps the flags and all registers, and reaches the monitor's words through SS, which must be flat. Where
it is not, or CPL or IOPL is not 0, such instructions become callouts (``Mode.simple`` is false).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Container

import msgspec

from vilab.errors import GuestFault
from vilab.vmm import monitor
from vilab.vmm.in_cache import ECX, FLAGS_AT, SPILL_AT, TARGET_AT, from_flat, load_operand, popf, pushf
from vilab.vmm.unit import CALLOUT, CONTROL, IDENT, IN_CACHE, Callout, Continuation, Unit
from vilab.x86 import encode as e
from vilab.x86.decode import ADDRSIZE, MAX_BYTES, OPSIZE, Instruction, Kind, Truncated, decode
from vilab.x86.flags import IF
from vilab.x86.scan import NO_BASE, length_tables

UNIT_INSTRUCTIONS = 12
SUPERBLOCK_INSTRUCTIONS = 48
STUB = b"\xcc\x90\x90\x90\x90"
"""An INT3 with room for the JMP that replaces it."""

CS = 1
VEX = 1 << 24
"""The processor has no AVX, but runs such encodings as if they had no VEX prefix: jumps among them."""
MOVZX_ECX_CX = b"\x0f\xb7\xc9"
IRET = b"\xcf"
PLAIN_SEGMENTS = frozenset((0x26, 0x36, 0x3E, 0x64, 0x65))
"""Overrides that change neither length nor kind of what follows them; CS may have a base of its own."""
DIRECT = frozenset((*range(0x70, 0x80), 0xC3, 0xE8, 0xE9, 0xEB))
"""Jcc, RET, CALL, JMP in their usual forms; Jcc has another behind 0f."""
PASSED_THROUGH = frozenset(("in", "out", "ins", "outs"))
"""The processor's own hook asks the monitor; nothing has to be rewritten."""
DATA_SELECTOR_READS = frozenset((0x06, 0x1E, 0x0FA0, 0x0FA8))


class Mode(msgspec.Struct, frozen=True):
    """What a translation depends on besides the bytes. Another mode has translations of its own."""

    cs: int
    cs_base: int
    simple: bool
    flat_stack: bool = True


class Translator:
    """Guest bytes to fragment bytes; knows nothing of where fragments live.

    Parameters
    ----------
    fetch : (linear address, size) -> bytes, through the guest's tables; raises ``GuestFault``.
    new_stub : gives the address of a stub outside the fragment, for the taken side of a Jcc.
    return_entries : 256 or 65536; see ``TranslationEngine``.
    superblocks : see ``TranslationEngine``.
    guilty : linear addresses of plain stores that become callouts; see ``adaptive``.
    """

    def __init__(
        self,
        fetch: Callable[[int, int], bytes],
        new_stub: Callable[[], int],
        return_entries: int = 256,
        guilty: Container[int] = frozenset(),
        superblocks: bool = False,
    ) -> None:
        self._guilty = guilty
        self._superblocks = superblocks
        self._most = SUPERBLOCK_INSTRUCTIONS if superblocks else UNIT_INSTRUCTIONS
        self._fetch = fetch
        self._new_stub = new_stub
        low_part = e.movzx_byte(ECX, ECX) if return_entries == 256 else MOVZX_ECX_CX
        jump = e.jmp_table(monitor.RETURN_TABLE, ECX)
        self._return = e.store_reg(SPILL_AT, ECX) + e.load_stack(ECX) + low_part + jump

    def translate(self, eip: int, at: int, mode: Mode) -> tuple[Unit, bytes, dict[int, Callout]]:
        """Translate the unit at ``eip`` for address ``at`` of the cache.

        Returns the unit, the fragment's bytes, and its callouts by address.

        Raises
        ------
        GuestFault : the first instruction cannot be fetched (#PF).
        """
        unit = Unit(eip, at, mode)
        out = bytearray()
        callouts: dict[int, Callout] = {}
        source = bytearray()
        code, have_from = b"", eip
        here = eip
        lines = unit.lines
        inhibited = False
        one, two = length_tables()
        guilty, most = self._guilty, self._most
        while True:
            offset = here - have_from & 0xFFFFFFFF
            if guilty and here + mode.cs_base & 0xFFFFFFFF in guilty:
                pass
            elif offset + MAX_BYTES <= len(code):
                first, at_opcode = code[offset], offset
                if first in PLAIN_SEGMENTS:
                    at_opcode += 1
                    first = code[at_opcode]
                if first == 0x0F:
                    size = two[code[at_opcode + 1] << 8 | code[at_opcode + 2]]
                    if size > NO_BASE:
                        size -= NO_BASE - 4 if code[at_opcode + 3] & 7 == 5 else NO_BASE
                else:
                    size = one[first << 8 | code[at_opcode + 1]]
                    if size > NO_BASE:
                        size -= NO_BASE - 4 if code[at_opcode + 2] & 7 == 5 else NO_BASE
                if size:
                    tc = at + len(out)
                    if inhibited:
                        unit.shadows.append(tc)
                        inhibited = False
                    size += at_opcode - offset
                    part = code[offset : offset + size]
                    out += part
                    source += part
                    lines.append((here, size, IDENT, tc, size))
                    here = here + size & 0xFFFFFFFF
                    if len(lines) == most:
                        break
                    continue
                if at_opcode == offset and (first in DIRECT or (first == 0x0F and code[offset + 1] >> 4 == 8)):
                    tc = at + len(out)
                    size, done = self._emit_direct(unit, out, code, offset, here, tc, mode.simple)
                    if size:
                        if inhibited:
                            unit.shadows.append(tc)
                            inhibited = False
                        lines.append((here, size, CONTROL, tc, at + len(out) - tc))
                        source += code[offset : offset + size]
                        here = here + size & 0xFFFFFFFF
                        if done:
                            unit.end_eip = here
                            unit.source = bytes(source)
                            unit.end = at + len(out)
                            return unit, bytes(out), callouts
                        if len(lines) == most:
                            break
                        continue
            try:
                instruction = decode(code[offset : offset + 15], here) if offset < len(code) else None
            except Truncated:
                instruction = None
            if instruction is None:
                try:
                    code, have_from = self._read(here, mode.cs_base), here
                    instruction = decode(code[:15], here)
                except GuestFault:
                    if not lines:
                        raise
                    break
                except Truncated:
                    if not lines:
                        # The rest of it is on a page that is not there.
                        self._fetch(here + mode.cs_base + len(code) & 0xFFFFFFFF, 1)
                    break
            if instruction.op == "sti" and not inhibited and len(lines) == most - 1:
                break  # so that STI and the instruction in its shadow stand in one unit
            tc = at + len(out)
            size = len(instruction.code)
            if inhibited:
                unit.shadows.append(tc)
            inhibited = not inhibited and instruction.inhibits_interrupts
            kind, done = self._emit(unit, out, instruction, tc, mode, callouts)
            lines.append((here, size, kind, tc, at + len(out) - tc))
            source += instruction.code
            here = here + size & 0xFFFFFFFF
            if done:
                unit.end_eip = here
                unit.source = bytes(source)
                unit.end = at + len(out)
                return unit, bytes(out), callouts
            if len(lines) == most:
                break
        unit.end_eip = here
        unit.source = bytes(source)
        self._stub(unit, out, at, "fall", here)
        unit.end = at + len(out)
        return unit, bytes(out), callouts

    def _read(self, eip: int, cs_base: int) -> bytes:
        """Code from ``eip`` to the end of its page, and a little of the next if that is there."""
        linear = eip + cs_base & 0xFFFFFFFF
        room = 0x1000 - (linear & 0xFFF)
        code = self._fetch(linear, min(room, 180))
        if room < 180:
            with contextlib.suppress(GuestFault):
                code += self._fetch(linear + room & 0xFFFFFFFF, 15)
        return code

    @staticmethod
    def _stub(unit: Unit, out: bytearray, at: int, kind: str, target: int) -> None:
        stub = at + len(out)
        out += STUB
        unit.continuations.append(Continuation(unit, kind, target, stub, stub))

    def _emit(
        self, unit: Unit, out: bytearray, i: Instruction, tc: int, mode: Mode, callouts: dict[int, Callout]
    ) -> tuple[str, bool]:
        """Append the translation of one instruction; its kind, and whether the unit ends with it."""
        kind = i.kind
        if kind is Kind.IDENT and i.opcode < VEX:
            if i.address + mode.cs_base & 0xFFFFFFFF in self._guilty:
                callouts[tc] = Callout(unit, i, simulated=True)
                out += b"\xcc"
                return CALLOUT, False
            if mode.cs_base and i.segment_override == CS:
                code = from_flat(i, mode.cs_base) if mode.flat_stack else i.code
                out += code
                return (IDENT if code == i.code else IN_CACHE), False
            out += i.code
            return IDENT, False
        at = unit.start
        if kind is Kind.JCC:
            return CONTROL, self._emit_conditional(unit, out, i, tc)
        if kind is Kind.JMP_REL and not i.prefixes & OPSIZE:
            self._stub(unit, out, at, "jump", i.target or 0)
            return CONTROL, True
        if mode.simple and not i.prefixes & OPSIZE:
            if kind is Kind.CALL_REL:
                out += e.push_imm(i.end)
                unit.calls = True
                self._stub(unit, out, at, "call", i.target or 0)
                return CONTROL, True
            if kind is Kind.RET and i.opcode == 0xC3:
                out += self._return
                return CONTROL, True
            if kind is Kind.JMP_IND or kind is Kind.CALL_IND:
                out += e.store_reg(SPILL_AT, ECX) + load_operand(i)
                if kind is Kind.CALL_IND:
                    unit.calls = True
                    out += e.push_imm(i.end)
                out += e.store_reg(TARGET_AT, ECX) + MOVZX_ECX_CX + e.jmp_table(monitor.JUMP_TABLE, ECX)
                return CONTROL, True
        sensitive = i.kind is Kind.SENSITIVE
        rewritten = self._in_cache(i, tc, mode) if sensitive else None
        if rewritten is not None:
            if i.op == "popf":
                callouts[tc + len(rewritten) - 1] = Callout(unit, i, popped=True)
            out += rewritten
            return (IDENT if rewritten == i.code else IN_CACHE), False
        # Kernels serialize the processor by an IRET to the next instruction.
        ends = not sensitive and not (self._superblocks and i.op == "iret" and i.code == IRET)
        callouts[tc] = Callout(unit, i, ends=ends)
        out += b"\xcc"
        return CALLOUT if sensitive or i.kind in (Kind.UNDEFINED, Kind.IDENT) else CONTROL, ends

    def _emit_direct(
        self, unit: Unit, out: bytearray, code: bytes, offset: int, here: int, tc: int, simple: bool
    ) -> tuple[int, bool]:
        """What ``_emit`` does with Jcc, JMP, CALL and RET in their usual forms: length, and whether the unit ends.

        0 bytes: it is for ``_emit``.
        """
        first = code[offset]
        if first == 0x0F or first >> 4 == 7:
            at = offset + (first == 0x0F)
            size = 6 if first == 0x0F else 2
            reach = code[at + 1 : offset + size]
            end = here + size
            target = end + int.from_bytes(reach, "little", signed=True)
            return size, self._emit_jcc(unit, out, tc, code[at] & 15, target, end)
        if first == 0xC3:
            if not simple:
                return 0, False
            out += self._return
            return 1, True
        size = 2 if first == 0xEB else 5
        target = here + size + int.from_bytes(code[offset + 1 : offset + size], "little", signed=True) & 0xFFFFFFFF
        if first == 0xE8:
            if not simple:
                return 0, False
            out += e.push_imm(here + size & 0xFFFFFFFF)
            unit.calls = True
            self._stub(unit, out, unit.start, "call", target)
        else:
            self._stub(unit, out, unit.start, "jump", target)
        return size, True

    def _emit_jcc(self, unit: Unit, out: bytearray, tc: int, condition: int, target: int, end: int) -> bool:
        """True: the unit ends here."""
        stub = self._new_stub()
        out += e.jcc(condition, tc, stub)
        unit.continuations.append(Continuation(unit, "taken", target & 0xFFFFFFFF, stub, tc, condition))
        if self._superblocks and len(unit.lines) < self._most - 1:
            return False
        self._stub(unit, out, unit.start, "fall", end & 0xFFFFFFFF)
        return True

    def _emit_conditional(self, unit: Unit, out: bytearray, i: Instruction, tc: int) -> bool:
        """True: the unit ends here."""
        at = unit.start
        if i.op == "jcc":
            return self._emit_jcc(unit, out, tc, i.condition, i.target or 0, i.end)
        # LOOP and JECXZ reach only 127 bytes: both ways out go through stubs right behind.
        out += (b"\x67" if i.prefixes & ADDRSIZE else b"") + bytes((i.opcode, len(STUB)))
        self._stub(unit, out, at, "fall", i.end)
        self._stub(unit, out, at, "taken", i.target or 0)
        return True

    def _in_cache(self, i: Instruction, tc: int, mode: Mode) -> bytes | None:
        """The in-cache form of a sensitive instruction; ``None``: a callout."""
        op = i.op
        if op in PASSED_THROUGH:
            return i.code
        if op == "push seg":
            if i.opcode in DATA_SELECTOR_READS:
                return i.code
            if i.opcode == 0x0E:
                return b"\x66\x68" + mode.cs.to_bytes(2, "little") if i.prefixes & OPSIZE else e.push_imm(mode.cs)
            return None
        if op == "mov from seg":
            if i.reg in (0, 3, 4, 5):
                return i.code
            if i.reg == 1 and i.modrm >= 0xC0:
                if i.prefixes & OPSIZE:
                    return bytes((0x66, 0xB8 | i.rm)) + mode.cs.to_bytes(2, "little")
                return e.mov_reg_imm(i.rm, mode.cs)
            return None
        if not mode.simple or i.prefixes & OPSIZE:
            return None
        if op == "cli":
            return e.store_imm(FLAGS_AT, 0)
        if op == "sti":
            # The jump ends the processor's block: an interrupt that waits is seen right here.
            return e.store_imm(FLAGS_AT, IF) + b"\xeb\x00"
        if op == "pushf":
            return pushf(tc)
        if op == "popf":
            return popf(tc)
        return None
