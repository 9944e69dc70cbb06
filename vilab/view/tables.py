"""The picture of page tables twice: what the guest's kernel wrote, and what the CPU walks, an entry beside its copy.

::

    Guest's tables                                          Shadow tables
    directory at 00101000, CR3                              directory at 00045000
    020  00103027  P RW U A ·           leads to            020  00046027  P RW U A ·
    table at 00103000, watched                              table at 00046000
    04a  00202067  P RW U A D    ───── follows ──────       04a  03202067  P RW U A D
    04b  00203007  P RW U · ·           not yet             04b  –
    pmap   00202 → 03202    00203 → 03203
    gva 0804a000 → gpa 00202000 → mpa 03202000

Eight pages stand there, those around the one that is followed. Under nested paging the right side has the nested
entries of the pages that the left side leads to. A ``TablesHistory`` walks the machine through the run once, and
keeps for every position what the tables said.
"""

from __future__ import annotations

import msgspec

from vilab.events import HiddenFault, TrueFault
from vilab.vmm import translation_path as tp
from vilab.vmm.records import StepRecord
from vilab.vmm.stepping import Stepper
from vilab.x86 import paging as pg

ROWS = 8
PAGE_BYTES, TABLE_SHIFT = 0x1000, 22

NO_PAGE, NOT_YET, FOLLOWS, CLEAN, WATCHED, STALE, ALONE = (
    "no page", "not yet", "follows", "clean", "watched", "stale", "alone",
)  # fmt: skip
"""How the entry on the right stands to the one on the left: nothing on either side; nothing on the right; as much as
the guest allows; read-only until the first store; read-only because the VMM watches the page; wrong by now; no VMM."""


class Slot(msgspec.Struct, frozen=True):
    """One page of the picture. ``left`` and ``right``: the last level's entries, ``None`` where there is no table."""

    gva: int
    left: int | None
    right: int | None
    right_index: int
    relation: str
    ppn: int | None
    mpn: int | None
    traced: bool


class Counts(msgspec.Struct, frozen=True):
    """So far. ``dropped`` and ``validated``: entries, by loads of CR3."""

    hidden: int
    true: int
    trace: int
    loads: int = 0
    dropped: int = 0
    validated: int = 0


class Moment(msgspec.Struct, frozen=True):
    """What the tables say at one position. ``watched``: the pages of the guest's directory and table are traced."""

    path: tp.Path
    slots: tuple[Slot, ...]
    cr3: int
    watched: tuple[bool, bool]
    counts: Counts

    @property
    def focus(self) -> int:
        return self.path.gva & ~(PAGE_BYTES - 1)

    @property
    def slot(self) -> Slot:
        """That of the page that is followed."""
        return next(slot for slot in self.slots if slot.gva == self.focus)

    def at(self, gva: int) -> Slot | None:
        return next((slot for slot in self.slots if slot.gva == gva), None)

    def entry(self, side: str, level: int) -> tp.Entry | None:
        """0 the directory's entry, 1 the table's, of one side."""
        walk = self.path.guest if side == tp.GUEST else self.path.shadow or self.path.nested
        return walk.entries[level] if walk is not None and level < len(walk.entries) else None


class Change(msgspec.Struct, frozen=True):
    """One entry that a step has changed. ``side``: ``guest``, or what the right side holds."""

    gva: int
    side: str
    old: int
    new: int


class TablesScene(msgspec.Struct, frozen=True):
    """One moment, and what the step to it has changed."""

    position: int
    total: int
    moment: Moment
    changes: tuple[Change, ...]
    switched: bool
    engine: str
    say: str


def relation(path: tp.Path) -> str:
    """How the VMM's entry stands to the guest's."""
    theirs = path.shadow or path.nested
    if theirs is None:
        return ALONE
    if theirs.result is None:
        return NOT_YET if path.guest.result is not None else NO_PAGE
    if path.stale or (path.shadow is not None and _too_early(path.guest, path.shadow)):
        return STALE
    if path.guest.writable and not theirs.writable:
        return WATCHED if path.traced else CLEAN
    return FOLLOWS


def _too_early(guest: tp.Walk, shadow: tp.Walk) -> bool:
    """The guest has taken back A or D, and the shadow lets accesses through that should set them."""
    if not guest.entries:
        return False
    last = guest.entries[-1].value
    return not last & pg.ACCESSED or (shadow.writable and guest.writable and not last & pg.DIRTY)


def window(gva: int) -> list[int]:
    """The eight pages that stand in the picture with a gva."""
    first = gva & ~(ROWS * PAGE_BYTES - 1)
    return [first + PAGE_BYTES * each for each in range(ROWS)]


