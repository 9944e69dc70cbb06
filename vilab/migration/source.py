"""The host that has the machine: sends its memory while it runs, then the rest while it stands still.

::

    asked ──Prepared──> copying ──rule: stop──> last copy ──Loaded──> handing over ──Runs──> moved
      │                    │                        │                      │
      └────────────────────┴── anything fails ──────┘                      └── nothing heard: ask the files' locks
                     the machine runs on here                                  whose it is (``handover_source``)

Driven from outside: ``received`` for each message, ``pump`` whenever there is room on the wire, ``lost`` when the
connection has ended. Nothing here waits.

Sources: Nelson et al. 2005; Clark et al. 2005, sections 4 and 5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from vilab.errors import AdminError, GuestStopped
from vilab.events import Event
from vilab.host.arrival import describe
from vilab.host.host import Host
from vilab.host.hosted_vm import HostedVm
from vilab.memory.dirty_log import DirtyLog
from vilab.memory.page_state import PageState
from vilab.migration import messages as say
from vilab.migration import migration_events as events
from vilab.migration.descriptions import describe_host, describe_vm
from vilab.migration.handover import INTERVAL_NS, Lost, Reclaimed, TakenOver, Waiting, reattach
from vilab.migration.handover_source import PATIENCE_NS, SourceSide
from vilab.migration.line import Line
from vilab.migration.machine_state import state_of, without_memory
from vilab.migration.options import DEFAULT, MOST_MIGRATIONS, MigrationOptions
from vilab.migration.page_source import states_of
from vilab.migration.post_copy_messages import PostAllHere, PostMessage
from vilab.migration.post_copy_source import PostCopySource
from vilab.migration.round_sender import RoundSender, Send
from vilab.migration.state_digest import MemoryDigest, compare, state_digest
from vilab.migration.termination import Stop
from vilab.migration.writers import WriterWatch
from vilab.protocols import ReadableBytes

Phase = Literal[
    "asked", "copying", "last copy", "loading", "handing over", "pushing", "deciding", "moved", "failed", "lost"
]
Numbers = npt.NDArray[np.int64]


class Progress(msgspec.Struct, frozen=True):
    """Of a task: ``percent`` of this round's pages, ``left_pages`` of it, and how long they take at this rate."""

    phase: Phase
    round: int
    percent: float
    left_pages: int
    sent_bytes: int
    bytes_per_s: float
    left_ns: int | None


