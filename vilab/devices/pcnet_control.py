"""PCnet: the registers behind RAP as a value, and what reading and writing them does to it alone.

::

    RAP ──> CSR 0-127   0: W1C 14-8, IENA as written, INIT STRT STOP TDMD set by ones
                        3 4 5: masks, W1C bits; 8-15 and the rings: only if stopped or suspended
        └─> BCR 0-63    LEDs, software style

    interrupt = IENA and ( CSR0 & ~CSR3,  CSR4 >> 1 & ~CSR4,  CSR5 >> 1 & CSR5,  UINT )

    ring:  RCVRL = -n  ── RCVRC counts -n, -n+1 ... -1, and again from -n:   descriptor RCVRC - RCVRL

No memory, no clock, no port: ``pcnet_am79c970a`` has those and hears what a write asks for.

MODEL: suspension is reached at once, since the card never stops in the middle of a frame.
"""

from __future__ import annotations

import msgspec

from vilab.devices import pcnet_registers as r
from vilab.devices.network_adapter import NetworkAdapterState
from vilab.devices.pcnet_rings import InitBlock, descriptor_bytes


def _csr_reset() -> list[int]:
    return [r.CSR_RESET.get(number, 0) for number in range(r.CSRS)]


def _bcr_reset() -> list[int]:
    return [r.BCR_RESET.get(number, 0) for number in range(r.BCRS)]


class PcnetState(NetworkAdapterState):
    """``csr``, ``bcr``: as they are held; ``to_initialize``: INIT was written and the block is not fetched yet.
    ``link``: the card hears the other end of its cable."""

    rap: int = 0
    csr: list[int] = msgspec.field(default_factory=_csr_reset)
    bcr: list[int] = msgspec.field(default_factory=_bcr_reset)
    to_initialize: bool = False
    link: bool = True

    @property
    def dwio(self) -> bool:
        return bool(self.bcr[r.BURST] & r.DWIO)

    @property
    def style(self) -> int:
        return self.bcr[r.SWSTYLE] & 0xFF

    @property
    def mode(self) -> int:
        return self.csr[r.MODE]

    @property
    def suspended(self) -> bool:
        return bool(self.csr[5] & r.SPND)

    @property
    def changeable(self) -> bool:
        """May registers be written that the card works with?"""
        return bool(self.csr[0] & r.STOP) or self.suspended

    @property
    def transmits(self) -> bool:
        return bool(self.csr[0] & r.TXON) and not self.suspended and not self.mode & r.DTX

    @property
    def receives(self) -> bool:
        return bool(self.csr[0] & r.RXON) and not self.suspended and not self.mode & r.DRX

    @property
    def high(self) -> int:
        """Address bits 31-24 of 16-bit structures."""
        return (self.csr[2] & 0xFF00) << 16

    @property
    def physical_address(self) -> bytes:
        return b"".join(self.csr[r.PADR + at].to_bytes(2, "little") for at in range(3))

    @property
    def logical_filter(self) -> int:
        return sum(self.csr[r.LADRF + at] << 16 * at for at in range(4))


def aprom(address: bytes) -> bytes:
    """The octets in front of the registers: address, hardware id, sum of all, two times W."""
    content = bytearray(address.ljust(16, b"\0"))
    content[9], content[14:16] = r.HARDWARE_ID, b"WW"
    content[12:14] = sum(content).to_bytes(2, "little")
    return bytes(content)


# --- resets -----------------------------------------------------------------------------------------------------------


def stop(s: PcnetState) -> None:
    s.csr[0] = r.STOP
    s.csr[4] &= ~r.FEATURES_CLEARED_BY_ONES
    s.csr[5] &= ~r.SPND
    s.csr[r.MISSED] = s.csr[r.COLLISIONS] = 0
    s.to_initialize = False


def soft_reset(s: PcnetState) -> None:
    """S_RESET: bus configuration and the width of accesses stay as they are."""
    s.csr, s.rap, s.to_initialize = _csr_reset(), 0, False
    set_words(s, r.PADR, s.address)


