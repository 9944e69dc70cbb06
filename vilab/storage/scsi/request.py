"""One command on its way through a logical unit, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from vilab.events import Event
from vilab.protocols import BlockDevice, ReadableBytes
from vilab.storage.scsi.cdb import Cdb, decode, describe_cdb
from vilab.storage.scsi.sense import ScsiError, Sense, Status, parse_sense
from vilab.storage.scsi.state import Identity, Nexus, UnitState


class Request:
    """What a command's handler works with. A handler returns the data for the initiator, or raises ``ScsiError``."""

    __slots__ = ("abort", "cdb", "data", "device", "identity", "luns", "nexus", "state", "thin")

    def __init__(
        self,
        nexus: Nexus,
        cdb: Cdb,
        data: ReadableBytes,
        device: BlockDevice,
        state: UnitState,
        identity: Identity,
        thin: bool,
        luns: Sequence[int],
        abort: Callable[[Sequence[Nexus]], None],
    ) -> None:
        self.nexus = nexus
        self.cdb = cdb
        self.data = data
        self.device = device
        self.state = state
        self.identity = identity
        self.thin = thin
        self.luns = luns
        self.abort = abort

    @property
    def total_blocks(self) -> int:
        return self.device.size_bytes // self.device.sector_bytes

    def answer(self, data: bytes) -> bytes:
        """Data for the initiator, cut to the allocation length of the CDB (SPC-4, 4.2.5.6)."""
        return data[: self.cdb.value("allocation")]


class Response(msgspec.Struct, frozen=True):
    """How a command has ended. ``sense_bytes`` is in the format that the control mode page asks for."""

    status: Status
    data_in: bytes = b""
    sense: Sense | None = None
    sense_bytes: bytes = b""

    def describe(self) -> str:
        text = self.status.name.replace("_", " ")
        if self.sense is not None:
            text += f", {self.sense.describe()}"
        return text + (f", {len(self.data_in)} bytes" if self.data_in else "")


def data_out_bytes(cdb: Cdb, sector_bytes: int) -> int:
    """How many bytes the initiator sends along with this command."""
    match cdb.command.data_out:
        case "blocks":
            blocks = cdb.value("blocks")
            return (256 if not blocks and cdb.command.length == 6 else blocks) * sector_bytes
        case "one block":
            return 0 if "ndob" in cdb.command.fields and cdb.value("ndob") else sector_bytes
        case "twice the blocks":
            return 2 * cdb.value("blocks") * sector_bytes
        case "if compared":
            compared = (0, cdb.value("blocks"), 0, min(cdb.value("blocks"), 1))
            return compared[cdb.value("bytchk")] * sector_bytes
        case "parameter list":
            return cdb.value("parameter_bytes")
        case _:
            return 0


UNKNOWN_BYTES = 65536
"""What a command that is not in our table may bring back."""


def data_in_bytes(raw: bytes, sector_bytes: int = 512) -> int:
    """The most that a command may bring back, by its CDB, for transports that want to know beforehand."""
    try:
        cdb = decode(raw)
    except ScsiError:
        return UNKNOWN_BYTES
    command = cdb.command
    if "allocation" in command.fields:
        return cdb.value("allocation")
    if command.name.startswith("READ CAPACITY"):
        return 8
    if command.name.startswith("READ(") and "blocks" in command.fields:
        blocks = cdb.value("blocks")
        return (256 if not blocks and command.length == 6 else blocks) * sector_bytes
    return 0


class ScsiCommand(Event, frozen=True, tag=True):
    """A command has ended. ``data_in_bytes``, ``data_out_bytes``: what was handed over in each direction."""

    nexus: str
    lun: int
    cdb: bytes
    status: int
    sense: bytes
    data_in_bytes: int
    data_out_bytes: int

    def describe(self) -> str:
        """One line of the trace: ``LUN 0: READ(10) lba=0x10 blocks=8 -> GOOD, 4096 bytes in``."""
        text = f"LUN {self.lun}: {describe_cdb(self.cdb)} -> {Status(self.status).name.replace('_', ' ')}"
        sense = parse_sense(self.sense)
        if sense is not None:
            text += f", {sense.describe()}"
        for count, word in ((self.data_out_bytes, "out"), (self.data_in_bytes, "in")):
            if count:
                text += f", {count} bytes {word}"
        return text


class TaskManaged(Event, frozen=True, tag=True):
    """A task management function was carried out, or a nexus came or went. ``aborted``: commands that ended by it."""

    nexus: str
    lun: int | None
    function: str
    aborted: int
