"""A run that can be walked in both directions.

``Stepper`` runs a guest once, instruction by instruction, and records each step; then it is a machine that can be put
at any of them. Going back restores the nearest checkpoint before and executes again::

    position   0    1    2  ...  64 ... 128 ... 131
    checkpoint C                 C      C
                                        └─ re-execute 3 ─> 131

A step is one guest instruction. ``next_unit`` and ``next_event`` make longer ones of them.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from vilab.errors import GuestFault, VmmBug
from vilab.events import Event, EventLog, UnitTranslated
from vilab.vmm.checkpoint import Checkpoint, Checkpoints
from vilab.vmm.records import Registers, StepRecord
from vilab.vmm.vm import VirtualMachine
from vilab.x86.decode import Truncated, decode

DEFAULT_LIMIT = 2000
CHECKPOINT_EVERY = 128

Skip = Callable[[VirtualMachine], None]


class Stepper:
    """Implements ``records.Steppable``.

    Parameters
    ----------
    make : builds the machine with the log that it is given. It must not have run yet.
    limit : record at most this many steps.
    skip : brings the machine to where the recording starts, for instance ``run_until_eip(0xc0101000)``.
    """

    def __init__(
        self, make: Callable[[EventLog], VirtualMachine], limit: int = DEFAULT_LIMIT, skip: Skip | None = None
    ) -> None:
        self.log = EventLog(keep=True)
        self.vm = make(self.log)
        self.engine = self.vm.engine.name
        self.limit = limit
        if skip is not None:
            skip(self.vm)
        self.log.events.clear()
        self._checkpoints = Checkpoints(self.vm)
        self.log.events.clear()
        self.start: Registers = self.vm.engine.guest_registers()
        self.start_cpu: Registers = self.vm.engine.cpu_registers()
        self._saved: dict[int, Checkpoint] = {}
        self._records: list[StepRecord] = []
        self._position = 0
        self._ending = ""
        self._record()
        self.seek(0)

    # Recording ---------------------------------------------------------------------------------------------------

    def _record(self) -> None:
        while len(self._records) < self.limit:
            if len(self._records) % CHECKPOINT_EVERY == 0:
                self._saved[len(self._records)] = self._checkpoints.take()
            record = self._step_machine()
            if record is None:
                break
            self._records.append(record)
            self._position += 1
        ended = self.vm.engine.ended
        self._ending = ended.sentence if ended is not None else f"The recording ends after {self.limit} steps."

    def _step_machine(self) -> StepRecord | None:
        """Execute one step, and say what it was. ``None``: the run is over."""
        engine, log = self.vm.engine, self.log
        first = len(log.events)
        if not engine.step_to_instruction():
            self._absorb(first)
            return None
        v = engine.vcpu
        eip, cpl = v.eip, v.cpl
        how, cpu_cpl = engine.how_next()
        tc_address = engine.tc_address()
        code, mnemonic, operands = self._describe_next()
        engine.step_raw()
        if engine.ended is not None and eip == engine.stop_eip:
            self._absorb(first)  # the HLT that stands where the image returns to is not the guest's
            return None
        return StepRecord(
            index=self._position + 1, virtual_ns=engine.now_ns(), eip=eip, code=code, mnemonic=mnemonic,
            operands=operands, cpl=cpl, cpu_cpl=cpu_cpl, how=how, tc_address=tc_address,
            events=tuple(log.events[first:]), guest=engine.guest_registers(), cpu=engine.cpu_registers(),
        )  # fmt: skip

    def _absorb(self, first: int) -> None:
        """What was logged after the last instruction (an interrupt that ended the run, say) belongs to its step."""
        late: list[Event] = self.log.events[first:]
        if late and self._records and self._position == len(self._records):
            last = self._records[-1]
            self._records[-1] = replace(last, events=(*last.events, *late))

    def _describe_next(self) -> tuple[bytes, str, str]:
        v = self.vm.engine.vcpu
        try:
            instruction = decode(v.fetch(), v.eip, v.code_bits)
        except (GuestFault, Truncated):
            return b"", "?", ""
        return instruction.code, instruction.mnemonic, instruction.operands

    # Walking -----------------------------------------------------------------------------------------------------

    @property
    def records(self) -> list[StepRecord]:
        return self._records

    @property
    def position(self) -> int:
        return self._position

    @property
    def total(self) -> int:
        return len(self._records)

    @property
    def ending(self) -> str:
        return self._ending

    def step(self) -> StepRecord | None:
        """One step on; ``None`` at the end."""
        if self._position >= self.total:
            return None
        self._replay(self._position + 1)
        return self._records[self._position - 1]

    def back(self) -> None:
        """One step back; at the start nothing happens."""
        if self._position:
            self.seek(self._position - 1)

    def seek(self, position: int) -> None:
        """Put the machine at a position, clipped to 0 ... ``total``."""
        position = max(0, min(position, self.total))
        nearest = max(at for at in self._saved if at <= position)
        if not nearest <= self._position <= position:
            self._checkpoints.restore(self._saved[nearest])
            self._position = nearest
            self.log.events[:] = [event for record in self._records[:nearest] for event in record.events]
        self._replay(position)

    def _replay(self, position: int) -> None:
        while self._position < position:
            record = self._step_machine()
            expected = self._records[self._position]
            if record is None or not _same(record, expected):
                raise VmmBug(f"Step {self._position + 1} went another way when it was executed again.")
            self._position += 1

    def next_event(self) -> int:
        """The position after the next step in which anything was logged."""
        for index in range(self._position, self.total):
            if self._records[index].events:
                return index + 1
        return self.total

    def next_unit(self) -> int:
        """The position at which the next translation unit begins, or the next jump without translation."""
        starts = {e.tc_address for record in self._records for e in record.events if isinstance(e, UnitTranslated)}
        for index in range(self._position + 1, self.total):
            record, before = self._records[index], self._records[index - 1]
            if record.tc_address in starts or (
                record.tc_address is None and record.eip != before.eip + len(before.code)
            ):  # fmt: skip
                return index
        return self.total

    def read_guest(self, gva: int, size_bytes: int) -> bytes:
        """Guest memory now, as the guest's kernel would read it."""
        return self.vm.engine.vcpu.read(gva, size_bytes)


def _same(again: StepRecord, before: StepRecord) -> bool:
    """Is a step the same the second time? (The first may also have what was logged after the last instruction.)"""
    return (again.eip, again.virtual_ns, again.guest, again.events) == (
        before.eip, before.virtual_ns, before.guest, before.events[: len(again.events)],
    )  # fmt: skip


def run_until_eip(eip: int, limit_steps: int = 200_000) -> Skip:
    """Skip to the moment before the instruction at ``eip`` is executed for the first time."""

    def skip(vm: VirtualMachine) -> None:
        for _ in range(limit_steps):
            if vm.engine.vcpu.eip == eip or not vm.engine.step_instruction():
                return

    return skip


def run_until_ns(virtual_ns: int) -> Skip:
    """Skip to a time."""

    def skip(vm: VirtualMachine) -> None:
        vm.engine.run(virtual_ns)

    return skip