class MigrationSource:
    """Parameters
    ----------
    hosted : the machine; it runs.
    send : a message with its body to the other host. ``session``: random, never used before.
    now : this host's time in ns: virtual in one process, the wall's between processes.
    steps : in the end the files' locks are asked for again and again, and not waited for: this host has other machines.
    """

    def __init__(
        self, host: Host, hosted: HostedVm, destination: str, send: Send, session: str,
        options: MigrationOptions = DEFAULT, now: Callable[[], int] | None = None, steps: bool = False,
    ) -> None:  # fmt: skip
        self.host, self.hosted, self.destination, self.session = host, hosted, destination, session
        self.options, self._send, self._steps = options, send, steps
        self._now = now if now is not None else lambda: host.now_ns
        self.phase: Phase = "asked"
        self.why = ""
        """How it has ended, in a sentence; empty after a success."""
        self.rounds: list[events.RoundSent] = []
        self.downtime_ns = 0
        self._began_ns = self._heard_ns = self._now()
        self._stunned_ns = 0
        self._pmap = hosted.client.pmap
        self._log: DirtyLog | None = None
        self.writers = WriterWatch(hosted, self._writer_stunned, options.stun_after) if options.stun_after else None
        self._memory = MemoryDigest(self._pmap)
        self._sender = RoundSender(self._pmap, self._memory, session, send, options)
        self._other_bytes = 0
        self._digest: dict[str, bytes] = {}
        self._handover: SourceSide | None = None
        self._post: PostCopySource | None = None
        self._ask_ns = self._decide_until_ns = self._runs_there_ns = 0

    # --- from outside -------------------------------------------------------------------------------------------------

    @property
    def over(self) -> bool:
        return self.phase in ("moved", "failed", "lost")

    @property
    def _is_on(self) -> bool:
        return self.host.vms.get(self.hosted.name) is self.hosted

    @property
    def _has_stopped(self) -> bool:
        """It is off here, and something of it is wanted still. What was handed over is the other host's, and complete,
        unless pages are to follow."""
        over = self.over or self.phase == "deciding" or (self.phase == "handing over" and self._post is None)
        return not over and not self._is_on

    @property
    def _stopped(self) -> str:
        return f"{self.hosted.name} has stopped while it was on its way: {self.hosted.stopped}"

    @property
    def progress(self) -> Progress:
        sender = self._sender
        left, elapsed_ns = sender.left_pages, self._now() - sender.began_ns
        rate = sender.round_bytes * 1e9 / elapsed_ns if elapsed_ns > 0 else 0.0
        percent = 100.0 if self.phase in ("moved", "handing over") else sender.percent
        left_ns = round(left * 4096 * 1e9 / rate) if rate else None
        return Progress(self.phase, len(self.rounds) + 1, percent, left, self.sent_bytes, rate, left_ns)

    @property
    def sent_bytes(self) -> int:
        """On the wire, pages and state."""
        return self._sender.sent_bytes + self._other_bytes

    def start(self) -> None:
        """Ask the other host for room. ``AdminError``: the machine cannot be described; nothing has begun."""
        here, vm = describe_host(self.host), describe_vm(self.hosted)
        if here.migrations >= MOST_MIGRATIONS:
            raise AdminError(
                f"{self.host.name} takes part in {here.migrations} migrations already, and {MOST_MIGRATIONS} at a time "
                f"is the most: move {self.hosted.name} when one of them is over."
            )
        machine = describe(self.hosted)
        self.host.departures.add(self.hosted.name)
        self._hold_snapshots(f"{self.hosted.name} is on its way to {self.destination}; wait until it has moved.")
        self._tell(events.MigrationBegan, self.host.name, self.destination, self._pmap.pages, self.options.tracking,
                   self.options.policy.name)  # fmt: skip
        self._send(say.Prepare(self.session, machine, vm, here), ())

    def received(self, message: msgspec.Struct) -> None:
        """A message of the other host. One that has no place now ends the migration: another program's, or old."""
        if self.over or self.phase == "deciding":
            return
        self._heard_ns = self._now()
        if self._has_stopped and not isinstance(message, PostAllHere):
            self.give_up(self._stopped)
            return
        try:
            self._take(message)
        except (AdminError, GuestStopped) as error:
            self.give_up(str(error))

    def _take(self, message: msgspec.Struct) -> None:
        match message:
            case PostMessage() if self._post is not None:
                self._post.received(message)
                self._pump_post(0)
            case say.GaveUp():
                self._other_gave_up(message.why)
            case say.Prepared() if self.phase == "asked":
                self._begin()
            case say.RoundTaken() if self.phase in ("copying", "last copy") and self._sender.ended:
                self._round_taken(message.number)
            case say.Loaded() if self.phase == "loading":
                self._loaded(message.digest)
            case say.Runs() if self.phase == "handing over":
                self._runs_there()
            case _:
                self.give_up(
                    f"{self.destination} said {type(message).__name__} while {self.hosted.name} was {self.phase}: the "
                    "agents of both hosts do not agree; look at their versions."
                )

    def lost(self, why: str) -> None:
        """The connection has ended."""
        if self._post is not None and self.phase == "pushing":
            self._post.lost(why)
            self._pump_post(0)
        elif not self.over and self.phase != "deciding":
            self._failed(f"The connection between {self.host.name} and {self.destination} has ended: {why}")

    def give_up(self, why: str) -> None:
        """End it; before the files are handed over the machine runs on here."""
        if self.over or self.phase == "deciding":
            return
        if self._post is not None and self.phase == "pushing":
            self.lost(why)
            return
        if self.phase != "handing over":
            self._send(say.GaveUp(self.session, why), ())
        self._failed(why)

    # --- rounds -------------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self.phase = "copying"
        traced = None if self.writers is None else self.writers.traced
        self._log = DirtyLog(self._pmap, traced, self.options.tracking)
        decision = self.options.policy.first(self._pmap.pages)
        states = states_of(self._pmap, np.arange(self._pmap.pages))
        with_content = np.flatnonzero((states != PageState.UNTOUCHED) & (states != PageState.BALLOONED))
        if isinstance(decision, Stop):
            self._last_copy(decision, with_content)
        else:
            self._log.restart()
            self._open_round(decision.limit_bytes_per_s, with_content)

    def _open_round(self, limit_bytes_per_s: int, pages: Numbers) -> None:
        self._sender.open(pages, limit_bytes_per_s, self._now())
        if self.writers is not None:
            self.writers.new_round()
        self._tell(events.RoundBegan, self._sender.number, len(pages), limit_bytes_per_s)

    def pump(self, room_bytes: int) -> None:
        """There is room for so many bytes on the wire."""
        try:
            self._pump(room_bytes)
        except GuestStopped as error:  # a page cannot be read from the swap file
            self.give_up(str(error))

    def _pump(self, room_bytes: int) -> None:
        if self._has_stopped:
            self.give_up(self._stopped)
        if self.phase == "deciding" and self._now() >= self._ask_ns:
            self._decide()
        self._pump_post(room_bytes)
        if self.phase not in ("copying", "last copy"):
            self._check_patience()
            return
        if self._sender.pump(room_bytes, self._log, self._now()):
            self._heard_ns = self._now()
        if self._sender.ended:
            self._check_patience()
        if self._log is not None:
            self._tell(events.DirtySampled, self._sender.number, self._log.dirty_pages, self._sender.sent_pages)

    def _round_taken(self, number: int) -> None:
        sender, log = self._sender, self._log
        if number != sender.number:
            self.give_up(f"{self.destination} has taken round {number}, and round {sender.number} was sent.")
            return
        sent = sender.report(self.hosted.name, log, self._now())
        self.rounds.append(sent)
        if self.host.log.active:
            self.host.log.emit(sent)
        if log is None:
            self._send_state()
            return
        decision = self.options.policy.next(self.rounds)
        if isinstance(decision, Stop):
            self._last_copy(decision, None)
        else:
            dirty = log.restart()
            self._memory.written(dirty)
            self._open_round(decision.limit_bytes_per_s, dirty)

    def _writer_stunned(self, address_space: int, faults: int) -> None:
        self._tell(events.WriterStunned, len(self.rounds) + 1, address_space, faults)

    # --- the machine stands still -------------------------------------------------------------------------------------

    def _last_copy(self, decision: Stop, pages: Numbers | None) -> None:
        self.hosted.stunned = True
        self._stunned_ns = self._now()
        for bus in self.hosted.vm.buses:
            bus.flush()
        assert self._log is not None
        dirty = self._log.stop()
        self._memory.written(dirty)
        self._log = None
        self.phase = "last copy"
        pages = dirty if pages is None else pages
        self._tell(events.MachineStunned, len(pages), decision.why)
        if self.options.post_copy:
            self._post = PostCopySource(
                self.hosted.name, self.host.name, self.destination, self.session, self._pmap, pages, self._send_post
            )
            self._send_state()
        else:
            self._open_round(decision.limit_bytes_per_s, pages)

    def _send_state(self) -> None:
        parts = state_of(self.hosted)
        if self.options.verify:
            self._memory.written(np.arange(self._pmap.pages))
        self._digest = state_digest(self._memory, parts)
        if self._post is not None:
            self._digest = without_memory(self._digest)
        packed = [msgspec.msgpack.encode(part) for part in parts.values()]
        self.phase = "loading"
        console = self.hosted.vm.console
        line = console.save_state() if isinstance(console, Line) else None
        sizes = len(packed[0]), len(packed[1]), len(packed[2])
        post_copy, verify = self._post is not None, self.options.verify
        self._send(say.State(self.session, sizes, self._digest, line, post_copy, verify), packed)
        size = sum(map(len, packed))
        self._other_bytes += size
        self._tell(events.StateSent, size)
        if self._post is not None:
            self._post.begin()

    def _loaded(self, digest: dict[str, bytes]) -> None:
        try:
            compare(self.hosted.name, self.host.name, self.destination, self._digest, digest)
        except AdminError as error:
            self.give_up(str(error))
            return
        disks = self.hosted.disks
        assert disks is not None
        if self.hosted.merge is not None:
            self.give_up(
                f"Snapshots of {self.hosted.name} are being merged on {self.host.name}, or its folder is being moved: "
                f"move it to {self.destination} when that has been done."
            )
            return
        self.phase = "handing over"
        self._handover = SourceSide(disks, self.session, self.destination)
        try:
            offer = self._handover.give_back()
        except AdminError as error:
            self._failed(str(error))
            return
        self._tell(events.HandedOver)
        self._send(say.HandOver(self.session, offer), ())

    # --- how it ends --------------------------------------------------------------------------------------------------

    def _check_patience(self) -> None:
        if not self.over and self.phase != "deciding" and self._now() - self._heard_ns > self.options.patience_ns:
            self.give_up(
                f"{self.destination} has said nothing for {self.options.patience_ns / 1e9:g} s; look whether it is up."
            )

    def _other_gave_up(self, why: str) -> None:
        self._failed(why)

    def _failed(self, why: str) -> None:
        """Before the files were given back the machine runs on here; after that the files' locks say whose it is."""
        self.why = why
        if self._handover is None or not self._handover.given_back:
            self._runs_on()
            return
        self.phase = "deciding"
        self._decide_until_ns = self._now() + PATIENCE_NS
        self._decide()

    def _decide(self) -> None:
        """Ask the locks. As long as there is no answer the machine stands still."""
        assert self._handover is not None
        asked_ns = self._now()
        with self.host.storage.stepwise(self._steps):
            answer = self._handover.reclaim()
        if isinstance(answer, Waiting):
            self._ask_ns = asked_ns + min(answer.again_ns, INTERVAL_NS)
            if self._now() < self._decide_until_ns:
                return
            answer = self._handover.give_up(answer)
        if isinstance(answer, Reclaimed):
            answer = self._take_back(answer)
        if isinstance(answer, Reclaimed):
            self._runs_on()
        elif isinstance(answer, TakenOver):
            self._gone("moved", answer.sentence)
        else:
            self.why = f"{self.why} {answer.sentence}"
            self._gone("lost", answer.sentence)

    def _take_back(self, answer: Reclaimed) -> Reclaimed | Lost:
        """The files are ours again. Where it cannot go on with them all the same, they are free for others."""
        before, why = self.hosted.disks, self._stopped
        if self._is_on and before is not None:
            try:
                reattach(before, answer.disks)
            except AdminError as error:
                why = str(error)
            else:
                self.hosted.disks = answer.disks
                return answer
        answer.disks.close()
        return Lost(f"{self.hosted.name} is off on {self.host.name}, and its disks are clean. {why}")

    def _runs_on(self) -> None:
        self.phase = "failed"
        if self._log is not None:
            if self._is_on:
                self._log.stop()
            self._log = None
        if self.hosted.stunned:
            self.hosted.stunned = False
            self.downtime_ns = self._now() - self._stunned_ns
            self._tell(events.MachineResumed, self.host.name, self.downtime_ns, False)
        self._end(False)

    def _runs_there(self) -> None:
        self.downtime_ns = self._now() - self._stunned_ns
        if self._post is None:
            self._gone("moved", f"{self.hosted.name} has moved to {self.destination}.")
        else:
            self.phase, self._runs_there_ns = "pushing", self._now()
            self._pump_post(0)

    # --- post-copy ----------------------------------------------------------------------------------------------------

    def _send_post(self, message: msgspec.Struct, body: Sequence[ReadableBytes]) -> None:
        self._other_bytes += sum(memoryview(part).nbytes for part in body)
        self._send(message, body)

    def _pump_post(self, room_bytes: int) -> None:
        """Before ``Runs`` pages go ahead, too: the machine stands still, and they will be wanted."""
        post = self._post
        if post is None or self.over or self.phase not in ("loading", "handing over", "pushing"):
            return
        post.pump(room_bytes)
        if self.phase != "pushing":
            return
        if post.phase == "moved":
            took_ns = self._now() - self._runs_there_ns
            self._tell(events.PostCopyEnded, post.asked_pages, post.pushed_pages, took_ns)
            self._gone("moved", post.why)
        elif post.phase == "failed":
            self.why = post.why
            self._gone("lost", post.why)

    def _gone(self, phase: Phase, sentence: str) -> None:
        self.phase = phase
        self.downtime_ns = self.downtime_ns or self._now() - self._stunned_ns
        self.hosted.disks, self.hosted.stopped = None, sentence
        if self._is_on:
            self.host.power_off(self.hosted)
        if phase == "moved":
            self.why = ""
        self._end(phase == "moved")

    def _hold_snapshots(self, why: str) -> None:
        disks = self.hosted.disks
        if disks is not None and disks.snapshots is not None:
            disks.snapshots.held = why

    def _end(self, ok: bool) -> None:
        self._hold_snapshots("")
        self.host.departures.discard(self.hosted.name)
        took_ns = self._now() - self._began_ns
        self._tell(events.MigrationEnded, ok, self.why, self.sent_bytes, took_ns, self.downtime_ns)

    def _tell(self, kind: Callable[..., Event], *values: object) -> None:
        if self.host.log.active:
            self.host.log.emit(kind(self._now(), self.hosted.name, *values))
