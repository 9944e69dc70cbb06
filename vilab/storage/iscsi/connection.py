"""One connection to a target, from the first login PDU to the last: bytes in, bytes out.

::

    login ──T, NSG 3──> full feature ──Logout──> closing         any state ──a stream that cannot be read──> closing
    (iscsi_target_login)  │ SCSI commands and data: iscsi_exchange
                          │ task management, text, NOP, logout, reject: here

``receive`` takes bytes as they come, ``take_output`` hands over what goes back. While the peer does not take its output
(``stalled``) nothing more is read: call ``run`` again when it has. ``closing``: send what there is, then hang up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from vilab.protocols import ReadableBytes
from vilab.storage.iscsi.events import IscsiPdu, IscsiRefused
from vilab.storage.iscsi.exchange import ScsiExchange
from vilab.storage.iscsi.keys import Agreement
from vilab.storage.iscsi.layout import (
    CONTINUE,
    FINAL,
    HEADER,
    IMMEDIATE,
    NO_TAG,
    AsyncEvent,
    Opcode,
    RejectReason,
    TaskCode,
    TaskResult,
)
from vilab.storage.iscsi.pdu import DataDigestError, PduError, PduReader, PduWriter
from vilab.storage.iscsi.services import answer_key, manage
from vilab.storage.iscsi.session import Numbers, Portal, Session
from vilab.storage.iscsi.target_login import TargetLogin
from vilab.storage.iscsi.text import TextCollector, TextError, encode_text

if TYPE_CHECKING:
    from vilab.storage.iscsi.target import IscsiTarget

LOGIN_DATA_BYTES = 8192
"""What may be in one PDU before anything else is agreed upon."""
NO_LUN = bytes(8)

DISCOVERY_OPCODES = frozenset({Opcode.TEXT_REQUEST, Opcode.LOGOUT_REQUEST, Opcode.NOP_OUT})


class TargetConnection:
    """``session`` is there once the login has succeeded."""

    def __init__(self, node: IscsiTarget, portal: Portal) -> None:
        self.node = node
        self._log = node.log
        self.closing = False
        self.stalled = False
        self.agreed = Agreement()
        self.session: Session | None = None
        self.why = "the connection was lost"
        self.notify: Callable[[], None] = lambda: None
        """Called when there is output, or an end, that ``receive`` did not bring about."""
        self._numbers = Numbers()
        self._reader = PduReader(LOGIN_DATA_BYTES)
        self._writer = PduWriter()
        self._login: TargetLogin | None = TargetLogin(node, portal, self, self._numbers)
        self._exchange: ScsiExchange | None = None
        self._text = TextCollector()
        self._held: dict[int, tuple[bytes, bytes]] = {}
        """Commands that came before those with lower numbers."""

    @property
    def held_bytes(self) -> int:
        """What the peer makes this side hold right now."""
        held = sum(len(data) + len(header) for header, data in self._held.values())
        exchange = 0 if self._exchange is None else self._exchange.held_bytes
        return held + exchange + self._reader.held_bytes + self._writer.held_bytes

    def receive(self, data: bytes) -> None:
        if not self.closing:
            self._reader.feed(data)
            self.run()

    def run(self) -> None:
        """Act upon what has been received, until there is no more or the output is full."""
        limit, reader, writer = self.node.limits.output_bytes, self._reader, self._writer
        self.stalled = False
        try:
            while not self.closing:
                if writer.held_bytes > limit:
                    self.stalled = True
                    return
                pdu = reader.next()
                if pdu is None:
                    return
                self._handle(*pdu)
        except DataDigestError as error:
            self._reject(error.header, RejectReason.DATA_DIGEST)
            self._fail(str(error))
        except PduError as error:
            self._fail(str(error))

    def take_output(self) -> bytes:
        return self._writer.take()

    def lost(self) -> None:
        """The transport says that the connection is closed."""
        self.closing = True
        self._held.clear()
        self.node.lost(self, self.why)

    def drop(self) -> None:
        """The session has ended for another reason: nothing more is read, what was said is still sent."""
        self.closing = True
        self._held.clear()
        if self._exchange is not None:
            self._exchange.drop_all()
        self.notify()

    def _fail(self, why: str) -> None:
        """The connection cannot go on, and with it its session."""
        self.why = why
        self.closing = True
        if self.session is not None and self.session.connection is self:
            self.node.end(self.session, why)

    # ------------------------------------------------------------------------------------------------------------------

    def _handle(self, header: bytes, data: bytes) -> None:
        if self._log.active:
            self._log.emit(IscsiPdu(self.node.scsi.clock.now_ns, "target", False, header, len(data)))
        byte0 = header[0]
        exchange = self._exchange
        if exchange is None:
            self._handle_login(header, data)
            return
        opcode = byte0 & 0x3F  # compared with plain numbers: this is the path of every command
        if opcode == 5:
            exchange.data_out(header, data)
            return
        if opcode not in HANDLERS:
            self._reject(header, RejectReason.SNACK if opcode == Opcode.SNACK else RejectReason.NOT_SUPPORTED)
            return
        if byte0 & IMMEDIATE:
            self._act(header, data)
            return
        numbers = self._numbers
        number = int.from_bytes(header[24:28], "big")
        ahead = (number - numbers.exp_cmd_sn) & 0xFFFF_FFFF
        if ahead >= (numbers.max_cmd_sn + 1 - numbers.exp_cmd_sn) & 0xFFFF_FFFF:
            return  # outside the window: ignored (RFC 7143, 4.2.2.1)
        if ahead:
            self._hold(number, header, data)
            return
        numbers.exp_cmd_sn = (number + 1) & 0xFFFF_FFFF
        exchange.open_window(header)
        if opcode == 1 and exchange.nexus is not None:
            exchange.command(header, data)
        else:
            self._act(header, data)
        while self._held and not self.closing and numbers.exp_cmd_sn in self._held:
            header, data = self._held.pop(numbers.exp_cmd_sn)
            numbers.exp_cmd_sn = (numbers.exp_cmd_sn + 1) & 0xFFFF_FFFF
            exchange.open_window(header)
            if header:
                self._act(header, data)

    def _hold(self, number: int, header: bytes, data: bytes) -> None:
        if len(data) > self.node.limits.first_burst_bytes:
            self._protocol_error(header, "a command has more data with it than the first burst")
        else:
            self._held.setdefault(number, (header, data))

    def _act(self, header: bytes, data: bytes) -> None:
        opcode = header[0] & 0x3F
        if opcode == Opcode.SCSI_COMMAND and self._exchange is not None and self._exchange.nexus is not None:
            if header[0] & IMMEDIATE and self._exchange.full:
                self._reject(header, RejectReason.TOO_MANY_IMMEDIATE)
            else:
                self._exchange.command(header, data)
        elif self.session is not None and self.session.discovery and opcode not in DISCOVERY_OPCODES:
            self._reject(header, RejectReason.PROTOCOL_ERROR)
        else:
            HANDLERS[Opcode(opcode)](self, header, data)

    def _send(self, opcode: int, flags: int, *, byte2: int = 0, lun: bytes = NO_LUN, itt: int = NO_TAG,
              second: int = 0, stat_sn: int | None = None, last: tuple[int, int, int] = (0, 0, 0),
              data: bytes = b"") -> None:  # fmt: skip
        numbers = self._numbers
        header = HEADER.pack(
            opcode, flags, byte2, 0, len(data), lun, itt, second,
            numbers.next_stat_sn() if stat_sn is None else stat_sn, numbers.exp_cmd_sn, numbers.max_cmd_sn, *last,
        )  # fmt: skip
        self._add(header, data)

    def _add(self, header: bytes, data: ReadableBytes = b"") -> None:
        self._writer.add(header, data)
        if self._log.active:
            self._log.emit(IscsiPdu(self.node.scsi.clock.now_ns, "target", True, header, len(data)))

    def _reject(self, header: bytes, reason: RejectReason) -> None:
        self._send(Opcode.REJECT, FINAL, byte2=reason, data=header)

    def _protocol_error(self, header: bytes, why: str) -> None:
        self._reject(header, RejectReason.PROTOCOL_ERROR)
        self._fail(why)

    # login ------------------------------------------------------------------------------------------------------------

    def _handle_login(self, header: bytes, data: bytes) -> None:
        login = self._login
        if login is None or header[0] & 0x3F != Opcode.LOGIN_REQUEST:
            self._fail("there was something else where a login should have been")
            return
        self._add(*login.step(header, data))
        if login.refused is not None:
            self._fail(str(login.refused))
            if self._log.active:
                now, status = self.node.scsi.clock.now_ns, login.refused.status
                self._log.emit(IscsiRefused(now, login.request.initiator, status, str(login.refused)))
        elif login.session is not None:
            self._login, self.session, self.agreed = None, login.session, login.agreed
            for stream in (self._reader, self._writer):
                stream.header_digest = self.agreed.header_digest
                stream.data_digest = self.agreed.data_digest
            self._reader.max_data_bytes = self.node.limits.data_bytes
            self._exchange = ScsiExchange(
                self.node,
                None if self.session.discovery else self.session.nexus,
                self.agreed,
                self._numbers,
                self._add,
            )

    # full feature -----------------------------------------------------------------------------------------------------

    def _nop(self, header: bytes, data: bytes) -> None:
        itt = int.from_bytes(header[16:20], "big")
        if itt != NO_TAG:
            data = data[: self.agreed.peer_max_data_bytes]
            self._send(Opcode.NOP_IN, FINAL, lun=header[8:16], itt=itt, second=NO_TAG, data=data)

    def _manage_tasks(self, header: bytes, _data: bytes) -> None:
        itt, tag = int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")
        code = header[1] & 0x7F
        if code == TaskCode.ABORT_TASK and self._abort_held(tag):
            result = TaskResult.COMPLETE
        else:
            nexus = None if self._exchange is None else self._exchange.nexus
            result = manage(self.node.scsi, nexus, code, header[8:16], tag)
            self.node.drop_aborted()
        self._send(Opcode.TASK_RESPONSE, FINAL, byte2=result, itt=itt)
        if code == TaskCode.TARGET_COLD_RESET:
            self.node.end_all("the target was reset by an initiator")

    def _abort_held(self, tag: int) -> bool:
        """A command that waits for its turn is ended before it was one; its number counts as come."""
        for number, (header, _) in self._held.items():
            if header and header[0] & 0x3F == Opcode.SCSI_COMMAND and int.from_bytes(header[16:20], "big") == tag:
                self._held[number] = (b"", b"")
                return True
        return False

    def _answer_text(self, header: bytes, data: bytes) -> None:
        itt = int.from_bytes(header[16:20], "big")
        try:
            pairs = self._text.add(data, bool(header[1] & CONTINUE))
        except TextError as error:
            self._protocol_error(header, str(error))
            return
        if pairs is None:
            self._send(Opcode.TEXT_RESPONSE, 0, lun=header[8:16], itt=itt, second=self._numbers.next_ttt())
            return
        discovery = self.session is not None and self.session.discovery
        answers = [answer_key(self.node, self.agreed, discovery, name, value) for name, value in pairs]
        text = encode_text([pair for answer in answers for pair in answer])
        if len(text) > self.agreed.peer_max_data_bytes:
            self._reject(header, RejectReason.OUT_OF_RESOURCES)
            return
        self._send(Opcode.TEXT_RESPONSE, FINAL, lun=header[8:16], itt=itt, second=NO_TAG, data=text)

    def _log_out(self, header: bytes, _data: bytes) -> None:
        reason = header[1] & 0x7F
        itt = int.from_bytes(header[16:20], "big")
        if reason > 1:
            self._send(Opcode.LOGOUT_RESPONSE, FINAL, byte2=2, itt=itt)  # no recovery
            return
        other = reason == 1 and self.session is not None and int.from_bytes(header[20:22], "big") != self.session.cid
        self._send(Opcode.LOGOUT_RESPONSE, FINAL, byte2=1 if other else 0, itt=itt)
        if not other and self.session is not None:
            self.why = "the initiator has logged out"
            self.node.end(self.session, self.why)

    def _out_of_place(self, header: bytes, _data: bytes) -> None:
        self._protocol_error(header, "a PDU has no place in the full feature phase")

    # what the target says unasked -------------------------------------------------------------------------------------

    def ask_for_logout(self, within_s: int) -> None:
        if self._exchange is not None and not self.closing:
            self._send(Opcode.ASYNC_MESSAGE, FINAL, last=(AsyncEvent.LOGOUT_REQUESTED << 24, within_s, 0))
            self.notify()

    def drop_aborted(self) -> None:
        """Forget the data of commands that others have ended; tell the peer if it may send commands again."""
        if self._exchange is None:
            return
        numbers = self._numbers
        was_closed = (numbers.max_cmd_sn + 1) & 0xFFFF_FFFF == numbers.exp_cmd_sn
        if self._exchange.drop_aborted() and was_closed:
            self._send(Opcode.NOP_IN, FINAL, second=NO_TAG, stat_sn=numbers.stat_sn)
        if self._writer.held_bytes:
            self.notify()


HANDLERS = {
    Opcode.NOP_OUT: TargetConnection._nop,
    Opcode.SCSI_COMMAND: TargetConnection._out_of_place,
    Opcode.TASK_REQUEST: TargetConnection._manage_tasks,
    Opcode.TEXT_REQUEST: TargetConnection._answer_text,
    Opcode.LOGOUT_REQUEST: TargetConnection._log_out,
    Opcode.LOGIN_REQUEST: TargetConnection._out_of_place,
}