def set_words(s: PcnetState, first: int, content: bytes) -> None:
    for at in range(0, len(content), 2):
        s.csr[first + at // 2] = int.from_bytes(content[at : at + 2], "little")


def load_init_block(s: PcnetState, block: InitBlock) -> None:
    s.csr[r.MODE] = block.mode
    set_words(s, r.PADR, block.address)
    set_words(s, r.LADRF, block.logical_filter.to_bytes(8, "little"))
    for (base, count), first, length, counter in zip(
        block.rings, (r.BADR, r.BADX), (r.RCVRL, r.XMTRL), (r.RCVRC, r.XMTRC), strict=True
    ):
        set_words(s, first, base.to_bytes(4, "little"))
        s.csr[length] = s.csr[counter] = -count & 0xFFFF


# --- rings ------------------------------------------------------------------------------------------------------------


def current(s: PcnetState, base: int, counter: int, length: int) -> int:
    """Where a ring's current descriptor is. MODEL: a counter that was set outside its ring stands for the first."""
    index = max(s.csr[counter] - s.csr[length], 0)
    return (s.csr[base] | s.csr[base + 1] << 16) + index * descriptor_bytes(s.style) & 0xFFFF_FFFF


def advance(s: PcnetState, counter: int, length: int) -> None:
    following = max(s.csr[counter], s.csr[length]) + 1
    s.csr[counter] = s.csr[length] if following > 0xFFFF else following


# --- interrupts -------------------------------------------------------------------------------------------------------


def has_cause(s: PcnetState) -> bool:
    return bool(
        s.csr[0] & ~s.csr[3] & r.CAUSES
        or s.csr[4] >> 1 & ~s.csr[4] & r.FEATURES_MASKED
        or s.csr[5] >> 1 & s.csr[5] & r.EXTENDED_ENABLES
        or s.csr[4] & r.UINT
    )


def interrupting(s: PcnetState) -> bool:
    return bool(s.csr[0] & r.IENA) and has_cause(s)


# --- CSR --------------------------------------------------------------------------------------------------------------


def read_csr(s: PcnetState, number: int) -> int:
    if number == 0:
        error = r.ERROR if s.csr[0] & r.ERRORS else 0
        return s.csr[0] | error | (r.INTR if has_cause(s) else 0)
    if number in (16, 17):
        return s.csr[number - 15]
    if number == r.STYLE:
        return s.bcr[r.SWSTYLE]
    if number & ~1 == r.CRDA:
        return current(s, r.BADR, r.RCVRC, r.RCVRL) >> 16 * (number & 1) & 0xFFFF
    if number & ~1 == r.CXDA:
        return current(s, r.BADX, r.XMTRC, r.XMTRL) >> 16 * (number & 1) & 0xFFFF
    return s.csr[number]


def write_csr(s: PcnetState, number: int, value: int) -> None:
    """All but CSR0."""
    csr = s.csr
    if number == 3:
        csr[3] = value & r.MASKS_WRITABLE
    elif number == 4:
        held = csr[4] & r.FEATURES_CLEARED_BY_ONES & ~value
        csr[4] = value & r.FEATURES_WRITABLE | held | (r.UINT if value & r.UINTCMD else 0)
    elif number == 5:
        held = csr[5] & r.EXTENDED_CLEARED_BY_ONES & ~value
        suspended = value & r.SPND if not csr[0] & r.STOP else 0
        csr[5] = value & r.EXTENDED_WRITABLE | held | suspended
    elif s.changeable and number not in r.READ_ONLY:
        if number == r.STYLE:
            _write_style(s, value)
        else:
            csr[number - 15 if number in (16, 17) else number] = value


# --- BCR --------------------------------------------------------------------------------------------------------------


def read_bcr(s: PcnetState, number: int) -> int:
    value = s.bcr[number] if number < r.BCRS else 0
    if r.LNKST <= number <= r.LED3 and s.link and value & r.SHOWS_LINK:
        value |= r.LEDOUT
    return value


def write_bcr(s: PcnetState, number: int, value: int) -> None:
    if number == r.SWSTYLE:
        if s.changeable:
            _write_style(s, value)
    elif r.LNKST <= number <= r.LED3 and not s.bcr[r.MISC] & r.LED_PROGRAMMING:
        return
    elif number in r.BCR_WRITABLE:
        writable = r.BCR_WRITABLE[number]
        s.bcr[number] = s.bcr[number] & ~writable | value & writable


def _write_style(s: PcnetState, value: int) -> None:
    """MODEL: styles from 4 on are reserved; here they are 0, which is what drivers want that write one."""
    style = value & 0xFF if value & 0xFF in r.STYLE_BITS else 0
    s.bcr[r.SWSTYLE] = r.STYLE_BITS[style] | style | value & r.APERREN