def moment(run: Stepper, gva: int) -> Moment:
    """The tables as they are now."""
    vm = run.vm
    path = tp.path(vm, gva)
    traced = getattr(getattr(vm.engine, "shadow", None), "traced", {})
    entries = path.guest.entries
    watched = [entry.table >> 12 in traced for entry in entries] + [False, False]
    return Moment(path, tuple(_slot(tp.path(vm, each)) for each in window(gva)), vm.engine.vcpu.cr3,
                  (watched[0], watched[1]), _counts(run))  # fmt: skip


def _slot(path: tp.Path) -> Slot:
    left = path.guest.entries[-1].value if len(path.guest.entries) == 2 else None
    theirs = path.shadow or path.nested
    last = theirs.entries[-1] if theirs is not None and len(theirs.entries) == 2 else None
    ppn = None if path.gpa is None else path.gpa >> 12
    return Slot(
        path.gva, left, None if last is None else last.value, 0 if last is None else last.index, relation(path), ppn,
        path.mpn, path.traced,
    )  # fmt: skip


def _counts(run: Stepper) -> Counts:
    engine = run.vm.engine
    policy = getattr(getattr(engine, "shadow", None), "policy", None)
    more = () if policy is None else (policy.loads, policy.dropped_entries, policy.validated_entries)
    return Counts(engine.hidden_faults, engine.true_faults, engine.trace_faults, *more)


class TablesHistory:
    """Every moment of a run.

    Parameters
    ----------
    run : it is walked through once, and left where it stood.
    gva : the page that is followed at first.
    follow : go to other pages of the same table when they fault or when their entries change.
    """

    def __init__(self, run: Stepper, gva: int, follow: bool = True) -> None:
        here = run.position
        self._moments: list[Moment] = []
        self._first = gva
        for position in range(run.total + 1):
            run.seek(position)
            now = moment(run, gva)
            if follow and position:
                gva = self._next_focus(run.records[position - 1], self._moments[-1], now)
                if gva != now.path.gva:
                    now = moment(run, gva)
            self._moments.append(now)
        run.seek(here)
        self._start = self._moments[0].counts

    def at(self, position: int) -> Moment:
        return self._moments[position]

    def counts(self, position: int) -> Counts:
        """Since the beginning of the recording."""
        now, start = msgspec.structs.astuple(self.at(position).counts), msgspec.structs.astuple(self._start)
        return Counts(*(a - b for a, b in zip(now, start, strict=True)))

    def changes(self, position: int) -> tuple[Change, ...]:
        """What the step to ``position`` has changed in the entries on screen; nothing where the tables are others."""
        return changes(self.at(position - 1), self.at(position)) if position else ()

    def switched(self, position: int) -> bool:
        """Has the step to ``position`` led to another directory?"""
        return position > 0 and self.at(position - 1).cr3 != self.at(position).cr3

    @staticmethod
    def _next_focus(record: StepRecord, before: Moment, now: Moment) -> int:
        found = changes(before, now)
        if found:
            return next((each.gva for each in found if each.gva == now.focus), found[0].gva)
        for event in record.events:
            if isinstance(event, HiddenFault | TrueFault) and event.gva >> TABLE_SHIFT == now.focus >> TABLE_SHIFT:
                return event.gva & ~(PAGE_BYTES - 1)
        return now.focus


def changes(before: Moment, now: Moment) -> tuple[Change, ...]:
    """Entries on screen that differ. Another CR3 changes the tables and not their entries."""
    if before.cr3 != now.cr3:
        return ()
    found = []
    shadow = now.path.shadow is not None
    for slot in now.slots:
        old = before.at(slot.gva)
        if old is None:
            continue
        found += _changed(slot.gva, tp.GUEST, old.left, slot.left)
        if shadow or old.ppn == slot.ppn:  # a nested entry belongs to a gpa
            found += _changed(slot.gva, tp.SHADOW if shadow else tp.NESTED, old.right, slot.right)
    return tuple(found)


def _changed(gva: int, side: str, old: int | None, new: int | None) -> list[Change]:
    old, new = old or 0, new or 0
    return [Change(gva, side, old, new)] if old != new and (old | new) & pg.PRESENT else []


def scene(history: TablesHistory, at: int, position: int, total: int, engine: str, say: str) -> TablesScene:
    """The picture after ``at`` steps of the machine, ``position`` of the player. Looks at nothing behind it."""
    now = msgspec.structs.replace(history.at(at), counts=history.counts(at))
    return TablesScene(position, total, now, history.changes(at), history.switched(at), engine, say)
