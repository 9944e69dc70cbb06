"""A logical unit: a disk that answers CDBs.

What happens to a command, in this order (SAM-4, 5.13; SPC-4, 5.12 and 6)::

    unit attention waits for this nexus?  ->  CHECK CONDITION, told once (not INQUIRY, REPORT LUNS, REQUEST SENSE)
    decode                                ->  20/00 no such command, 24/00 a field that cannot be
    somebody else's reservation           ->  RESERVATION CONFLICT
    stopped                               ->  02/04/02
    the command's handler                 ->  21/00 out of range, 26/00 bad data, ... or the work, then GOOD

Whatever the bytes, there is a status at the end and never an exception. What the disk below cannot do becomes
MEDIUM ERROR or DATA PROTECT.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vilab.clock import VirtualClock
from vilab.errors import AdminError
from vilab.events import EventLog
from vilab.protocols import BlockDevice, ReadableBytes
from vilab.storage.block import BlockError
from vilab.storage.scsi import blocks as scsi_blocks
from vilab.storage.scsi import inquiry as scsi_inquiry
from vilab.storage.scsi import mode as scsi_mode
from vilab.storage.scsi import reservation_commands as scsi_reservation_commands
from vilab.storage.scsi.cdb import decode
from vilab.storage.scsi.request import Request, Response, ScsiCommand, data_out_bytes
from vilab.storage.scsi.reservation import check_access
from vilab.storage.scsi.sense import ScsiError, Sense, SenseKey, Status
from vilab.storage.scsi.state import (
    CACHING_DEFAULT,
    CONTROL_DEFAULT,
    Identity,
    Nexus,
    UnitState,
    decode_unit_state,
    encode_state,
)

WITHOUT_ATTENTION = frozenset({0x03, 0x12, 0xA0})
"""REQUEST SENSE, INQUIRY and REPORT LUNS are carried out while a unit attention waits (SAM-4, 5.14)."""
POWER_CONDITIONS = frozenset({0x0, 0x1, 0x2, 0x3, 0x7, 0xA, 0xB})
NOT_STARTED = Sense(SenseKey.NOT_READY, 0x0402)
AWAY = Sense(SenseKey.NOT_READY, 0x0401)
"""This very record: the disk below is not to be reached now, and whoever has the command may try it again."""
_NO_SENSE = Sense(SenseKey.NO_SENSE, 0)


def _nothing(request: Request) -> bytes:
    return b""


def _request_sense(request: Request) -> bytes:
    """Sense data as data: a unit attention that waits (and now does not any more), else why the unit is not ready."""
    code = request.state.next_attention(request.nexus)
    sense = _NO_SENSE if request.state.started else NOT_STARTED
    if code is not None:
        sense = Sense(SenseKey.UNIT_ATTENTION, code)
    return request.answer(sense.descriptor() if request.cdb.value("desc") else sense.fixed())


def _start_stop(request: Request) -> bytes:
    """START and its opposite. MODEL: power conditions other than that are taken and make no difference."""
    cdb = request.cdb
    if cdb.value("power") not in POWER_CONDITIONS:
        raise cdb.refuse("power")
    if cdb.value("power"):
        return b""
    if cdb.value("loej"):
        raise cdb.refuse("loej")  # the medium cannot be taken out
    if not cdb.value("start") and not cdb.value("no_flush"):
        request.device.flush()
    request.state.started = bool(cdb.value("start"))
    return b""


def _prevent_allow(request: Request) -> bytes:
    preventing, nexus = request.state.preventing, request.nexus
    if request.cdb.value("prevent") & 1:
        if nexus not in preventing:
            preventing.append(nexus)
    elif nexus in preventing:
        preventing.remove(nexus)
    return b""


def _send_diagnostic(request: Request) -> bytes:
    """The default self-test passes; others there are none."""
    if request.cdb.value("code") or request.cdb.value("parameter_bytes"):
        raise request.cdb.refuse("code" if request.cdb.value("code") else "parameter_bytes")
    return b""


Handler = Callable[[Request], bytes]

HANDLERS: dict[tuple[int, int | None], Handler] = {
    (0x00, None): _nothing,
    (0x03, None): _request_sense,
    (0x08, None): scsi_blocks.read6,
    (0x0A, None): scsi_blocks.write6,
    (0x12, None): scsi_inquiry.inquiry,
    (0x15, None): scsi_mode.mode_select,
    (0x16, None): scsi_reservation_commands.reserve6,
    (0x17, None): scsi_reservation_commands.release6,
    (0x1A, None): scsi_mode.mode_sense,
    (0x1B, None): _start_stop,
    (0x1D, None): _send_diagnostic,
    (0x1E, None): _prevent_allow,
    (0x25, None): scsi_inquiry.read_capacity10,
    (0x37, None): scsi_inquiry.read_defect_data,
    (0xB7, None): scsi_inquiry.read_defect_data,
    (0x41, None): scsi_blocks.write_same,
    (0x93, None): scsi_blocks.write_same,
    (0x42, None): scsi_blocks.unmap,
    (0x55, None): scsi_mode.mode_select,
    (0x5A, None): scsi_mode.mode_sense,
    **{(0x5E, action): scsi_reservation_commands.persistent_reserve_in for action in range(4)},
    **{(0x5F, action): scsi_reservation_commands.persistent_reserve_out for action in range(7)},
    (0x89, None): scsi_blocks.compare_and_write,
    (0x8B, None): scsi_blocks.or_write,
    (0x9E, 0x10): scsi_inquiry.read_capacity16,
    (0x9E, 0x12): scsi_blocks.get_lba_status,
    (0xA0, None): scsi_inquiry.report_luns,
    (0xA3, 0x0C): scsi_inquiry.report_operation_codes,
    (0xA3, 0x0D): scsi_inquiry.report_task_functions,
    **{(opcode, None): scsi_blocks.read for opcode in (0x28, 0xA8, 0x88)},
    **{(opcode, None): scsi_blocks.write for opcode in (0x2A, 0xAA, 0x8A)},
    **{(opcode, None): scsi_blocks.write_and_verify for opcode in (0x2E, 0xAE, 0x8E)},
    **{(opcode, None): scsi_blocks.verify for opcode in (0x2F, 0xAF, 0x8F)},
    **{(opcode, None): scsi_blocks.pre_fetch for opcode in (0x34, 0x90)},
    **{(opcode, None): scsi_blocks.synchronize_cache for opcode in (0x35, 0x91)},
}
"""A handler for every row of ``commands.COMMANDS``."""


def _disk_failed(error: Exception, writes: bool) -> Sense:
    kind = error.kind if isinstance(error, BlockError) else "medium"
    if kind == "read_only":
        return Sense(SenseKey.DATA_PROTECT, 0x2700)
    if kind == "no_space":
        return Sense(SenseKey.DATA_PROTECT, 0x2707)
    if kind == "away":
        return AWAY
    return Sense(SenseKey.MEDIUM_ERROR, 0x0C00 if writes else 0x1100)


class LogicalUnit:
    """A disk under a LUN.

    Parameters
    ----------
    device : where the bytes are.
    identity : what INQUIRY says; the serial number must be the same every time this disk is seen, on every host.
    lun : its number, for events.
    thin : offer UNMAP (``device.unmap``).
    luns : what REPORT LUNS lists; a target sets it.
    abort : called with the nexuses whose commands PREEMPT AND ABORT ends; a target sets it.
    """

    def __init__(
        self,
        device: BlockDevice,
        identity: Identity,
        lun: int = 0,
        thin: bool = True,
        clock: VirtualClock | None = None,
        log: EventLog | None = None,
    ) -> None:
        if device.size_bytes < device.sector_bytes:
            raise AdminError(f"Disk {identity.serial} has no sectors; give it a size before it becomes LUN {lun}.")
        self.device = device
        self.identity = identity
        self.lun = lun
        self.thin = thin
        self.clock = clock or VirtualClock()
        self.log = log or EventLog()
        self.state = UnitState()
        self.luns: Sequence[int] = (lun,)
        self.abort: Callable[[Sequence[Nexus]], None] = lambda nexuses: None

    def execute(self, nexus: Nexus, cdb: bytes, data_out: ReadableBytes = b"") -> Response:
        """Carry out one command with the data that came along, to its end."""
        state = self.state
        status, data_in, sense, sense_bytes = Status.GOOD, b"", None, b""
        writes = False
        try:
            if state.attentions and cdb[:1] and cdb[0] not in WITHOUT_ATTENTION:
                code = state.next_attention(nexus)
                if code is not None:
                    raise ScsiError(Sense(SenseKey.UNIT_ATTENTION, code))
            decoded = decode(cdb)
            command = decoded.command
            writes = command.access == "write"
            if state.reserved_by is not None or state.registrations:
                check_access(state, nexus, decoded)
            if command.needs_media and not state.started:
                raise ScsiError(NOT_STARTED)
            if not self.thin and command.opcode == 0x42:
                raise ScsiError(Sense(SenseKey.ILLEGAL_REQUEST, 0x2000, byte=0))
            handler = HANDLERS[command.opcode, command.service_action]
            data_in = handler(
                Request(nexus, decoded, data_out, self.device, state, self.identity, self.thin, self.luns, self.abort)
            )
        except ScsiError as error:
            status, sense = error.status, error.sense
        except (AdminError, OSError) as error:
            status, sense = Status.CHECK_CONDITION, _disk_failed(error, writes)
        if sense is not None:
            sense_bytes = sense.descriptor() if state.descriptor_sense else sense.fixed()
        if self.log.active:
            self.log.emit(
                ScsiCommand(
                    self.clock.now_ns,
                    str(nexus),
                    self.lun,
                    bytes(cdb),
                    status,
                    sense_bytes,
                    len(data_in),
                    len(data_out),
                )
            )
        return Response(status, data_in, sense, sense_bytes)

    def data_out_bytes(self, cdb: bytes) -> int:
        """How much data a transport should fetch for this command; 0 if it will be refused as it stands."""
        try:
            wanted = data_out_bytes(decode(cdb), self.device.sector_bytes)
        except ScsiError:
            return 0
        return wanted if wanted <= scsi_blocks.MAX_TRANSFER_BYTES else 0

    def connect(self, nexus: Nexus, attention: int = 0x2900) -> None:
        """A nexus appears; its first command will be told so (29/00)."""
        if nexus not in self.state.nexuses:
            self.state.nexuses.append(nexus)
            self.state.attend(nexus, attention)

    def disconnect(self, nexus: Nexus) -> None:
        """I_T nexus loss (SAM-4, 6.3.4): what hangs on the nexus ends. Persistent registrations stay."""
        state = self.state
        if nexus in state.nexuses:
            state.nexuses.remove(nexus)
        state.attentions = [a for a in state.attentions if a.nexus != nexus]
        if state.reserved_by == nexus:
            state.reserved_by = None
        if nexus in state.preventing:
            state.preventing.remove(nexus)

    def reset(self, attention: int) -> None:
        """Logical unit reset (SAM-4, 6.3.3): all of the state but persistent reservations is as after power-on."""
        state = self.state
        state.reserved_by = None
        state.preventing.clear()
        state.caching, state.control = CACHING_DEFAULT, CONTROL_DEFAULT
        state.started = True
        state.attentions.clear()
        for nexus in state.nexuses:
            state.attend(nexus, attention)

    def capacity_changed(self) -> None:
        """The disk below has grown: every initiator is told to look again (2A/09)."""
        for nexus in self.state.nexuses:
            self.state.attend(nexus, 0x2A09)

    def save_state(self) -> UnitState:
        return decode_unit_state(encode_state(self.state))

    def load_state(self, state: UnitState) -> None:
        self.state = decode_unit_state(encode_state(state))
