"""The idle memory tax to be turned: on numbers of one's own, or on a host that runs.

::

    knobs      tax 0 ... 99 %, shares a MB of each machine (low 5, normal 10, high 20); without a host W, too
    TaxSteps   the arithmetic: a step is the next tax; ``figure_7()`` has the paper's numbers in it
    TaxLive    the same board over a run: W and what is held are the run's, a turn changes the host itself

Source: Waldspurger 2002, section 5.2, and figure 7: 342 MB for two machines of 256 MB, which use 8 and 195 MB.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from vilab.errors import AdminError
from vilab.memory.client import MB_PAGES
from vilab.memory.free_states import aim_free_pages
from vilab.memory.shares import MAX_SHARES, SHARES_PER_MB, Claim, shares_of
from vilab.memory.targets import allocation_targets
from vilab.view import memory_chart_says, memory_says
from vilab.view.frame import Picture, Stage
from vilab.view.memory_chart_draw import mb
from vilab.view.memory_frame import VmFrame
from vilab.view.memory_knobs import Knob
from vilab.view.memory_tax_draw import LEFT, RIGHT, Priced, draw, height, say, scale
from vilab.view.memory_track import MemoryTrack
from vilab.view.timeline import timeline
from vilab.view.words import NBSP, grouped, plain

TAXES = (0.0, 0.25, 0.5, 0.75, 0.9, 0.99)
MOST_SHARES_A_MB = 40


def shares_words(per_mb: float) -> str:
    """``10, normal``"""
    level = next((name for name, each in SHARES_PER_MB.items() if each == per_mb), "")
    return f"{per_mb:g}{NBSP}a{NBSP}MB" + (f", {level}" if level else "")


def _tax_knob(tax: float, waits: bool) -> Knob:
    return Knob("tax", "idle memory tax", 0, 99, 1, round(tax * 100), f"{tax * 100:.0f}{NBSP}%", waits)


def _shares_knob(name: str, shares: int, size_mb: float, waits: bool) -> Knob:
    per_mb = shares / size_mb
    words = shares_words(round(per_mb, 1))
    return Knob(f"shares {name}", f"{name}'s shares", 1, MOST_SHARES_A_MB, 1, round(per_mb), words, waits)


class TaxSteps:
    """``Turnable``: the board without a host.

    Parameters
    ----------
    claims : with as many shares, and as much in use, as one begins with.
    available_pages : for all of them together.
    taxes : one a step.
    """

    def __init__(
        self, claims: Sequence[Claim], available_pages: int, question: str, taxes: Sequence[float] = TAXES
    ) -> None:
        self.question, self.taxes, self.available_pages = question, tuple(taxes), available_pages
        self.claims = list(claims)
        self.tax = self.taxes[0]

    @property
    def total(self) -> int:
        return len(self.taxes) - 1

    @property
    def now(self) -> int:
        return max((at for at, tax in enumerate(self.taxes) if tax <= self.tax), default=0)

    @property
    def priced(self) -> Priced:
        """What is on the board. Held is what everybody would have without a tax."""
        held = allocation_targets(self.claims, self.available_pages, 0.0)
        return Priced(tuple(self.claims), held, self.available_pages, self.tax)

    def go(self, position: int) -> None:
        self.tax = self.taxes[position]

    def open(self, row: int) -> None:
        """There are no rows."""

    def next_like(self, position: int, direction: int) -> int | None:
        return None

    def knobs(self) -> Sequence[Knob]:
        found = [_tax_knob(self.tax, False)]
        for claim in self.claims:
            size_mb = claim.max_pages / MB_PAGES
            found.append(_shares_knob(claim.name, claim.shares, size_mb, False))
            used = claim.active_pages / MB_PAGES
            found.append(Knob(f"uses {claim.name}", f"{claim.name} uses", 0, size_mb, 1, round(used), f"{used:g} MB"))
        return found

    def turn(self, name: str, to: float) -> None:
        if name == "tax":
            self.tax = round(to) / 100
            return
        what, _, who = name.partition(" ")
        at = next(index for index, claim in enumerate(self.claims) if claim.name == who)
        claim = self.claims[at]
        if what == "uses":
            self.claims[at] = msgspec.structs.replace(claim, active_pages=round(to) * MB_PAGES)
        else:
            shares = min(round(to * claim.max_pages / MB_PAGES), MAX_SHARES)
            self.claims[at] = msgspec.structs.replace(claim, shares=shares)

    def describe(self, position: int) -> str:
        was, self.tax = self.tax, self.taxes[position]
        words = plain(say(self.priced))
        self.tax = was
        return words

    def picture(self, position: int) -> Picture:
        priced = self.priced
        words, when = say(priced), f"tax {priced.tax * 100:.0f}{NBSP}%"
        stage = Stage(
            label=f"{self.question} {plain(words)}",
            height=height(len(self.claims)),
            under=draw(priced, scale([priced])),
        )
        line = timeline((), position, self.total, LEFT, RIGHT)
        return Picture(position, self.total, when, words, f"{plain(when)}. {plain(words)}", stage, line)


def figure_7(question: str, total_mb: int = 342, uses_mb: tuple[int, int] = (8, 195)) -> TaxSteps:
    """The paper's numbers: two machines of 256 MB with equal shares, one idle, one busy."""
    claims = [
        Claim(name, shares_of("normal", 256), 0, 256 * MB_PAGES, used * MB_PAGES)
        for name, used in zip(("vm1", "vm2"), uses_mb, strict=True)
    ]
    return TaxSteps(claims, total_mb * MB_PAGES, question)


