"""Segment registers: fetching descriptors, checking them, loading hidden parts.

::

    selector ──index, TI──> GDT or LDT ──8 bytes──> checks (type, DPL against CPL and RPL, present) ──> hidden part

Source: Intel SDM volume 2, MOV, LAR, LSL, VERR, LLDT, LTR; volume 3, section 5.
"""

from __future__ import annotations

from vilab.errors import GuestFault
from vilab.machine.registers import SS
from vilab.vmm import real_mode
from vilab.vmm.vcpu import LDTR, TR, HiddenSegment, Vcpu
from vilab.x86.descriptors import LAR_MASK, LAR_TYPES, LSL_TYPES, TSS16, TSS32
from vilab.x86.descriptors import LDT as LDT_TYPE

PRESENT = 1 << 15
S_BIT = 1 << 12
CODE = 1 << 11
CONFORMING = 1 << 10  # of code; expand-down of data
WRITABLE = 1 << 9  # of data; readable of code
ACCESSED = 1 << 8
GRANULAR = 1 << 23
BIG = 1 << 22
BUSY = 1 << 9


def dpl_of(high: int) -> int:
    return high >> 13 & 3


def type_of(high: int) -> int:
    return high >> 8 & 15


def hidden(selector: int, low: int, high: int) -> HiddenSegment:
    """The hidden part that a descriptor becomes."""
    limit = low & 0xFFFF | high & 0xF0000
    if high & GRANULAR:
        limit = limit << 12 | 0xFFF
    return selector, low >> 16 | (high & 0xFF) << 16 | high & 0xFF000000, limit, high


def descriptor_address(v: Vcpu, selector: int) -> int | None:
    """Linear address of the descriptor; ``None`` beyond the table's limit."""
    if selector & 4:
        _, base, limit, flags = v.segment(LDTR)
        if not flags & PRESENT:
            return None
    else:
        base, limit = v.gdtr
    if (selector & 0xFFF8) + 7 > limit:
        return None
    return base + (selector & 0xFFF8) & 0xFFFFFFFF


def fetch(v: Vcpu, selector: int, vector: int = 13, ext: int = 0) -> tuple[int, int, int]:
    """(low dword, high dword, linear address). Raises ``vector`` with the selector if it is beyond the table."""
    address = descriptor_address(v, selector)
    if address is None:
        raise GuestFault(vector, selector & 0xFFFC | ext, why="selector beyond its table")
    raw = v.read(address, 8)
    return int.from_bytes(raw[:4], "little"), int.from_bytes(raw[4:], "little"), address


def mark_accessed(v: Vcpu, high: int, address: int) -> int:
    """Set A in the descriptor as the processor does when it loads it; the new high dword."""
    if not high & ACCESSED:
        high |= ACCESSED
        v.write(address + 4, high.to_bytes(4, "little"))
    return high


def load_segment(v: Vcpu, index: int, selector: int) -> None:
    """MOV, POP, LDS...: ES SS DS FS GS (not CS).

    Raises
    ------
    GuestFault : #GP, #SS or #NP with the selector, as in the SDM's table for MOV.
    """
    if real_mode.is_real(v):
        real_mode.load_segment(v, index, selector)
        return
    if index == SS:
        v.set_segment(SS, *stack_segment(v, selector, v.cpl, vector=13))
        v.set_mode(v.cpl, v.eflags())
        return
    if selector & 0xFFFC == 0:
        v.set_segment(index, selector, 0, 0, 0)
    else:
        low, high, address = fetch(v, selector)
        error = selector & 0xFFFC
        if not high & S_BIT or (high & CODE and not high & WRITABLE):
            raise GuestFault(13, error, why="not a readable segment")
        if not (high & CODE and high & CONFORMING) and dpl_of(high) < max(v.cpl, selector & 3):
            raise GuestFault(13, error, why="segment more privileged than CPL and RPL")
        if not high & PRESENT:
            raise GuestFault(11, error, why="segment not present")
        high = mark_accessed(v, high, address)
        v.set_segment(index, *hidden(selector, low, high))
    v.set_mode(v.cpl, v.eflags())


