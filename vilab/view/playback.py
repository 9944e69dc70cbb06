"""Where the player stands, and what it does with a wish from the page. Knows no browser: the widget carries messages.

::

    page --- {"do": "step"} ---> handle() ---> track.go(n): the machine moves
    page <-- frame()             the moment as plain data: HTML, SVG and numbers
"""

from __future__ import annotations

import platform
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from vilab import __version__
from vilab.errors import AdminError, GuestFault, GuestStopped, VmmBug
from vilab.view import markup
from vilab.view.frame import Picture, Track
from vilab.view.job import Job, Work
from vilab.view.predict import Asked, Prediction
from vilab.view.words import html, plain

Ask = Callable[[int], Prediction | None]
"""Position of the playhead to the question that comes before the next step, if there is one."""

T = TypeVar("T")


class Notice(tuple[str, tuple[str, ...], str, str]):
    """(title, lines, foot, details to copy)"""


class Playback:
    """One track being played.

    Parameters
    ----------
    track : what is played.
    ask : gives the prediction that stands before the step from a position.
    position : where to begin.
    """

    def __init__(self, track: Track, ask: Ask | None = None, position: int = 0) -> None:
        self.track = track
        self.ask = ask
        self.position = 0
        self.asked: Asked | None = None
        self.notice: Notice | None = None
        self._done: set[int] = set()
        self._picture: Picture | None = None
        self.job: Job[Any] | None = None
        self._when_done: Callable[[Any], None] | None = None
        if position:
            self.seek(position)

    # What a person can do

    def step(self) -> None:
        """One beat on. A prediction that stands in the way is asked first; after its reveal the next call goes on."""
        if self.asked is not None and not self.asked.card.revealed:
            return
        if self.asked is not None:
            self._close_card()
        elif self._ask_first():
            return
        self._go(self.position + 1)

    def back(self) -> None:
        self.asked = None
        self._go(self.position - 1)

    def seek(self, position: int) -> None:
        """Go there; positions outside the run mean its nearer end."""
        self.asked = None
        self._go(position)

    def jump(self, direction: int) -> None:
        """To the next (1) or previous (-1) event of the same kind; stays where there is none."""
        at = self.track.next_like(self.position, direction)
        if at is not None:
            self.seek(at)

    def reveal(self, choice: int) -> None:
        if self.asked is not None:
            self.asked.reveal(choice)

    def skip(self) -> None:
        """Close the card without an answer and take the step; a notice is closed too."""
        if self.notice is not None:
            self.notice = None
        elif self.asked is not None:
            self._close_card()
            self._go(self.position + 1)

    def describe(self) -> str:
        """The text twin of what is on the page."""
        if self.asked is not None:
            return self.asked.describe()
        if self.notice is not None:
            title, lines, foot, _ = self.notice
            return plain(" ".join((title, *lines, foot)))
        return plain(self.picture().say)

    def picture(self) -> Picture:
        if self._picture is None or self._picture.position != self.position:
            self._picture = self.track.picture(self.position)
        return self._picture

    # The page

    def handle(self, message: Mapping[str, Any]) -> None:
        """Do what the page asks. Errors become notices: the last good picture stays."""
        what = message.get("do")
        try:
            if what == "step":
                self.step()
            elif what == "back":
                self.back()
            elif what == "seek":
                self.seek(int(message.get("to", self.position)))
            elif what == "jump":
                self.jump(1 if int(message.get("by", 1)) > 0 else -1)
            elif what == "reveal":
                self.reveal(int(message.get("choice", -1)))
            elif what == "skip":
                self.skip()
            elif what == "stop":
                self.stop()
            elif what == "open":
                self.track.open(int(message.get("row", -1)))
                self._picture = None
        except Exception as error:
            self.failed(error)

    def frame(self) -> dict[str, Any]:
        """The moment for the page. Holds nothing that comes after it."""
        picture = self.picture()
        stage, line = picture.stage, picture.timeline
        card = self.asked.card if self.asked is not None else None
        notice = None
        if self.notice is not None:
            title, lines, foot, copy = self.notice
            notice = markup.notice(title, lines, foot, copy)
        return {
            "n": picture.position, "total": picture.total, "when": picture.when, "value": picture.value_text,
            "say": html(picture.say), "twin": plain(picture.say), "fault": picture.fault,
            "stage": {
                "label": stage.label, "height": stage.height, "lecture": stage.lecture_height, "under": stage.under,
                "over": stage.over, "table": stage.table, "playhead": stage.playhead, "tall": stage.playhead_height,
                "origin": stage.origin, "unit": stage.unit, "rows": stage.rows,
            },
            "line": {"left": line.left, "right": line.right, "svg": line.svg},
            "panels": markup.panels(picture.panels),
            "card": None if card is None else markup.card(card, "card"),
            "revealed": card is not None and card.revealed,
            "notice": notice,
        }  # fmt: skip

    def load(self, work: Work[T], when_done: Callable[[T], None]) -> None:
        """Begin work that takes its time; ``when_done`` gets its result. Call ``work_on`` until it is done."""
        self.job = Job(work)
        self._when_done = when_done

    def work_on(self, seconds: float = 0.1) -> None:
        """Work for about that long. A second piece of work replaces the first."""
        job = self.job
        if job is None:
            return
        try:
            job.advance(seconds)
            if job.finished:
                self.job = None
                if self._when_done is not None and not job.stopped:
                    self._when_done(job.result)
        except Exception as error:
            self.job = None
            self.failed(error)

    def stop(self) -> None:
        """Give the work up: what was on the page stays."""
        if self.job is not None:
            self.job.stop()
            self.job = None

    def finish(self) -> None:
        """Work until it is done, for those who have no page to keep alive."""
        while self.job is not None:
            self.work_on(1.0)

    def failed(self, error: Exception) -> None:
        """Say what went wrong, in the words of whose fault it is."""
        if isinstance(error, AdminError):
            self.notice = admin_notice(error)
        elif isinstance(error, (GuestFault, GuestStopped)):
            lines = ("The guest cannot go on from here.",)
            self.notice = Notice((str(error), lines, "Step back to see how it came to this.", ""))
        else:
            self.broke(error)

    def show(self, track: Track) -> None:
        """Play something else, from its beginning."""
        self.track = track
        self.position = 0
        self.asked = self.notice = self._picture = None
        self._done.clear()

    def broke(self, error: Exception) -> None:
        """A fault of ours: the notice offers what is needed to report it."""
        self.notice = self._bug(str(error) if isinstance(error, VmmBug) else f"{type(error).__name__}: {error}")

    def _go(self, position: int) -> None:
        self.notice = None
        position = max(0, min(position, self.track.total))
        self.track.go(position)
        self.position = position

    def _ask_first(self) -> bool:
        if self.ask is None or self.position in self._done or self.position >= self.track.total:
            return False
        prediction = self.ask(self.position)
        if prediction is None:
            return False
        self.asked = Asked(prediction)
        return True

    def _close_card(self) -> None:
        self._done.add(self.position)
        self.asked = None

    def _bug(self, what: str) -> Notice:
        versions = f"vilab {__version__}, Python {platform.python_version()}"
        details = f"{versions}, step {self.position} of {self.track.total}: {what}"
        return Notice((
            "An invariant of the monitor broke", (what, "This is a fault of vilab, not of the guest and not yours."),
            "The picture is the last good one.", details,
        ))  # fmt: skip


def admin_notice(error: AdminError) -> Notice:
    """Three sentences: what did not happen, why, where to look."""
    title, *rest = re.split(r"(?<=[.!?])\s+", str(error), maxsplit=2)
    return Notice((title.rstrip("."), tuple(rest), "Nothing was changed.", ""))
