"""A target with one disk and two initiators, and CDBs by name."""

from __future__ import annotations

from vilab.events import EventLog
from vilab.storage.block import MemoryDisk
from vilab.storage.scsi.commands import COMMANDS, Command
from vilab.storage.scsi.request import Response
from vilab.storage.scsi.sense import SenseKey, Status
from vilab.storage.scsi.state import Identity, Nexus
from vilab.storage.scsi.target import Target

A = Nexus("iqn.2006-06.org.example:a,i,0x400000000001")
B = Nexus("iqn.2006-06.org.example:b,i,0x400000000002")
BY_NAME: dict[str, Command] = {c.name: c for c in COMMANDS}
DISK_BLOCKS = 4096


def cdb(name: str, **fields: int) -> bytes:
    """The bytes of a command, by the names of the table."""
    command = BY_NAME[name]
    number = command.opcode << 8 * (command.length - 1)
    if command.service_action is not None:
        number |= command.service_action << 8 * (command.length - 2)
    for key, value in fields.items():
        field = command.fields[key]
        assert 0 <= value <= field.most, f"{key}={value} does not fit"
        number |= value << field.low + 8 * (command.length - 1 - field.last)
    return number.to_bytes(command.length, "big")


class Bench:
    """``a`` and ``b`` send a command; unit attentions from connecting have been heard already."""

    def __init__(self, read_only: bool = False, thin: bool = True, keep: bool = False) -> None:
        self.log = EventLog(keep=keep)
        self.disk = MemoryDisk(DISK_BLOCKS * 512, read_only)
        self.target = Target(log=self.log)
        self.unit = self.target.add(0, self.disk, Identity("serial-0001"), thin)
        self.target.connect(A)
        self.target.connect(B)
        self.hear()

    def hear(self) -> None:
        """Both initiators take notice of all their unit attentions."""
        self.unit.state.attentions.clear()

    def a(self, name: str, data: bytes = b"", **fields: int) -> Response:
        return self.target.execute(A, 0, cdb(name, **fields), data)

    def b(self, name: str, data: bytes = b"", **fields: int) -> Response:
        return self.target.execute(B, 0, cdb(name, **fields), data)


def good(response: Response) -> bytes:
    assert response.status == Status.GOOD, response.describe()
    return response.data_in


def refused(response: Response, code: int, key: SenseKey = SenseKey.ILLEGAL_REQUEST) -> None:
    assert response.status == Status.CHECK_CONDITION, response.describe()
    assert response.sense is not None
    assert (response.sense.key, response.sense.code) == (key, code), response.describe()
    assert response.data_in == b""


def conflicts(response: Response) -> bool:
    return response.status == Status.RESERVATION_CONFLICT
