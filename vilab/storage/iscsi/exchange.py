"""SCSI commands over a connection to a target: data in both directions, residuals, status.

::

    READ    Command ──────────────────────────>  execute
            Data-In ... Data-In (with status)  <──        bursts of MaxBurstLength, PDUs of what the peer takes

    WRITE   Command [immediate data] ─────────>  begin
            [Data-Out, unsolicited] ──────────>           up to FirstBurstLength in all
            R2T  <─────────────────────────────           for the rest, up to MaxOutstandingR2T at a time
            Data-Out ... Data-Out (F) ────────>
            Response <─────────────────────────  finish   if it has not been aborted meanwhile

Residuals (RFC 7143, 11.4.5): what the CDB moves against what the command PDU has announced (EDTL): more is an overflow,
less an underflow. Data that break the rules end their command (11.4.7.2), not the connection. Only what the
CDB moves is asked for; what comes unasked is handed over whole, so that a CDB and an EDTL that do not fit are noticed.

MODEL: a command is carried out when its data are there; one that needs none overtakes those that wait for theirs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from vilab.protocols import ReadableBytes
from vilab.storage.iscsi.keys import Agreement
from vilab.storage.iscsi.layout import (
    FINAL,
    HEADER,
    IMMEDIATE,
    NO_TAG,
    OVERFLOW,
    READ,
    UNDERFLOW,
    WITH_STATUS,
    WRITE,
    Opcode,
)
from vilab.storage.iscsi.session import Numbers
from vilab.storage.iscsi.transfer import Transfer, lun_of
from vilab.storage.scsi.request import Response
from vilab.storage.scsi.sense import Sense, SenseKey, Status
from vilab.storage.scsi.state import Nexus, Task
from vilab.storage.scsi.target import TaskFunction

if TYPE_CHECKING:
    from vilab.storage.iscsi.target import IscsiTarget

NO_LUN = bytes(8)
UNEXPECTED_UNSOLICITED = 0x0C0C
INCORRECT_AMOUNT = 0x0C0D
_DATA_IN = int(Opcode.DATA_IN)


class ScsiExchange:
    """``nexus`` is ``None`` in a discovery session. ``send`` takes a header and its data."""

    def __init__(
        self,
        node: IscsiTarget,
        nexus: Nexus | None,
        agreed: Agreement,
        numbers: Numbers,
        send: Callable[[bytes, bytes | memoryview], None],
    ) -> None:
        self.nexus = nexus
        self._node = node
        self._target = node.scsi
        self._limits = node.limits
        self._agreed = agreed
        self._numbers = numbers
        self._send = send
        self._transfers: dict[int, Transfer] = {}
        self._queue: deque[Transfer] = deque()
        """Transfers that want R2Ts."""
        self._granted_bytes = 0

    @property
    def held_bytes(self) -> int:
        return sum(len(t.data) for t in self._transfers.values())

    @property
    def full(self) -> bool:
        """May no more immediate commands wait for data?"""
        return sum(t.immediate for t in self._transfers.values()) >= self._limits.immediate

    def open_window(self, header: bytes = b"") -> None:
        """Let as many commands in as there is room for, once the one with this header may have to wait for data."""
        numbers = self._numbers
        if not self._transfers and header and not header[1] & WRITE:
            numbers.max_cmd_sn = (numbers.exp_cmd_sn + self._limits.commands - 1) & 0xFFFF_FFFF
            return
        room = self._limits.commands - len(self._transfers)
        if header and header[1] & WRITE and header[0] == Opcode.SCSI_COMMAND:
            room -= 1
        numbers.open_window(max(room, 0))

    # commands ---------------------------------------------------------------------------------------------------------

    def command(self, header: bytes, data: bytes) -> None:
        _, flags, _, _, _, lun_field, itt, edtl, *_ = HEADER.unpack(header)
        assert self.nexus is not None
        lun = 0 if lun_field == NO_LUN else lun_of(lun_field)
        cdb = header[32:48]
        if not flags & WRITE:
            if data:
                self._refuse(itt, edtl, UNEXPECTED_UNSOLICITED)
                return
            response = self._target.execute(self.nexus, lun, cdb)
            self._respond(response, lun_field, itt, edtl, flags, 0)
            if cdb[0] == 0x5F:
                self._node.drop_aborted()
            return
        more = not flags & FINAL
        agreed = self._agreed
        if (data and not agreed.immediate_data) or (more and agreed.initial_r2t):
            self._refuse(itt, edtl, UNEXPECTED_UNSOLICITED)
        elif len(data) > min(edtl, agreed.first_burst_bytes) or itt in self._transfers:
            self._refuse(itt, edtl, INCORRECT_AMOUNT)
        else:
            task = self._target.begin(self.nexus, lun, itt, cdb)
            wanted = min(edtl, task.data_out_bytes)
            if len(data) >= wanted and not more:
                self.open_window()
                self._finish(task, data, lun_field, itt, edtl, flags)
                return
            transfer = Transfer(task, lun_field, itt, edtl, data, more, bool(header[0] & IMMEDIATE))
            self._transfers[itt] = transfer
            if not more:
                self._ask(transfer)

    def _finish(self, task: Task, data: ReadableBytes, lun: bytes, itt: int, edtl: int, flags: int) -> None:
        response = self._target.finish(task, data)
        if response is not None:
            self._respond(response, lun, itt, edtl, flags, task.data_out_bytes)
        if task.cdb[0] == 0x5F:  # PREEMPT AND ABORT
            self._node.drop_aborted()

    def data_out(self, header: bytes, data: bytes) -> None:
        _, flags, _, _, _, _, itt, ttt, _, _, _, data_sn, offset, _ = HEADER.unpack(header)
        transfer = self._transfers.get(itt)
        if transfer is None:
            return  # its command is over: aborted, or refused
        if transfer.task.aborted:
            self._forget(transfer)
            return
        at = len(transfer.data)
        if ttt == NO_TAG:
            end = min(transfer.edtl, self._agreed.first_burst_bytes)
            fits = transfer.unsolicited
        else:
            expected, end = transfer.r2ts[0] if transfer.r2ts else (NO_TAG, 0)
            fits = ttt == expected
        if not fits:
            self._break(transfer, UNEXPECTED_UNSOLICITED)
            return
        final = bool(flags & FINAL)
        after = offset + len(data)
        if offset != at or data_sn != transfer.data_sn or after > end or (final and ttt != NO_TAG and after != end):
            self._break(transfer, INCORRECT_AMOUNT)
            return
        transfer.data += data
        transfer.data_sn += 1
        if final:
            transfer.data_sn = 0
            if ttt == NO_TAG:
                transfer.unsolicited = False
            else:
                transfer.r2ts.popleft()
            self._ask(transfer)

    # R2T --------------------------------------------------------------------------------------------------------------

    def _ask(self, transfer: Transfer) -> None:
        """Ask for what is missing, or carry the command out if nothing is missing."""
        if len(transfer.data) >= transfer.wanted:
            self._forget(transfer)
            self._finish(transfer.task, transfer.data, transfer.lun, transfer.itt, transfer.edtl, WRITE)
        elif transfer.asked_bytes:
            self._send_r2ts(transfer)
        else:
            self._queue.append(transfer)
            self._grant()

    def _grant(self) -> None:
        """Let those that wait ask, as long as what is under way stays below the limit."""
        while self._queue:
            transfer = self._queue[0]
            missing = transfer.wanted - len(transfer.data)
            if self._granted_bytes and self._granted_bytes + missing > self._limits.data_out_bytes:
                return
            self._queue.popleft()
            self._granted_bytes += missing
            transfer.granted_bytes = missing
            self._send_r2ts(transfer)

    def _send_r2ts(self, transfer: Transfer) -> None:
        agreed, numbers = self._agreed, self._numbers
        start = transfer.asked_bytes or len(transfer.data)
        while start < transfer.wanted and len(transfer.r2ts) < agreed.max_outstanding_r2t:
            end = min(start + agreed.max_burst_bytes, transfer.wanted)
            ttt = numbers.next_ttt()
            transfer.r2ts.append((ttt, end))
            self._send(
                HEADER.pack(
                    Opcode.R2T, FINAL, 0, 0, 0, transfer.lun, transfer.itt, ttt, numbers.stat_sn, numbers.exp_cmd_sn,
                    numbers.max_cmd_sn, transfer.r2t_sn, start, end - start,
                ),
                b"",
            )  # fmt: skip
            transfer.r2t_sn += 1
            start = transfer.asked_bytes = end

    # ends -------------------------------------------------------------------------------------------------------------

    def _forget(self, transfer: Transfer) -> None:
        del self._transfers[transfer.itt]
        self._granted_bytes -= transfer.granted_bytes
        if transfer in self._queue:
            self._queue.remove(transfer)
        self.open_window()
        self._grant()

    def drop_aborted(self) -> bool:
        """Forget what has been ended; was there any?"""
        ended = [t for t in self._transfers.values() if t.task.aborted]
        for transfer in ended:
            self._forget(transfer)
        return bool(ended)

    def drop_all(self) -> None:
        self._transfers.clear()
        self._queue.clear()
        self._granted_bytes = 0

    def _break(self, transfer: Transfer, code: int) -> None:
        """The data break the rules: the command ends, nothing of it happens."""
        task = transfer.task
        self._target.manage(task.nexus, TaskFunction.ABORT_TASK, task.lun, task.tag)
        self._forget(transfer)
        self._refuse(transfer.itt, transfer.edtl, code)

    def _refuse(self, itt: int, edtl: int, code: int) -> None:
        sense = Sense(SenseKey.ABORTED_COMMAND, code)
        self._respond(Response(Status.CHECK_CONDITION, b"", sense, sense.fixed()), NO_LUN, itt, edtl, WRITE, 0)

    # answers ----------------------------------------------------------------------------------------------------------

    def _respond(self, response: Response, lun: bytes, itt: int, edtl: int, flags: int, data_out_bytes: int) -> None:
        """Data and status. The residual is that of the one direction that there is."""
        numbers, data = self._numbers, response.data_in
        if data and flags & READ and edtl and response.status == 0:
            self._data_in(data, lun, itt, edtl)
            return
        moves = data_out_bytes if flags & WRITE else len(data)
        if not flags & (READ | WRITE) and not moves:
            edtl = 0
        residual = moves - edtl
        sense = response.sense_bytes
        if sense:
            sense = len(sense).to_bytes(2, "big") + sense
        self._send(
            HEADER.pack(
                Opcode.SCSI_RESPONSE,
                FINAL | (OVERFLOW if residual > 0 else UNDERFLOW if residual else 0),
                0, response.status, len(sense), NO_LUN, itt, 0,
                numbers.next_stat_sn(), numbers.exp_cmd_sn, numbers.max_cmd_sn, 0, 0, min(abs(residual), 0xFFFF_FFFF),
            ),
            sense,
        )  # fmt: skip

    def _data_in(self, data: bytes, lun: bytes, itt: int, edtl: int) -> None:
        numbers, agreed = self._numbers, self._agreed
        residual = len(data) - edtl
        status_flags = FINAL | WITH_STATUS | (OVERFLOW if residual > 0 else UNDERFLOW if residual else 0)
        size = min(len(data), edtl)
        if size == len(data) <= agreed.peer_max_data_bytes and size <= agreed.max_burst_bytes:
            self._send(
                HEADER.pack(
                    _DATA_IN, status_flags, 0, 0, size, lun, itt, NO_TAG, numbers.next_stat_sn(), numbers.exp_cmd_sn,
                    numbers.max_cmd_sn, 0, 0, abs(residual),
                ),
                data,
            )  # fmt: skip
            return
        step, burst = min(agreed.peer_max_data_bytes, agreed.max_burst_bytes), agreed.max_burst_bytes
        view = memoryview(data)
        offset = data_sn = 0
        burst_end = burst
        while True:
            end = min(offset + step, burst_end, size)
            last = end == size
            if last:
                flags, stat_sn, left = status_flags, numbers.next_stat_sn(), abs(residual)
            else:
                flags, stat_sn, left = FINAL if end == burst_end else 0, 0, 0
            self._send(
                HEADER.pack(
                    _DATA_IN, flags, 0, 0, end - offset, lun, itt, NO_TAG, stat_sn, numbers.exp_cmd_sn,
                    numbers.max_cmd_sn, data_sn, offset, left,
                ),
                view[offset:end],
            )  # fmt: skip
            if last:
                return
            offset, data_sn = end, data_sn + 1
            if end == burst_end:
                burst_end += burst
