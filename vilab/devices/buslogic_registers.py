"""BusLogic BT-958, a MultiMaster SCSI adapter with mailboxes in memory: its registers.

Four bytes behind base address 0 (I/O), and the same behind base address 1 (memory)::

    0x0000     W  CONTROL       hard reset 7, soft reset 6, interrupt reset 5, SCSI bus reset 4
    0x0000     R  STATUS        diagnosis runs 7, failed 6, mailboxes needed 5, ready 4, data in 2, invalid 0
    0x0001     W  COMMAND       operation code, then its parameters, a byte at a time
    0x0001     R  DATA_IN       the next byte of the answer
    0x0002     R  INTERRUPT     valid 7, bus reset 3, command complete 2, outgoing free 1, incoming loaded 0
    0x0003     R  GEOMETRY      extended translation 7 (255 heads, 63 sectors)

    driver                        memory                                adapter
    fills an outgoing mailbox ──> |CCB address|  ..  |action| ───────┐
    COMMAND <- 02 ───────────────────────────────────────────────────┴> fetches the CCB, carries it out
    interrupt, INTERRUPT reset <─ |CCB address|status|..|completion| <─ fills an incoming mailbox

Source: BusLogic MultiMaster technical reference, as the drivers of several systems describe it.
"""

from __future__ import annotations

from vilab.devices.registers import Register

_MM = "BusLogic MultiMaster SCSI host adapters, host interface registers"

REGISTERS = (
    Register(0, "W", "CONTROL", "hard reset 7, soft reset 6, interrupt reset 5, SCSI bus reset 4", _MM),
    Register(
        0, "R", "STATUS", "diagnosis runs 7, failed 6, mailboxes needed 5, ready 4, data in 2, invalid 0", _MM
    ),
    Register(1, "W", "COMMAND", "operation code, then its parameters, a byte at a time", _MM),
    Register(1, "R", "DATA_IN", "the next byte of the answer", _MM),
    Register(
        2, "R", "INTERRUPT", "valid 7, bus reset 3, command complete 2, outgoing free 1, incoming loaded 0", _MM
    ),
    Register(3, "R", "GEOMETRY", "extended translation 7 (255 heads, 63 sectors)", _MM),
)  # fmt: skip
WRITTEN = {register.port: register.name for register in REGISTERS if register.access == "W"}

VENDOR, DEVICE, REVISION, CLASS_SCSI = 0x104B, 0x1040, 0x01, 0x010000
SUBSYSTEM = (0x104B, 0x1040)
WINDOW_BYTES = 32

CONTROL, COMMAND, INTERRUPT, GEOMETRY = range(4)
STATUS, DATA_IN = CONTROL, COMMAND

HARD_RESET, SOFT_RESET, INTERRUPT_RESET, BUS_RESET = 1 << 7, 1 << 6, 1 << 5, 1 << 4
DIAGNOSIS, MAILBOXES_NEEDED, READY, DATA_READY, INVALID = 1 << 7, 1 << 5, 1 << 4, 1 << 2, 1 << 0
VALID, COMPLETE, LOADED = 1 << 7, 1 << 2, 1 << 0
EXTENDED_TRANSLATION = 1 << 7
