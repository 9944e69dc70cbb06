"""vmxnet3, VMware's own network card: no chip was ever made of it. Its registers, 32 bits wide, eight bytes apart.

Behind base address 0 is what a frame may need, behind base address 1 what is for setting up. The table names them as
the driver does where it has I/O ports only, base address << 24 | offset::

    0x0000     RW IMR           of 25 interrupts, 8 bytes apart: masked 0
    0x0600     W  TXPROD        of 8 transmit queues, 8 bytes apart: next descriptor that the driver fills
    0x0800     W  RXPROD        of 16 receive queues: the same of ring 1
    0x0a00     W  RXPROD2       of 16 receive queues: the same of ring 2
    0x1000000  RW VRRS          read: versions there are, a bit each; write: the one that the driver takes
    0x1000008  RW UVRS          the same for the layout of statistics and features: version 1 only
    0x1000010  RW DSAL          address of DriverShared in memory, bits 31-0; 0: nothing is shared any more
    0x1000018  RW DSAH          bits 63-32 of it
    0x1000020  RW CMD           write: a command; read: its answer
    0x1000028  RW MACL          the address that the card answers to, its first four bytes
    0x1000030  RW MACH          its last two
    0x1000038  R  ICR           an interrupt on the pin, which reading takes back 0
    0x1000040  W  ECR           events that the driver has seen: cleared in DriverShared

Everything else is in memory (``vmxnet3_layout``)::

    driver                         memory                           card
    CMD <- ACTIVATE ───────────────────────────────────────────────> reads DriverShared: where the rings are
    fills descriptors ──────────> [tx ring] ─────────────────────┐
    TXPROD <- next, if txThreshold frames wait ──────────────────┴─> fetches, sends, looks again by itself
    interrupt, ICR, frees buffers  [completion ring] <─────────────  these are done

Sources: the public headers vmxnet3_defs.h and upt1_defs.h of Linux's driver; QEMU's model where the headers are silent.
"""

from __future__ import annotations

from vilab.devices.registers import Register

_DEFS = "Linux, drivers/net/vmxnet3/vmxnet3_defs.h"
SETUP = 1 << 24
"""In ``Register.port``: behind base address 1."""

REGISTERS = (
    Register(0x000, "RW", "IMR", "of 25 interrupts, 8 bytes apart: masked 0", _DEFS),
    Register(0x600, "W", "TXPROD", "of 8 transmit queues, 8 bytes apart: next descriptor that the driver fills", _DEFS),
    Register(0x800, "W", "RXPROD", "of 16 receive queues: the same of ring 1", _DEFS),
    Register(0xA00, "W", "RXPROD2", "of 16 receive queues: the same of ring 2", _DEFS),
    Register(
        SETUP | 0x00, "RW", "VRRS", "read: versions there are, a bit each; write: the one that the driver takes", _DEFS
    ),
    Register(
        SETUP | 0x08, "RW", "UVRS", "the same for the layout of statistics and features: version 1 only", _DEFS
    ),
    Register(
        SETUP | 0x10, "RW", "DSAL",
        "address of DriverShared in memory, bits 31-0; 0: nothing is shared any more", _DEFS,
    ),
    Register(SETUP | 0x18, "RW", "DSAH", "bits 63-32 of it", _DEFS),
    Register(SETUP | 0x20, "RW", "CMD", "write: a command; read: its answer", _DEFS),
    Register(SETUP | 0x28, "RW", "MACL", "the address that the card answers to, its first four bytes", _DEFS),
    Register(SETUP | 0x30, "RW", "MACH", "its last two", _DEFS),
    Register(SETUP | 0x38, "R", "ICR", "an interrupt on the pin, which reading takes back 0", _DEFS),
    Register(SETUP | 0x40, "W", "ECR", "events that the driver has seen: cleared in DriverShared", _DEFS),
)  # fmt: skip
SETUP_NAMES = {register.port ^ SETUP: register.name for register in REGISTERS if register.port & SETUP}

VENDOR, DEVICE, REVISION, CLASS_ETHERNET = 0x15AD, 0x07B0, 0x01, 0x020000
SUBSYSTEM = (0x15AD, 0x07B0)
WINDOW_BYTES = 4096
STEP_BYTES = 8

IMR, TXPROD, RXPROD, RXPROD2 = 0x000, 0x600, 0x800, 0xA00
VRRS, UVRS, DSAL, DSAH, CMD, MACL, MACH, ICR, ECR = range(0, 0x48, STEP_BYTES)

MOST_INTERRUPTS, MOST_TX_QUEUES, MOST_RX_QUEUES = 25, 8, 16
VERSIONS, NEWEST = 0b111, 3
"""VRRS: 1 as in ESX 4, 2 as in ESX 6.0, 3 (data rings of a chosen size) as in ESX 6.5."""
LAYOUT_VERSIONS = 0b1

SET, GET = 0xCAFE_0000, 0xF00D_0000
(
    ACTIVATE_DEV, QUIESCE_DEV, RESET_DEV, UPDATE_RX_MODE, UPDATE_MAC_FILTERS, UPDATE_VLAN_FILTERS, UPDATE_RSSIDT,
    UPDATE_IML, UPDATE_PMCFG, UPDATE_FEATURE,
) = range(SET, SET + 10)  # fmt: skip
LOAD_PLUGIN, SET_COALESCE = SET + 11, SET + 14
(
    GET_QUEUE_STATUS, GET_STATS, GET_LINK, GET_PERM_MAC_LO, GET_PERM_MAC_HI, GET_DID_LO, GET_DID_HI,
    GET_DEV_EXTRA_INFO, GET_CONF_INTR,
) = range(GET, GET + 9)  # fmt: skip
GET_TXDATA_DESC_SIZE, GET_COALESCE = GET + 10, GET + 11

FAILED = 1
"""CMD: any answer but 0 to a command that begins with CAFE."""
UNKNOWN = 0xFFFF_FFFF
LINK_UP = 10_000 << 16 | 1
"""GET_LINK: 10,000 Mbit/s, up; 0: down."""
INTX_AUTO_MASK = 1 | 0 << 2
"""GET_CONF_INTR: the interrupt pin; an interrupt masks itself until the driver unmasks it (IMR)."""
TX_DATA_BYTES = 128
"""GET_TXDATA_DESC_SIZE: an entry of the transmit data ring, as it was before version 3."""

RQERR, TQERR, LINK = 1 << 0, 1 << 1, 1 << 2
"""Bits of ECR."""
