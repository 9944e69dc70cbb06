"""Multipathing: several ways to one LUN, of which one is used, and another where that is lost.

::

    vmhba1:0:3 ═══ SP A ═╗                    active     in use
    vmhba1:1:3 ═══ SP B ═╬═ naa.6006...       standby    works, not in use
    vmhba2:0:3 ═══ SP A ═╣                    dead       no answer
    vmhba2:1:3 ═══ SP B ═╝                    disabled   switched off by the administrator

    policy    which path                                  back to the first one when it works again
    fixed     the preferred one; else the first that      yes
              works
    mru       the one in use (most recently used)         no: on an active/passive array two hosts would take the LUN
                                                          from each other's processor for ever

Paths belong together where INQUIRY, page 83, gives the same name. A command whose path fails is sent again over the
next one; the one who has sent it notices nothing but the time.

RESERVE(6) belongs to the path it was sent over. When that changes::

    the array knows that the old session is over    RESERVE over the new path
    the old path is silent, the array may not know  LOGICAL UNIT RESET, then RESERVE: the only way to end it
    it is the same path, and works again            RESERVE once more
    the old path still works                        RELEASE over it, RESERVE over the new one; never just to fail back

If another host was quicker, the reservation is lost: the command fails (``ReservationLost``), nothing is written.

Sources: VMware, SAN Configuration Guide (ESX 3), "Multipathing", "Path States"; path evaluation every 300 s is its
``Disk.PathEvalTime``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from vilab.clock import Timer, VirtualClock
from vilab.errors import AdminError
from vilab.events import Event, EventLog
from vilab.protocols import ReadableBytes
from vilab.storage.block import BlockError, ReservationLost
from vilab.storage.luns.path import OF_OUR_LOGIN, PathState, Way, is_attention, is_passive, sense_of
from vilab.storage.luns.path import Path as Path
from vilab.storage.scsi.lun_disk import ENDS_RESERVATION, RELEASE_6, RESERVE_6, START_UNIT, LunDisk
from vilab.storage.scsi.lun_identity import TEST_UNIT_READY, Answer, LunIdentity, ask
from vilab.storage.scsi.sense import Status
from vilab.storage.storage_events import PathsLost, PathStateChanged, PathSwitched, ReservationMoved

Policy = Literal["fixed", "mru"]
EVALUATION_NS = 300_000_000_000


class MultipathLun(LunDisk):
    """A LUN over its paths: a block device, and ``submit`` for any command.

    Parameters
    ----------
    paths : in the order in which they are tried; all must lead to the LUN ``identity``.
    preferred : name of a path, for the policy ``fixed``; else the first.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        identity: LunIdentity,
        policy: Policy = "fixed",
        preferred: str | None = None,
        clock: VirtualClock | None = None,
        log: EventLog | None = None,
    ) -> None:
        if not paths:
            raise AdminError(f"There is no path to {identity.name}.")
        self.clock, self.log = clock or VirtualClock(), log or EventLog()
        self._ways = [Way(path) for path in paths]
        self.policy: Policy = policy
        self.preferred = preferred or paths[0].name
        self._find(self.preferred)
        self._active: Way | None = None
        self._holder: Way | None = None
        self._timer: Timer | None = None
        super().__init__(self._submit, identity)
        self._switch(None, "the LUN was found")

    # --- what can be seen ---------------------------------------------------------------------------------------------

    @property
    def states(self) -> dict[str, PathState]:
        return {way.path.name: way.state for way in self._ways}

    @property
    def active(self) -> str | None:
        """The path in use; ``None`` while all are dead or disabled."""
        return None if self._active is None else self._active.path.name

    def describe(self) -> str:
        rows = [f"{self.identity.name}, {self.policy}, {self.size_bytes >> 20} MB"]
        for way in self._ways:
            star = " *" if self.policy == "fixed" and way.path.name == self.preferred else ""
            rows.append(f"  {way.path.name:12} {way.state}{star}")
        return "\n".join(rows)

    # --- what an administrator does -----------------------------------------------------------------------------------

    def set_policy(self, policy: Policy, preferred: str | None = None) -> None:
        self.preferred = self._find(preferred or self.preferred).path.name
        self.policy = policy
        self.check()

    def disable(self, name: str) -> None:
        """Use a path no more. Refused for the last one that works."""
        way = self._find(name)
        if way is self._active and not any(w.state == "standby" for w in self._ways):
            raise AdminError(f"{name} was not disabled: it is the only path to {self.identity.name} that works.")
        was_active = way is self._active
        self._set(way, "disabled", "the administrator")
        if was_active:
            self._switch(way, "the administrator")

    def enable(self, name: str) -> None:
        way = self._find(name)
        if way.state == "disabled":
            self._set(way, "dead", "the administrator")
            self.check()

    def add(self, path: Path) -> None:
        """Another path, after a rescan."""
        if all(way.path is not path for way in self._ways):
            self._ways.append(Way(path))
            self.check()

    def _find(self, name: str) -> Way:
        for way in self._ways:
            if way.path.name == name:
                return way
        known = ", ".join(way.path.name for way in self._ways)
        raise AdminError(f"There is no path {name}; there are {known}.")

    # --- commands -----------------------------------------------------------------------------------------------------

    def _submit(self, cdb: bytes, data_out: ReadableBytes = b"") -> Answer:
        for _ in range(4 * len(self._ways) + 4):
            way = self._active
            if way is None:
                way = self._switch(None, "a command")
            if way is None:
                break
            try:
                answer = way.path.submit(cdb, data_out)
            except BlockError as error:
                if error.kind != "away":
                    raise
                self._set(way, "dead", str(error))
                self._switch(way, "the path was lost")
                continue
            if self._belongs_to_path(way, answer):
                continue
            self._note_reservation(way, cdb, answer)
            return answer
        raise BlockError("away", f"All paths to {self.identity.name} are dead: {', '.join(self.states)}.")

    def _belongs_to_path(self, way: Way, answer: Answer) -> bool:
        """Is this the path's matter, after which the command is sent again?"""
        sense = sense_of(answer)
        if is_attention(sense, OF_OUR_LOGIN) and way.fresh:
            return True
        way.fresh = False
        if is_attention(sense, ENDS_RESERVATION):
            self._holder = None  # somebody has reset the LUN, and whoever gets this answer has to know
        if is_passive(sense):
            self._set(way, "standby", "its processor does not own the LUN any more")
            self._active = None
            self._switch(way, "its processor does not own the LUN any more")
            return True
        return False

    def _note_reservation(self, way: Way, cdb: bytes, answer: Answer) -> None:
        if answer[0] == Status.GOOD and cdb[:1] in (RESERVE_6[:1], RELEASE_6[:1]):
            self._holder = way if cdb[0] == RESERVE_6[0] else None

    # --- choosing -----------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Look at every path; with ``fixed``, go back to the preferred one if it works and nothing is reserved."""
        for way in self._ways:
            if way.state != "disabled":
                self._probe(way)
        back = self._find(self.preferred)
        wanted = self.policy == "fixed" and back is not self._active and back.state == "standby"
        if self._active is None or self._active.state != "active":
            self._switch(self._active, "the path was lost")
        elif wanted and self._holder is None:
            self._switch(self._active, "the preferred path works")

    def watch(self) -> None:
        """Look at the paths every 300 s of virtual time from now on."""
        self.stop_watching()
        self._timer = self.clock.at(self.clock.now_ns + EVALUATION_NS, self._evaluate)

    def stop_watching(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _evaluate(self) -> None:
        self.check()
        self.watch()

    def _probe(self, way: Way) -> Literal["ready", "passive", "dead"]:
        """TEST UNIT READY. Any answer means that the path works, a reservation conflict too."""
        try:
            answer = ask(way.path.submit, TEST_UNIT_READY)
        except BlockError as error:
            if error.kind != "away":
                raise
            self._set(way, "dead", str(error))
            return "dead"
        if way.state == "dead":
            self._set(way, "standby", "it answers")
        return "passive" if is_passive(sense_of(answer)) else "ready"

    def _switch(self, old: Way | None, why: str) -> Way | None:
        """Take another path into use: one whose processor owns the LUN, else one that can be given it."""
        if old is not None and old.state == "active":
            self._set(old, "standby", why)
        self._active = None
        order = sorted(self._ways, key=lambda way: (way is old, way.path.name != self.preferred))
        if self.policy == "mru":
            order = sorted(self._ways, key=lambda way: way is old)
        usable = [(way, self._probe(way)) for way in order if way.state != "disabled"]
        ready = [way for way, found in usable if found == "ready"]
        passive = [way for way, found in usable if found == "passive"]
        if self.policy == "fixed":  # the preferred path, whatever it costs; on an active/passive array: a trespass
            ready = sorted((*ready, *passive), key=lambda way: (way.path.name != self.preferred, way in passive))
            passive = []
        for way in (*ready, *passive):
            if self._start(way):
                self._use(way, old, why)
                return way
        self._say(PathsLost(self.clock.now_ns, self.identity.name))
        return None

    def _start(self, way: Way) -> bool:
        """START STOP UNIT where the path is passive: its processor takes the LUN over."""
        try:
            if self._probe(way) == "passive":
                ask(way.path.submit, START_UNIT)
                return self._probe(way) == "ready"
        except BlockError as error:
            self._set(way, "dead", str(error))
        return way.state != "dead"

    def _use(self, way: Way, old: Way | None, why: str) -> None:
        self._set(way, "active", why)
        self._active = way
        if old is not way:
            before = "" if old is None else old.path.name
            self._say(PathSwitched(self.clock.now_ns, self.identity.name, before, way.path.name, why))
        if self._holder is not None and (self._holder is not way or way.fresh):
            self._move_reservation(self._holder, way)

    def _move_reservation(self, old: Way, new: Way) -> None:
        """As the table at the top says. ``ReservationLost`` where another host has reserved meanwhile."""
        self._holder = None
        try:
            if old is not new and old.path.connected:
                if old.state in ("standby", "disabled"):
                    ask(old.path.submit, RELEASE_6)
                else:
                    new.path.reset_unit()
            status, _, _ = ask(new.path.submit, RESERVE_6)
        except BlockError as error:
            self._set(new, "dead", str(error))
            status = Status.BUSY
        kept = status == Status.GOOD
        self._holder = new if kept else None
        self._say(ReservationMoved(self.clock.now_ns, self.identity.name, old.path.name, new.path.name, kept))
        if not kept:
            self.reserved = False
            raise ReservationLost(
                f"The reservation of {self.identity.name} is lost: {old.path.name} failed, and another host has "
                f"reserved the LUN before {new.path.name} could."
            )

    def _set(self, way: Way, state: PathState, why: str) -> None:
        if state == way.state:
            return
        before, way.state = way.state, state
        if state == "dead":
            way.fresh = True
            if way is self._active:
                self._active = None
        self._say(PathStateChanged(self.clock.now_ns, self.identity.name, way.path.name, before, state, why))

    def _say(self, event: Event) -> None:
        if self.log.active:
            self.log.emit(event)