def stack_segment(v: Vcpu, selector: int, cpl: int, vector: int, ext: int = 0) -> HiddenSegment:
    """A checked SS for ring ``cpl``; ``vector`` is 13, or 10 when it came from a TSS."""
    error = selector & 0xFFFC | ext
    if selector & 0xFFFC == 0:
        raise GuestFault(vector, ext, why="null stack segment")
    low, high, address = fetch(v, selector, vector, ext)
    if selector & 3 != cpl or dpl_of(high) != cpl or not high & S_BIT or high & CODE or not high & WRITABLE:
        raise GuestFault(vector, error, why=f"not a writable stack segment of ring {cpl}")
    if not high & PRESENT:
        raise GuestFault(12, error, why="stack segment not present")
    return hidden(selector, low, mark_accessed(v, high, address))


def load_ldt(v: Vcpu, selector: int) -> None:
    """LLDT."""
    if selector & 0xFFFC == 0:
        v.set_segment(LDTR, selector, 0, 0, 0)
        return
    if selector & 4:
        raise GuestFault(13, selector & 0xFFFC, why="LLDT from the LDT")
    low, high, _ = fetch(v, selector)
    if high & S_BIT or type_of(high) != LDT_TYPE:
        raise GuestFault(13, selector & 0xFFFC, why="not an LDT")
    if not high & PRESENT:
        raise GuestFault(11, selector & 0xFFFC, why="LDT not present")
    v.set_segment(LDTR, *hidden(selector, low, high))


def load_task_register(v: Vcpu, selector: int) -> None:
    """LTR: also marks the TSS busy."""
    if selector & 0xFFFC == 0:
        raise GuestFault(13, 0, why="null task register")
    if selector & 4:
        raise GuestFault(13, selector & 0xFFFC, why="LTR from the LDT")
    low, high, address = fetch(v, selector)
    if high & S_BIT or type_of(high) not in (TSS16, TSS32):
        raise GuestFault(13, selector & 0xFFFC, why="not an available TSS")
    if not high & PRESENT:
        raise GuestFault(11, selector & 0xFFFC, why="TSS not present")
    high |= BUSY
    v.write(address + 4, high.to_bytes(4, "little"))
    v.set_segment(TR, *hidden(selector, low, high))


def _visible(v: Vcpu, selector: int) -> tuple[int, int] | None:
    """The descriptor, if LAR and its relatives may see it; they never fault on a selector."""
    if selector & 0xFFFC == 0:
        return None
    address = descriptor_address(v, selector)
    if address is None:
        return None
    raw = v.read(address, 8)
    low, high = int.from_bytes(raw[:4], "little"), int.from_bytes(raw[4:], "little")
    if high & S_BIT and high & CODE and high & CONFORMING:
        return low, high
    if dpl_of(high) < max(v.cpl, selector & 3):
        return None
    return low, high


def access_rights(v: Vcpu, selector: int) -> int | None:
    """LAR: the value, or ``None`` for ZF = 0."""
    seen = _visible(v, selector)
    if seen is None or (not seen[1] & S_BIT and type_of(seen[1]) not in LAR_TYPES):
        return None
    return seen[1] & LAR_MASK


def segment_limit(v: Vcpu, selector: int) -> int | None:
    """LSL: bytes, or ``None`` for ZF = 0."""
    seen = _visible(v, selector)
    if seen is None or (not seen[1] & S_BIT and type_of(seen[1]) not in LSL_TYPES):
        return None
    return hidden(selector, *seen)[2]


def verify(v: Vcpu, selector: int, write: bool) -> bool:
    """VERR or VERW: the new ZF."""
    seen = _visible(v, selector)
    if seen is None or not seen[1] & S_BIT:
        return False
    code, bit = bool(seen[1] & CODE), bool(seen[1] & WRITABLE)
    return not code and bit if write else not code or bit
