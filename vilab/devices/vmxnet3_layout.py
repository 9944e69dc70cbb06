"""What vmxnet3 and its driver share in memory: one record for all, one for each queue, and rings. Little-endian.

DriverShared, 720 bytes, where DSAL and DSAH say::

    000  magic BABEFEE1                               290  RSS, wake-up, plug-in: version, length, address each
    008  driver: version, guest, revision, layout     2b8  ECR: events that the driver has not seen
    018  features  (u64)                              2c0  what a command carries: version, length, address
    028  queue descriptors: address (u64)
    034  their length   038 MTU   03c most buffers a frame (u16)   03e tx queues   03f rx queues
    050  auto-mask   051 interrupts   052 for events   053 moderation, a byte each   06c disable all
    078  rx mode: unicast 0, multicast 1, broadcast 2, all multicast 3, promiscuous 4
    07c  multicast table: length in bytes (u16)   080 address (u64), six bytes each
    088  VLAN table: 4096 bits

A queue descriptor, 256 bytes; first those of all transmit queues, then those of all receive queues::

         transmit                                  receive
    00   deferred, threshold  (u32 each)           tell RXPROD 0
    10   tx ring      (u64)                        ring 1       (u64)
    18   data ring                                 ring 2
    20   completion ring                           completion ring
    30   ..                                        data ring
    38   sizes: tx, data, completion  (u32)        sizes: ring 1, ring 2, completion
    48   interrupt (u8)   4a data entry (u16)      the same
    50   stopped (u8)     54 why (u32)             the same
    58   ten counters (u64)                        ten counters

    threshold: what the card writes. The driver counts in *deferred* what it has filled, and writes TXPROD when that
    has reached the threshold: the exits that are saved are the point of the whole card.

Descriptors and completions, 16 bytes each::

         tx descriptor                                     rx descriptor
    00   address (u64)                                     address (u64)
    08   length 13-0 (0: 16 KB)  generation 14  type 16    length 13-0  body 14  type 15  generation 31
         MSS or checksum offset 31-18                      0
    0c   header length 9-0  offload 11-10  end 12          0
         completion 13  insert tag 15  tag 31-16

         tx completion                                     rx completion
    00   index of the last descriptor 11-0                 index 11-0  last 14  first 15  queue 25-16  unchecked 30
    04   0                                                 hash
    08   0                                                 length 13-0  error 14  stripped 15  tag 31-16
    0c   type 30-24 (0)  generation 31                     L4 good 16  UDP 17  TCP 18  IP good 19  v6 20  v4 21
                                                           fragment 22  FCS good 23  type 30-24 (3)  generation 31

The generation of a ring is 1 in its first round, 0 in the next, and so on; who owns an entry needs no index::

    ring of 4, second round    | 0 | 0 | 1 | 1 |     the card's: 0 and 1, since they are of this round
                                         ^ next

    data ring (transmit): entry n has room for the headers of the frame that begins in descriptor n: one page less to
    touch. data ring (receive, version 3): a frame that fits lies in entry n instead of in the buffer of descriptor n.

Source: Linux, drivers/net/vmxnet3/vmxnet3_defs.h and upt1_defs.h.
"""

from __future__ import annotations

import struct

import msgspec

from vilab.devices.vmxnet3_registers import MOST_INTERRUPTS, MOST_RX_QUEUES, MOST_TX_QUEUES

MAGIC = 0xBABE_FEE1
SHARED_BYTES, QUEUE_BYTES, ENTRY_BYTES = 720, 256, 16
FEATURES_AT, MODERATION_AT, RX_MODE_AT, MULTICAST_AT, VLANS_AT, ECR_AT, COMMAND_AT = (
    0x018, 0x053, 0x078, 0x07C, 0x088, 0x2B8, 0x2C0,
)  # fmt: skip
VLANS_BYTES = 512
THRESHOLD_AT, STATUS_AT, COUNTERS_AT = 0x04, 0x50, 0x58

F_RX_CHECKSUM, F_RX_VLAN = 1 << 0, 1 << 2
UNICAST, MULTICAST, BROADCAST, ALL_MULTICAST, PROMISCUOUS = (1 << bit for bit in range(5))
MIN_MTU, MAX_MTU = 60, 9000
MOST_MULTICAST = 0xFFFF // 6

MOST_TX_ENTRIES, MOST_RX_ENTRIES, MOST_RX_COMPLETIONS = 4096, 4096, 8192
MOST_DATA_BYTES = 2048

NO_END, BIG_PACKET, TYPE_UNKNOWN, SMALL_BUFFER = 0x8000_0000, 0x8000_0002, 0x8000_0003, 0x8000_0004
"""Why a queue has stopped."""

NO_OFFLOAD, ENCAPSULATION, CHECKSUM, SEGMENTATION = range(4)

