"""The host to which the machine goes: makes room, takes the memory, and runs it once its files are its own.

::

    (nothing) ──Prepare──> prepared ──State──> loaded ──HandOver──> running
        ^                      │                  │        │
        └── GaveUp, connection lost: all of it is given up ┘ before the commitment; after it, it runs whatever is heard
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec
import numpy as np

from vilab.errors import AdminError, VilabError
from vilab.events import EventLog
from vilab.host.arrival import Arrival
from vilab.host.host import Host
from vilab.host.hosted_vm import HostedVm
from vilab.memory.balloon import BalloonState
from vilab.memory.managed_pmap import PmapState
from vilab.migration import messages as say
from vilab.migration import migration_events as events
from vilab.migration.compatibility import check
from vilab.migration.descriptions import describe_host
from vilab.migration.handover_destination import DestinationSide
from vilab.migration.line import Line
from vilab.migration.machine_state import state_of, without_memory
from vilab.migration.options import PATIENCE_NS
from vilab.migration.page_hashes import PageHashes
from vilab.migration.page_source import store_pages
from vilab.migration.post_copy_destination import PostCopyDestination
from vilab.migration.post_copy_messages import PostBegin, PostMessage
from vilab.migration.round_sender import Send
from vilab.migration.state_digest import MemoryDigest, compare, state_digest
from vilab.protocols import Console
from vilab.storage.nfs.locks import LockedError
from vilab.storage.still_held import StillHeld
from vilab.vmm.vm import VmState

Phase = Literal["idle", "prepared", "loaded", "running", "failed"]


class MigrationDestination:
    """Parameters
    ----------
    source : the other host's name, as it has proved it.
    wait : lets time pass until something may have come from the source; for post-copy, refused without.
    steps : files that a dead host has are asked for again and again, and not waited for: this host has other machines.
    console : makes the far end of the serial line of a machine that arrives; ``log`` its event log.
    """

    def __init__(
        self, host: Host, source: str, send: Send, *, console: Callable[[str], Console | None] = lambda _name: None,
        log: EventLog | None = None, now: Callable[[], int] | None = None, patience_ns: int = PATIENCE_NS,
        wait: Callable[[], None] | None = None, steps: bool = False,
    ) -> None:  # fmt: skip
        self._wait, self._steps = wait, steps
        self._now = now if now is not None else lambda: host.now_ns
        self._patience_ns, self._heard_ns = patience_ns, self._now()
        self.host, self.source, self._send = host, source, send
        self._console, self._log = console, log
        self.phase: Phase = "idle"
        self.why = ""
        self.session = ""
        self.hosted: HostedVm | None = None
        """The machine, once it runs here."""
        self._arrival: Arrival | None = None
        self._memory: MemoryDigest | None = None
        self._files: DestinationSide | None = None
        """Offered, and not taken yet."""
        self._take_ns = 0
        self._post: PostCopyDestination | None = None
        self._state: tuple[say.State, VmState, PmapState, BalloonState] | None = None
        """Arrived, while it is not known which pages are missing."""

    @property
    def over(self) -> bool:
        post = self._post
        return self.phase == "failed" or (self.phase == "running" and (post is None or post.over))

    @property
    def name(self) -> str:
        return "the machine" if self._arrival is None else self._arrival.machine.name

    def received(self, message: msgspec.Struct, body: memoryview, hashes: PageHashes | None = None) -> None:
        """A message of the source's. One that does not fit ends what has been begun, and the source is told why.
        ``hashes``: of the body, if whoever has received it has them."""
        if self.over:
            return
        self._heard_ns = self._now()
        if self._post is not None and isinstance(message, PostMessage) and self._state is None:
            self._post.received(message, body)
            if self._post.phase == "complete" and self._arrival is not None:
                self._arrival.hosted.client.pmap.supply = self.host.memory
            return
        try:
            self._take(message, body, hashes)
        except VilabError as error:
            self.give_up(str(error))

    def _take(self, message: msgspec.Struct, body: memoryview, hashes: PageHashes | None) -> None:
        assert isinstance(message, say.Message | PostMessage)
        if isinstance(message, say.Prepare) and self.phase == "idle":
            self._prepare(message)
            return
        if message.session != self.session or self._arrival is None:
            raise AdminError(
                f"{self.host.name} knows nothing of the migration that {self.source} speaks of: begin it again."
            )
        match message:
            case say.Pages() if self.phase == "prepared":
                self._store(message, body, hashes)
            case say.RoundEnd() if self.phase == "prepared":
                self._send(say.RoundTaken(self.session, message.number), ())
            case say.State() if self.phase == "prepared":
                self._load(message, body)
            case PostBegin() if self._state is not None:
                self._begin_post(message)
            case say.HandOver() if self.phase == "loaded" and self._files is None:
                self._run(message)
            case say.GaveUp():
                self._discard(message.why)
            case _:
                raise AdminError(
                    f"{self.source} said {type(message).__name__}, which has no place while {self.name} is "
                    f"{self.phase} on {self.host.name}: the agents do not agree; look at their versions."
                )

    def pump(self) -> None:
        """Time has passed: a source that says nothing is not waited for for ever."""
        if self._post is not None and self.phase == "running":
            self._check_source()
        elif not self.over and self._now() - self._heard_ns > self._patience_ns:
            self.give_up(
                f"{self.source} has said nothing for {self._patience_ns / 1e9:g} s while {self.name} was on its way to "
                f"{self.host.name}; look whether it is up."
            )
        elif self._files is not None and self.phase == "loaded" and self._now() >= self._take_ns:
            try:
                self._take_files(self._files)
            except VilabError as error:
                self.give_up(str(error))

    def lost(self, why: str) -> None:
        """The connection has ended."""
        if self._post is not None and self.phase == "running":
            self._post.lost(why)
        elif not self.over:
            self._discard(f"The connection between {self.source} and {self.host.name} has ended: {why}")

    def give_up(self, why: str) -> None:
        """End it, and say so."""
        if self._post is not None and self.phase == "running":
            self._post.give_up(why)
        elif not self.over:
            self._send(say.GaveUp(self.session, why), ())
            self._discard(why)

    # --- step by step -------------------------------------------------------------------------------------------------

    def _prepare(self, message: say.Prepare) -> None:
        self.session = message.session
        problems = check(message.vm, message.source, describe_host(self.host))
        if problems:
            raise AdminError(" ".join(problems))
        machine = message.machine
        self._arrival = Arrival(self.host, machine, console=self._console(machine.name), log=self._log)
        self._memory = MemoryDigest(self._arrival.hosted.client.pmap)
        self.phase = "prepared"
        self._send(say.Prepared(self.session), ())

    def _store(self, message: say.Pages, body: memoryview, hashes: PageHashes | None) -> None:
        arrival, memory = self._arrival, self._memory
        assert arrival is not None
        assert memory is not None
        store_pages(arrival.hosted.client.pmap, message.batch, body)
        memory.moved(message.batch, hashes)

    def _load(self, message: say.State, body: memoryview) -> None:
        arrival, memory = self._arrival, self._memory
        assert arrival is not None
        assert memory is not None
        sizes = message.sizes_bytes
        if min(sizes) < 0 or sum(sizes) != len(body):
            raise AdminError(
                f"The state of {self.name} from {self.source} has {len(body)} bytes, {sum(sizes)} are due."
            )
        first, second = sizes[0], sizes[0] + sizes[1]
        try:
            vm = msgspec.msgpack.decode(body[:first], type=VmState)
            pages = msgspec.msgpack.decode(body[first:second], type=PmapState)
            balloon = msgspec.msgpack.decode(body[second:], type=BalloonState)
        except msgspec.DecodeError as error:
            raise AdminError(f"The state of {self.name} from {self.source} cannot be read: {error}.") from None
        if message.post_copy:
            self._state = message, vm, pages, balloon
            return
        self._compare(message, vm, pages, balloon)

    def _compare(self, message: say.State, vm: VmState, pages: PmapState, balloon: BalloonState) -> None:
        arrival, memory = self._arrival, self._memory
        assert arrival is not None
        assert memory is not None
        self._check_swap_file(arrival)
        others = arrival.load(vm, pages, balloon)
        memory.written(np.arange(arrival.hosted.client.pmap.pages) if message.verify else others)
        digest = state_digest(memory, state_of(arrival.hosted))
        if self._post is not None:
            digest = without_memory(digest)
        compare(self.name, self.source, self.host.name, message.digest, digest)
        console = arrival.hosted.vm.console
        if message.line is not None and isinstance(console, Line):
            console.load_state(message.line)
        self.phase = "loaded"
        self._send(say.Loaded(self.session, digest), ())

    def _run(self, message: say.HandOver) -> None:
        arrival, host = self._arrival, self.host
        assert arrival is not None
        if message.offer.home != arrival.machine.home:
            raise AdminError(
                f"{self.source} offers {message.offer.home}, and {arrival.machine.home} was prepared on {host.name}: "
                "begin the migration again."
            )
        self._files = DestinationSide(host.storage, message.offer, self.session, host.storage.clock, host.log)
        self._take_files(self._files)

    def _take_files(self, files: DestinationSide) -> None:
        arrival, host = self._arrival, self.host
        assert arrival is not None
        self._check_swap_file(arrival)
        try:
            with host.storage.stepwise(self._steps):
                files.take()
        except LockedError:
            raise
        except StillHeld as held:
            if not self._steps:
                raise
            self._take_ns = self._now() + held.again_ns
            return
        disks = files.commit()
        self.hosted = arrival.start(disks)
        self.phase = "running"
        if host.log.active:
            host.log.emit(events.MachineResumed(host.now_ns, self.name, host.name, 0, True))
        self._send(say.Runs(self.session), ())

    def _check_swap_file(self, arrival: Arrival) -> None:
        """Before it is this host's: a machine whose pages this host cannot page out would stop here at once."""
        if arrival.hosted.client.failed:
            raise AdminError(f"{self.host.name} does not take {self.name} over. {arrival.hosted.client.failed}")

    # --- post-copy ----------------------------------------------------------------------------------------------------

    def _begin_post(self, message: PostBegin) -> None:
        """The state is here and says that pages are missing: they will come while the machine runs."""
        arrival, state, wait = self._arrival, self._state, self._wait
        assert arrival is not None
        assert state is not None
        if wait is None:
            raise AdminError(f"{self.host.name} does not take machines by post-copy: move {self.name} without.")
        pmap = arrival.hosted.client.pmap
        self._post = PostCopyDestination(
            self.name, self.source, self.host.name, self.session, pmap, self.host.memory, self._send,
            lambda: self._wait_for_page(wait), self._stop, self._now,
        )  # fmt: skip
        pmap.supply = self._post
        (first, vm, pages, balloon), self._state = state, None
        self._compare(first, vm, self._post.begin(message, pages), balloon)

    def _wait_for_page(self, wait: Callable[[], None]) -> None:
        wait()
        self._check_source()

    def _check_source(self) -> None:
        if self._post is not None and not self._post.over and self._now() - self._heard_ns > self._patience_ns:
            self._post.lost(f"{self.source} has said nothing for {self._patience_ns / 1e9:g} s.")

    def _stop(self, sentence: str) -> None:
        self.why = sentence
        if self.hosted is not None:
            self.hosted.stop(sentence)

    def _discard(self, why: str) -> None:
        self.phase, self.why = "failed", why
        if self._arrival is not None:
            self._arrival.discard()
            self._arrival = None