class TaxLive:
    """``Turnable``: the board over a run.

    Parameters
    ----------
    memory : the run; other views of it may move it, too.
    steps : how far the slider reaches.
    rows : for how many machines there is room.
    """

    def __init__(self, memory: MemoryTrack, question: str, steps: int, rows: int = 0) -> None:
        self.memory, self.question, self.steps = memory, question, steps
        self.rows = max(rows, len(memory.frame.vms))

    @property
    def total(self) -> int:
        return max(self.steps, len(self.memory.frames) - 1)

    @property
    def now(self) -> int:
        return self.memory.position

    def go(self, position: int) -> None:
        newest = self.memory.newest.number
        if position > newest:
            self.memory.run(position - newest)
        elif position != self.memory.position:
            self.memory.seek(position)

    def open(self, row: int) -> None:
        """There are no rows."""

    def next_like(self, position: int, direction: int) -> int | None:
        """The next recorded step at which something was done by hand."""
        frames, at = self.memory.frames, position + direction
        while 0 < at < len(frames):
            if frames[at].actions:
                return at
            at += direction
        return None

    # What is on the board ------------------------------------------------------------------------------------------

    def priced(self, position: int) -> Priced:
        """At a recorded moment. At the newest one with what has been turned since."""
        frame = self.memory.frames[position]
        newest = position == len(self.memory.frames) - 1
        host = self.memory.host
        tax = host.memory.reclaimer.tax if newest else frame.tax
        overhead = sum(vm.overhead for vm in frame.vms)
        available = max(0, frame.total_pages - overhead - aim_free_pages(frame.total_pages))
        claims = tuple(self._claim(vm, newest) for vm in frame.vms)
        return Priced(claims, tuple(vm.charged for vm in frame.vms), available, tax)

    def _claim(self, vm: VmFrame, newest: bool) -> Claim:
        hosted = self.memory.host.vms.get(vm.name) if newest else None
        config = hosted.client.config if hosted is not None else vm.config
        shares = shares_of(config.shares, config.size_mb)
        return Claim(vm.name, shares, config.min_pages, config.max_pages, vm.active)

    def knobs(self) -> Sequence[Knob]:
        """Of the host as it is now, whatever moment is shown."""
        host = self.memory.host
        found = [_tax_knob(host.memory.reclaimer.tax, True)]
        for name, hosted in host.vms.items():
            config = hosted.client.config
            found.append(_shares_knob(name, shares_of(config.shares, config.size_mb), config.size_mb, True))
        return found

    def turn(self, name: str, to: float) -> None:
        """Change the host; targets follow at once, pages with time."""
        if name == "tax":
            self.memory.set_tax(round(to) / 100)
            return
        who = name.partition(" ")[2]
        hosted = self.memory.host.vms.get(who)
        if hosted is None:
            raise AdminError(f"{who} is off.")
        self.memory.set_shares(who, min(round(to * hosted.client.config.size_mb), MAX_SHARES))

    # The picture -----------------------------------------------------------------------------------------------------

    def describe(self, position: int) -> str:
        """The text twin of one recorded step."""
        return plain(self._say(position))

    def _say(self, position: int) -> str:
        priced = self.priced(position)
        words = say(priced) if priced.claims else "No virtual machine is on."
        if position == len(self.memory.frames) - 1 and self.memory.notice:
            words = f"**{self.memory.notice}** {words}"
        return words

    def picture(self, position: int) -> Picture:
        frame = self.memory.frames[position]
        words, when = self._say(position), memory_says.seconds(frame.at_ns)
        marks = [(each.number, glyph) for each in self.memory.frames if (glyph := memory_says.glyph_of(each))]
        board = draw(self.priced(position), max((vm.pages for vm in frame.vms), default=1))
        before = self.memory.frames[position - 1] if position else None
        return Picture(
            position, self.total, when, words, f"step {position} of {self.total}, {plain(when)}. {plain(words)}",
            Stage(label=f"{self.question} {plain(words)}", height=height(self.rows), under=board),
            timeline(marks, position, self.total, LEFT, RIGHT),
            (memory_chart_says.table(frame, before), memory_says.log(self.memory.frames, position)),
        )  # fmt: skip


def table_text(track: TaxSteps) -> str:
    """Targets at each tax of the steps, a line each."""
    lines = []
    for tax in track.taxes:
        priced = msgspec.structs.replace(track.priced, tax=tax)
        who = "  ".join(f"{c.name} {mb(t):>6} MB" for c, t in zip(priced.claims, priced.targets, strict=True))
        k = f"{priced.k:.3g}"
        lines.append(f"tax {tax * 100:2.0f} %  k = {k:>4}  {who}  of {grouped(priced.available_pages // MB_PAGES)} MB")
    return "\n".join(lines)
