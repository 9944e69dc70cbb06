"""What a BT-958 answers to the commands that come through its COMMAND register.

::

    code  parameters  answer
    00    0           -        nothing happens, and that completes
    02    0           -        look at the outgoing mailboxes; no interrupt, no "ready" to wait for
    04    0           4        board id: type, features, two digits of the firmware's version
    0a 23 0           8        which LUNs the targets 0-7 (8-15) have, a byte each
    0b    0           3        DMA channel, interrupt, SCSI id
    0d    1: length   <= 34    setup: mailboxes, what was negotiated with each target
    1f    1           1        the parameter comes back
    24    0           2        which targets there are, a bit each
    25    1           -        interrupts off (0) or on
    81    5           -        where the mailboxes are, and how many
    84 85 0           1        third digit and letter of the firmware's version
    86    0           4        PCI: ISA-compatible port (none), interrupt, termination
    8b    1: length   <= 5     model
    8c    1: length   <= 16    synchronous period of each target, in 10 ns
    8d    1: length   <= 14    extended setup
    8f 96 1           -        strict round robin; format of CCBs
    91    2           count    bytes of the adapter's own memory; from 64 on, its settings
    95    1           -        another ISA-compatible port: there is none; no interrupt
    05-09, 20-21               taken, and make no difference

MODEL: commands of the 24-bit mode (mailboxes and CCBs below 16 MB, code 01) are invalid, and so is all else.
Source: BusLogic MultiMaster technical reference, host adapter commands.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

ADAPTER_ID = 7
TARGETS = 16
PARAMETERS = {
    0x00: 0, 0x02: 0, 0x04: 0, 0x05: 1, 0x06: 4, 0x07: 1, 0x08: 1, 0x09: 1, 0x0A: 0, 0x0B: 0, 0x0D: 1, 0x1F: 1, 0x20: 0,
    0x21: 1, 0x23: 0, 0x24: 0, 0x25: 1, 0x81: 5, 0x84: 0, 0x85: 0, 0x86: 0, 0x8B: 1, 0x8C: 1, 0x8D: 1, 0x8F: 1, 0x91: 2,
    0x95: 1, 0x96: 1,
}  # fmt: skip
EXECUTE_MAILBOX, ENABLE_INTERRUPTS, SET_MAILBOXES, STRICT_ROUND_ROBIN, MODIFY_ADDRESS, CCB_FORMAT = (
    0x02, 0x25, 0x81, 0x8F, 0x95, 0x96,
)  # fmt: skip

BOARD, FIRMWARE, MODEL = b"AA", b"507B", b"958"
MOST_SEGMENTS = 8192
ISA_PORT_NONE = 6
SYNC_OFFSET, SYNC_PERIOD_10NS = 15, 5
ULTRA = 0x80 | 0 << 4 | SYNC_OFFSET
"""A target's synchronous value: negotiated 7, period 6-4, offset 3-0."""
AUTOSCSI_AT, RAM_BYTES = 64, 256
_IRQ_BITS = {9: 0, 10: 1, 11: 2, 12: 3, 14: 5, 15: 6}


def answer(
    code: int, parameters: bytes, targets: frozenset[int], irq: int, mailboxes: tuple[int, int], extended: int
) -> bytes:
    """The bytes that DATA_IN gives. ``targets``: who is there; ``mailboxes``: (how many, where); ``extended``: the
    byte of switches in the extended setup."""
    length = parameters[0] if parameters else 0
    if code == 0x04:
        return BOARD + FIRMWARE[:2]
    if code == 0x84:
        return FIRMWARE[2:3]
    if code == 0x85:
        return FIRMWARE[3:4]
    if code in (0x0A, 0x23):
        first = 0 if code == 0x0A else 8
        return bytes(int(target in targets) for target in range(first, first + 8))
    if code == 0x0B:
        return bytes((0, 1 << _IRQ_BITS[irq] if irq in _IRQ_BITS else 0, ADAPTER_ID))
    if code == 0x0D:
        return setup(targets)[:length]
    if code == 0x1F:
        return parameters
    if code == 0x24:
        return _bits(targets).to_bytes(2, "little")
    if code == 0x86:
        return bytes((ISA_PORT_NONE, irq, 0x83, 0))
    if code == 0x8B:
        return MODEL.ljust(5)[:length]
    if code == 0x8C:
        return bytes(SYNC_PERIOD_10NS if target in targets else 0 for target in range(TARGETS))[:length]
    if code == 0x8D:
        return extended_setup(mailboxes, extended)[:length]
    if code == 0x91:
        offset, count = parameters
        return (local_memory() * 2)[offset : offset + count]
    return b""


def _bits(targets: Iterable[int]) -> int:
    return sum(1 << target for target in targets)


def setup(targets: frozenset[int]) -> bytes:
    """34 bytes. Synchronous and parity; a byte a target; "B", "D" and bus "F"; wide permitted and active."""
    values = bytes(ULTRA if target in targets else 0 for target in range(TARGETS))
    low, high = _bits(targets) & 0xFF, _bits(targets) >> 8
    return (
        bytes((0x03, 0, 0, 0, 0, 0, 0, 0)) + values[:8] + bytes((0,)) + b"BDF" + bytes((0xFF, low))
        + values[8:] + bytes((0, 0, 0xFF, high))
    )  # fmt: skip


def extended_setup(mailboxes: tuple[int, int], switches: int) -> bytes:
    """14 bytes: bus "E" (EISA and PCI), BIOS, segments, mailboxes, level interrupt 6, firmware, wide 0 and ultra 3."""
    return struct.pack("<sBHBIB", b"E", 0, MOST_SEGMENTS, *mailboxes, 0x40) + FIRMWARE[1:] + bytes((switches,))


WIDE_ULTRA = 0x19
"""Wide, ultra, smart termination."""


def local_memory() -> bytes:
    """256 bytes: what the BIOS remembers, and from 64 on the settings (AutoSCSI)."""
    memory = bytearray(RAM_BYTES)
    settings = memoryview(memory)[AUTOSCSI_AT : AUTOSCSI_AT + 64]
    settings[0:2] = b"FM"
    settings[2] = 64
    settings[3:9] = b"BT-958"
    settings[14] = ADAPTER_ID
    settings[15] = 0x27  # termination, parity, bus reset enabled
    settings[18] = 0x04  # extended translation, no BIOS
    for at in (19, 21, 23, 25, 27, 34):  # enabled, wide, fast, synchronous, disconnect, ultra: all targets
        settings[at : at + 2] = b"\xff\xff"
    settings[41] = 31
    return bytes(memory)
