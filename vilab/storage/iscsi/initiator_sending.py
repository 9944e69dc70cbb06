"""What an initiator sends: commands as far as the window lets them, and the data that go with them.

::

    ExpCmdSN ... MaxCmdSN         the target's window: commands beyond it wait in ``_waiting``

    a write   |<- immediate ->|<- unsolicited ->|<------- on request (R2T) ------->|
              in the command    DATA-OUT at once   DATA-OUT, a burst at a time
              at most MaxRecvDataSegmentLength, FirstBurstLength, MaxBurstLength of the target (RFC 7143, 4.2.5)
"""

from __future__ import annotations

from collections import deque

from vilab.clock import VirtualClock
from vilab.events import EventLog
from vilab.protocols import ReadableBytes
from vilab.storage.iscsi.events import IscsiPdu
from vilab.storage.iscsi.keys import Agreement
from vilab.storage.iscsi.layout import FINAL, HEADER, NO_TAG, READ, WRITE, Opcode
from vilab.storage.iscsi.pdu import PduWriter
from vilab.storage.iscsi.pending import Command
from vilab.storage.iscsi.transfer import lun_field

HALF = 1 << 31


class Sender:
    """The sending half of a session: its numbers, its window, what waits and what is under way."""

    def __init__(self, clock: VirtualClock, log: EventLog) -> None:
        self.clock, self.log = clock, log
        self.agreed = Agreement()
        self.logged_in = False
        self._writer = PduWriter()
        self._cmd_sn = 1
        self._exp_stat_sn = 0
        self._max_cmd_sn = 1
        self._waiting: deque[Command] = deque()
        self._commands: dict[int, Command] = {}

    def take_output(self) -> bytes:
        return self._writer.take()

    def _send(
        self, byte0: int, flags: int, lun: bytes, itt: int, second: int, *,
        more: tuple[int, int, int, int] = (0, 0, 0, 0), data: ReadableBytes = b"",
    ) -> None:  # fmt: skip
        header = HEADER.pack(
            byte0, flags, 0, 0, len(data), lun, itt, second, self._cmd_sn, self._exp_stat_sn, *more
        )  # fmt: skip
        self._add(header, data)

    def _add(self, header: bytes, data: ReadableBytes) -> None:
        self._writer.add(header, data)
        if self.log.active:
            self.log.emit(IscsiPdu(self.clock.now_ns, "initiator", True, header, len(data)))

    def _send_commands(self) -> None:
        while self._waiting and self.logged_in and (self._max_cmd_sn - self._cmd_sn) & 0xFFFF_FFFF < HALF:
            self._send_command(self._waiting.popleft())

    def _send_command(self, command: Command) -> None:
        agreed, data = self.agreed, command.data_out
        size = len(data)
        self._commands[command.tag] = command
        command.cmd_sn = self._cmd_sn
        flags, immediate, burst = FINAL, 0, 0
        if size:
            burst = min(size, agreed.first_burst_bytes)
            immediate = min(burst, agreed.peer_max_data_bytes) if agreed.immediate_data else 0
            if agreed.initial_r2t:
                burst = immediate
            flags = WRITE | (0 if burst > immediate else FINAL)
        elif command.data_in_bytes:
            flags |= READ
        header = HEADER.pack(
            Opcode.SCSI_COMMAND, flags | 1, 0, 0, immediate, lun_field(command.lun), command.tag,
            size or command.data_in_bytes, self._cmd_sn, self._exp_stat_sn, 0, 0, 0, 0,
        )  # fmt: skip
        self._add(header[:32] + command.cdb, data[:immediate])
        command.sent_bytes = immediate
        self._cmd_sn = (self._cmd_sn + 1) & 0xFFFF_FFFF
        if burst > immediate:
            self._send_data(command, NO_TAG, immediate, burst)

    def _send_data(self, command: Command, ttt: int, start: int, end: int) -> None:
        step, data_sn = self.agreed.peer_max_data_bytes, 0
        lun = lun_field(command.lun)
        while start < end:
            stop = min(start + step, end)
            header = HEADER.pack(
                Opcode.DATA_OUT, FINAL if stop == end else 0, 0, 0, stop - start, lun, command.tag, ttt, 0,
                self._exp_stat_sn, 0, data_sn, start, 0,
            )  # fmt: skip
            self._add(header, command.data_out[start:stop])
            start, data_sn = stop, data_sn + 1
        command.sent_bytes = end

    def _open_window(self, max_cmd_sn: int) -> None:
        """The target says up to which command it takes; an older answer says nothing new."""
        if 0 < (max_cmd_sn - self._max_cmd_sn) & 0xFFFF_FFFF < HALF:
            self._max_cmd_sn = max_cmd_sn