_MISC = struct.Struct("<QQQIIIHBB")
_INTERRUPTS = struct.Struct("<BBB")
_FILTER = struct.Struct("<IHHQ")
_QUEUE = struct.Struct("<QQQQQIIIIBxH")
_DESCRIPTOR = struct.Struct("<QII")
_COMPLETION = struct.Struct("<IIII")
_STATUS = struct.Struct("<II")
COUNTERS = struct.Struct("<10Q")
VARIABLE = struct.Struct("<IIQ")
"""Version, length, address of what a command carries."""


class Shared(msgspec.Struct, frozen=True):
    """What ACTIVATE_DEV takes from DriverShared."""

    features: int
    queues_gpa: int
    queues_bytes: int
    mtu: int
    most_buffers: int
    tx_queues: int
    rx_queues: int
    auto_mask: bool
    interrupts: int
    event_interrupt: int


def parse_shared(data: bytes) -> Shared | None:
    """From 720 bytes. ``None``: the magic number is missing, or something is out of its range."""
    if int.from_bytes(data[:4], "little") != MAGIC:
        return None
    features, _, queues_gpa, _, queues_bytes, mtu, most_buffers, tx, rx = _MISC.unpack_from(data, FEATURES_AT)
    auto_mask, interrupts, event = _INTERRUPTS.unpack_from(data, 0x50)
    good = (
        MIN_MTU <= mtu <= MAX_MTU and 1 <= tx <= MOST_TX_QUEUES and 1 <= rx <= MOST_RX_QUEUES
        and (tx + rx) * QUEUE_BYTES <= queues_bytes and 1 <= interrupts <= MOST_INTERRUPTS and event < interrupts
    )  # fmt: skip
    if not good:
        return None
    return Shared(features, queues_gpa, queues_bytes, mtu, most_buffers, tx, rx, bool(auto_mask), interrupts, event)


def parse_filter(data: bytes) -> tuple[int, int, int]:
    """From 720 bytes: mode, and the multicast table's length in bytes and address."""
    mode, size_bytes, _, gpa = _FILTER.unpack_from(data, RX_MODE_AT)
    return mode & 0x1F, size_bytes, gpa


class QueueConf(msgspec.Struct, frozen=True):
    """Where a queue's rings are. Of a transmit queue: rings (tx, data); of a receive queue: rings (1, 2)."""

    ring_gpa: tuple[int, int]
    ring_entries: tuple[int, int]
    completion_gpa: int
    completion_entries: int
    receive_data_gpa: int
    data_bytes: int
    interrupt: int


def parse_queue(data: bytes) -> QueueConf:
    """From 256 bytes."""
    first, second, completion, _, data_gpa, n_first, n_second, n_completion, _, interrupt, data_bytes = (
        _QUEUE.unpack_from(data, 0x10)
    )
    return QueueConf((first, second), (n_first, n_second), completion, n_completion, data_gpa, data_bytes, interrupt)


class TxDescriptor(msgspec.Struct, frozen=True):
    """``offset``: MSS with segmentation, place of the checksum with checksum offload. ``tag``: to insert."""

    gpa: int
    size_bytes: int
    generation: int
    kind: int
    offset: int
    header_bytes: int
    offload: int
    end: bool
    completion: bool
    tag: int | None


def parse_tx(data: bytes, at: int = 0) -> TxDescriptor:
    gpa, low, high = _DESCRIPTOR.unpack_from(data, at)
    return TxDescriptor(
        gpa, low & 0x3FFF or 0x4000, low >> 14 & 1, low >> 16 & 1, low >> 18, high & 0x3FF, high >> 10 & 3,
        bool(high & 1 << 12), bool(high & 1 << 13), high >> 16 if high & 1 << 15 else None,
    )  # fmt: skip


def tx_completion(index: int) -> bytes:
    """16 bytes but for the generation. ``index``: of a frame's last descriptor."""
    return _COMPLETION.pack(index, 0, 0, 0)


class RxDescriptor(msgspec.Struct, frozen=True):
    """``body``: not for the beginning of a frame."""

    gpa: int
    size_bytes: int
    body: bool
    kind: int
    generation: int


def parse_rx(data: bytes, at: int = 0) -> RxDescriptor:
    gpa, low, _ = _DESCRIPTOR.unpack_from(data, at)
    return RxDescriptor(gpa, low & 0x3FFF, bool(low & 1 << 14), low >> 15 & 1, low >> 31)


LAST, FIRST, UNCHECKED = 1 << 14, 1 << 15, 1 << 30
"""Bits of the first word of an rx completion."""
ERROR, STRIPPED = 1 << 14, 1 << 15
"""In its third word."""
L4_GOOD, UDP, TCP, IP_GOOD, V6, V4, FRAGMENT = (1 << bit for bit in range(16, 23))
FCS_GOOD, RX_TYPE = 1 << 23, 3 << 24
"""In its fourth word."""


def rx_completion(first_word: int, third_word: int, checks: int) -> bytes:
    """16 bytes but for the generation."""
    return _COMPLETION.pack(first_word, 0, third_word, checks | FCS_GOOD | RX_TYPE)


def queue_status(error: int) -> bytes:
    """Eight bytes: stopped, and why; 0: it runs."""
    return _STATUS.pack(int(error != 0), error)
