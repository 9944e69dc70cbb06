"""LUNs as iSCSI writes them, and a command that waits for its data.

::

    8 bytes   00 nn 00 ...    peripheral addressing, LUN 0 to 255        4x nn 00 ...   flat, LUN 0 to 16383

    data      |<- unsolicited ->|<-- R2T -->|<-- R2T -->|            |
              0                                         asked_bytes   wanted = min(EDTL, what the CDB moves)
"""

from __future__ import annotations

from collections import deque

from vilab.storage.scsi.state import Task
from vilab.storage.scsi.target import MOST_LUNS


def lun_of(field: bytes) -> int:
    """The number in an 8-byte LUN: peripheral (one byte) or flat addressing (SAM-4, 4.6); anything else is nowhere.

    >>> lun_of(bytes.fromhex("0001000000000000")), lun_of(bytes.fromhex("4102000000000000"))
    (1, 258)
    """
    method, high = field[0] >> 6, field[0] & 0x3F
    if method > 1 or (high and not method) or any(field[2:]):
        return MOST_LUNS
    return high << 8 | field[1]


def lun_field(lun: int) -> bytes:
    """The way back.

    >>> lun_field(1).hex(), lun_field(258).hex()
    ('0001000000000000', '4102000000000000')
    """
    return (lun if lun < 256 else 0x4000 | lun).to_bytes(2, "big") + bytes(6)


class Transfer:
    """A command that waits for its data."""

    __slots__ = (
        "asked_bytes", "data", "data_sn", "edtl", "granted_bytes", "immediate", "itt", "lun", "r2t_sn", "r2ts", "task",
        "unsolicited", "wanted",
    )  # fmt: skip

    def __init__(
        self, task: Task, lun: bytes, itt: int, edtl: int, data: bytes, unsolicited: bool, immediate: bool
    ) -> None:
        self.task = task
        self.immediate = immediate
        self.lun = lun
        self.itt = itt
        self.edtl = edtl
        self.wanted = min(edtl, task.data_out_bytes)
        self.data = bytearray(data)
        self.data_sn = 0
        self.unsolicited = unsolicited
        self.r2ts: deque[tuple[int, int]] = deque()
        """(TTT, end offset), in the order in which they are to be fulfilled."""
        self.r2t_sn = 0
        self.asked_bytes = 0
        """Up to this offset the data were asked for; 0 before the first R2T."""
        self.granted_bytes = 0
