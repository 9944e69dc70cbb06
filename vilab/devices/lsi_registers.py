"""LSI Logic 53C1030, an Ultra320 SCSI adapter that speaks Fusion-MPT: its registers.

Each is 32 bits wide and stands at the same offset behind base address 0 (I/O) and base address 1 (memory)::

    0x0000     RW DOORBELL      read: state 31-28, in use 27, who initialized 26-24, data 15-0; write: function 31-24
    0x0004     W  WRITE_SEQ     the keys 4 b 2 7 d, one after the other, open DIAGNOSTIC
    0x0008     RW DIAGNOSTIC    open 7, was reset 5, reset the adapter 2
    0x0030     RW INT_STATUS    reply waits 3, doorbell 0; any write acknowledges the doorbell
    0x0034     RW INT_MASK      1 switches off: reply 3, doorbell 0
    0x0040     W  REQUEST       address of a request frame in memory: carry it out
    0x0044     RW REPLY         read: next reply, all ones if there is none; write: address of an empty reply frame

Two ways to talk: the doorbell, word by word, while the adapter is started, and afterwards frames in memory::

    driver                      memory                         adapter
    writes REQUEST  ──────────> [request frame 128 bytes] ───> fetches it, carries it out
    writes REPLY    ──────────> [empty reply frame] ─────────> only if there is more to say than "well"
    interrupt, reads REPLY <─── context (bit 31: 0)            it went well: the request's own context comes back
                           <─── frame address / 2 (bit 31: 1)  the reply frame says what happened

    state   0 reset   1 ready   2 operational (IOCInit was taken)   4 fault, its code in the data bits

MODEL: one function, and 32-bit base addresses; a real chip has two functions, 64-bit addresses and a second memory
window for diagnostics.
"""

from __future__ import annotations

from vilab.devices.registers import Register

_MPI = "Fusion-MPT Message Passing Interface 1.2, system interface"

REGISTERS = (
    Register(
        0x00, "RW", "DOORBELL",
        "read: state 31-28, in use 27, who initialized 26-24, data 15-0; write: function 31-24", _MPI,
    ),
    Register(0x04, "W", "WRITE_SEQ", "the keys 4 b 2 7 d, one after the other, open DIAGNOSTIC", _MPI),
    Register(0x08, "RW", "DIAGNOSTIC", "open 7, was reset 5, reset the adapter 2", _MPI),
    Register(0x30, "RW", "INT_STATUS", "reply waits 3, doorbell 0; any write acknowledges the doorbell", _MPI),
    Register(0x34, "RW", "INT_MASK", "1 switches off: reply 3, doorbell 0", _MPI),
    Register(0x40, "W", "REQUEST", "address of a request frame in memory: carry it out", _MPI),
    Register(
        0x44, "RW", "REPLY", "read: next reply, all ones if there is none; write: address of an empty reply frame", _MPI
    ),
)  # fmt: skip
NAMES = {register.port: register.name for register in REGISTERS}

VENDOR, DEVICE, REVISION, CLASS_SCSI = 0x1000, 0x0030, 0x01, 0x010000
SUBSYSTEM = (0x15AD, 0x1976)
IO_BYTES, MEMORY_BYTES = 256, 128 << 10

DOORBELL, WRITE_SEQ, DIAGNOSTIC = 0x00, 0x04, 0x08
INT_STATUS, INT_MASK, REQUEST, REPLY = 0x30, 0x34, 0x40, 0x44

RESET, READY, OPERATIONAL, FAULT = 0x0, 0x1, 0x2, 0x4
STATE_SHIFT, IN_USE, WHO_SHIFT, FUNCTION_SHIFT = 28, 1 << 27, 24, 24
DOORBELL_INTERRUPT, REPLY_INTERRUPT = 1 << 0, 1 << 3
INTERRUPTS = DOORBELL_INTERRUPT | REPLY_INTERRUPT

KEYS = (0x4, 0xB, 0x2, 0x7, 0xD)
DIAGNOSTIC_OPEN, WAS_RESET, RESET_ADAPTER = 1 << 7, 1 << 5, 1 << 2

NOTHING = 0xFFFF_FFFF
FRAME_ADDRESS = 0xFFFF_FFFC
"""MODEL: the specification has flags in the lowest three bits; a driver in use (SeaBIOS) takes bit 2 for an address."""
IS_FRAME = 1 << 31

FAULT_REQUEST_BUS, FAULT_REPLY_BUS = 0x8112, 0x8114
"""A request frame could not be fetched, a reply frame not be written: the address leads nowhere."""
FAULT_NO_REPLY_FRAME, FAULT_TOO_MANY = 0x2651, 0x2652
"""MODEL: codes of our own: there was something to say and no empty frame; more in a queue than IOCFacts allow."""
