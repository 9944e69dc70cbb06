"""An iSCSI initiator as a state machine over bytes: one session with a target, or with a portal to ask for targets.

::

    start ──> login ──────────> full feature ──log_out──> closed         anything that cannot be ──> closed, error
                                  submit   a command     ──> Command.response
                                  manage   task management ──> Management.result
                                  ask      text            ──> Question.answer

``receive`` takes bytes as they come, ``take_output`` hands over what goes back; ``initiator_sending`` is the half that
makes those. Whatever a target sends, ``receive`` raises nothing: ``error`` says what was wrong.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from vilab.clock import VirtualClock
from vilab.errors import AdminError, VmmBug
from vilab.events import EventLog
from vilab.protocols import ReadableBytes
from vilab.storage.iscsi.errors import IscsiError, SessionLostError
from vilab.storage.iscsi.events import IscsiPdu
from vilab.storage.iscsi.initiator_login import InitiatorConfig, InitiatorLogin
from vilab.storage.iscsi.initiator_sending import Sender
from vilab.storage.iscsi.layout import (
    CONTINUE,
    FINAL,
    HEADER,
    IMMEDIATE,
    NO_TAG,
    WITH_STATUS,
    AsyncEvent,
    Opcode,
    TaskCode,
)
from vilab.storage.iscsi.pdu import PduError, PduReader
from vilab.storage.iscsi.pending import Command, Management, Question
from vilab.storage.iscsi.text import TextError, encode_text
from vilab.storage.iscsi.transfer import lun_field
from vilab.storage.scsi.request import Response
from vilab.storage.scsi.sense import Status, parse_sense

LOGIN_DATA_BYTES = 8192
NO_LUN = bytes(8)


class Initiator(Sender):
    """One session from its login on."""

    def __init__(
        self,
        config: InitiatorConfig,
        clock: VirtualClock | None = None,
        log: EventLog | None = None,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        super().__init__(clock or VirtualClock(), log or EventLog())
        self.config = config
        self.closed = False
        self.error: IscsiError | None = None
        self.logout_requested = False
        self._reader = PduReader(LOGIN_DATA_BYTES)
        self._login = InitiatorLogin(config, random)
        self._tag = 0
        self._others: dict[int, Management | Question] = {}

    def start(self) -> None:
        self._add(*self._login.start())

    def receive(self, data: bytes) -> None:
        if self.closed:
            return
        self._reader.feed(data)
        try:
            while not self.closed:
                pdu = self._reader.next()
                if pdu is None:
                    return
                if self.log.active:
                    self.log.emit(IscsiPdu(self.clock.now_ns, "initiator", False, pdu[0], len(pdu[1])))
                self._handle(*pdu)
        except (PduError, TextError) as error:
            self.fail(f"{self._peer} breaks the rules of iSCSI: {error}.")
        except IscsiError as error:
            self.error = error
            self.closed = True

    def fail(self, sentence: str) -> None:
        """The session is over."""
        if not self.closed:
            self.error = SessionLostError(sentence)
            self.closed = True

    @property
    def _peer(self) -> str:
        return self.config.target or "The portal"

    # what can be asked ------------------------------------------------------------------------------------------------

    def submit(self, lun: int, cdb: bytes, data_out: ReadableBytes = b"", data_in_bytes: int = 0) -> Command:
        """Send a command as soon as the window allows. Data go one way: out, or else in."""
        command = Command(self._next_tag(), lun, bytes(cdb).ljust(16, b"\0"), data_out, data_in_bytes)
        if len(command.cdb) != 16:
            raise AdminError(f"A CDB over iSCSI has at most 16 bytes; this one has {len(command.cdb)}.")
        self._waiting.append(command)
        self._send_commands()
        return command

    def manage(self, code: TaskCode, lun: int = 0, command: Command | None = None) -> Management:
        """A task management function, ahead of all commands; ``command`` is the one to abort or to ask about."""
        self._check_logged_in()
        management = Management()
        tag = self._next_tag()
        self._others[tag] = management
        self._send(
            Opcode.TASK_REQUEST | IMMEDIATE, FINAL | code, lun_field(lun), tag,
            NO_TAG if command is None else command.tag, more=(0 if command is None else command.cmd_sn, 0, 0, 0),
        )  # fmt: skip
        if command is not None and code == TaskCode.ABORT_TASK:
            command.aborted = True
            self._commands.pop(command.tag, None)
            if command in self._waiting:
                self._waiting.remove(command)
        return management

    def ask(self, pairs: list[tuple[str, str]]) -> Question:
        """A text request; at most one at a time."""
        return self._question(Opcode.TEXT_REQUEST, FINAL, NO_TAG, encode_text(pairs))

    def ping(self) -> Question:
        return self._question(Opcode.NOP_OUT, FINAL, NO_TAG)

    def log_out(self) -> Question:
        """End the session; ``closed`` follows."""
        return self._question(Opcode.LOGOUT_REQUEST, FINAL, 0)

    def _question(self, opcode: int, flags: int, second: int, data: bytes = b"") -> Question:
        self._check_logged_in()
        question, tag = Question(), self._next_tag()
        self._others[tag] = question
        self._send(opcode | IMMEDIATE, flags, NO_LUN, tag, second, data=data)
        return question

    def _check_logged_in(self) -> None:
        if not self.logged_in:
            raise VmmBug("Only commands can wait for the login to be over.")

    def _next_tag(self) -> int:
        self._tag = (self._tag + 1) % NO_TAG
        return self._tag

    # receiving --------------------------------------------------------------------------------------------------------

    def _handle(self, header: bytes, data: bytes) -> None:
        opcode = header[0] & 0x3F
        if not self.logged_in:
            self._handle_login(opcode, header, data)
            return
        self._open_window(int.from_bytes(header[32:36], "big"))
        handler = HANDLERS.get(opcode)
        if handler is None:
            raise PduError(f"a PDU of kind {opcode:#04x} from a target")
        handler(self, header, data)
        if self._waiting:
            self._send_commands()

    def _handle_login(self, opcode: int, header: bytes, data: bytes) -> None:
        if opcode != Opcode.LOGIN_RESPONSE:
            raise PduError("something else where a login response should have been")
        request = self._login.step(header, data)
        self._exp_stat_sn = self._login.stat_sn
        if request is not None:
            self._add(*request)
            return
        self.agreed = self._login.agreed
        self.logged_in = True
        self._cmd_sn = int.from_bytes(header[28:32], "big")
        self._max_cmd_sn = int.from_bytes(header[32:36], "big")
        for stream in (self._reader, self._writer):
            stream.header_digest = self.agreed.header_digest
            stream.data_digest = self.agreed.data_digest
        self._reader.max_data_bytes = self.config.data_bytes
        self._send_commands()

    def _status(self, header: bytes) -> None:
        self._exp_stat_sn = (int.from_bytes(header[24:28], "big") + 1) & 0xFFFF_FFFF

    def _data_in(self, header: bytes, data: bytes) -> None:
        command = self._commands.get(int.from_bytes(header[16:20], "big"))
        if header[1] & WITH_STATUS:
            self._status(header)
        if command is None:
            return  # aborted meanwhile
        offset = int.from_bytes(header[40:44], "big")
        if offset != len(command.data_in) or offset + len(data) > command.data_in_bytes:
            raise PduError("data that were not asked for, or out of order")
        command.data_in += data
        if header[1] & WITH_STATUS:
            self._finish(command, header[3], b"")

    def _scsi_response(self, header: bytes, data: bytes) -> None:
        self._status(header)
        command = self._commands.get(int.from_bytes(header[16:20], "big"))
        if command is None:
            return
        if header[2]:
            raise PduError(f"it could not carry out a command (response {header[2]:#04x})")
        self._finish(command, header[3], data[2 : 2 + int.from_bytes(data[:2], "big")])

    def _finish(self, command: Command, status: int, sense: bytes) -> None:
        try:
            known = Status(status)
        except ValueError:
            raise PduError(f"SCSI status {status:#04x}") from None
        del self._commands[command.tag]
        command.response = Response(known, bytes(command.data_in), parse_sense(sense), sense)

    def _ready(self, header: bytes, _data: bytes) -> None:
        """R2T."""
        *_, itt, ttt, _, _, _, _, offset, length = HEADER.unpack(header)
        command = self._commands.get(itt)
        if command is None:
            return
        if not length or offset != command.sent_bytes or offset + length > len(command.data_out):
            raise PduError("an R2T for data that there are none of, or out of order")
        self._send_data(command, ttt, offset, offset + length)

    def _task_response(self, header: bytes, _data: bytes) -> None:
        self._status(header)
        management = self._others.pop(int.from_bytes(header[16:20], "big"), None)
        if isinstance(management, Management):
            management.result = header[2]

    def _text_response(self, header: bytes, data: bytes) -> None:
        self._status(header)
        tag = int.from_bytes(header[16:20], "big")
        question = self._others.get(tag)
        if not isinstance(question, Question):
            raise PduError("an answer to a question that nobody has asked")
        final = header[1] & FINAL and not header[1] & CONTINUE
        answer = question.collector.add(data, not final)
        if answer is None:
            ttt = int.from_bytes(header[20:24], "big")
            self._send(Opcode.TEXT_REQUEST | IMMEDIATE, FINAL, NO_LUN, tag, ttt)
            return
        del self._others[tag]
        question.answer = answer

    def _nop_in(self, header: bytes, _data: bytes) -> None:
        itt, ttt = int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")
        if itt != NO_TAG:
            self._status(header)
            question = self._others.pop(itt, None)
            if isinstance(question, Question):
                question.answer = []
        if ttt != NO_TAG:
            self._send(Opcode.NOP_OUT | IMMEDIATE, FINAL, header[8:16], NO_TAG, ttt)

    def _logged_out(self, header: bytes, _data: bytes) -> None:
        question = self._others.pop(int.from_bytes(header[16:20], "big"), None)
        if isinstance(question, Question):
            question.answer = []
        self.closed = True

    def _async_message(self, header: bytes, _data: bytes) -> None:
        self._status(header)
        event = header[36]
        if event == AsyncEvent.LOGOUT_REQUESTED:
            self.logout_requested = True
        elif event in (AsyncEvent.DROPS_CONNECTION, AsyncEvent.DROPS_ALL_CONNECTIONS):
            self.fail(f"{self._peer} has ended the session.")

    def _rejected(self, header: bytes, _data: bytes) -> None:
        raise PduError(f"it rejects a PDU (reason {header[2]:#04x})")


HANDLERS: dict[int, Callable[[Initiator, bytes, bytes], None]] = {
    Opcode.DATA_IN: Initiator._data_in,
    Opcode.SCSI_RESPONSE: Initiator._scsi_response,
    Opcode.R2T: Initiator._ready,
    Opcode.TASK_RESPONSE: Initiator._task_response,
    Opcode.TEXT_RESPONSE: Initiator._text_response,
    Opcode.NOP_IN: Initiator._nop_in,
    Opcode.LOGOUT_RESPONSE: Initiator._logged_out,
    Opcode.ASYNC_MESSAGE: Initiator._async_message,
    Opcode.REJECT: Initiator._rejected,
}
