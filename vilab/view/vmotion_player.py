"""The rounds of a migration in a notebook. Needs Jupyter."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from vilab.events import Event, EventLog
from vilab.migration.migration_events import DirtySampled
from vilab.view.playback import Ask
from vilab.view.vmotion_track import VMotionPlayback, VMotionTrack
from vilab.view.widget import Player

SAMPLES_DRAWN = 4


class VMotionPlayer(Player):
    """Plays a migration, while it runs or afterwards.

    Parameters
    ----------
    events : the log so far: ``EventLog.events``, or any part of it; empty before anything has begun.
    question : the heading, in the student's words.
    ask : position to the prediction that stands before the next step.
    position : where to begin; -1: at the end, where a log that goes on is followed.
    """

    def __init__(
        self, events: Iterable[Event], question: str = "When should pre-copy give up and stop the VM?",
        ask: Ask | None = None, position: int = 0, vm: str = "", which: int = -1, **options: Any,
    ) -> None:  # fmt: skip
        track = VMotionTrack(events, question, vm, which)
        super().__init__(VMotionPlayback(track, ask, track.total if position < 0 else position), **options)

    @property
    def rounds(self) -> VMotionPlayback:
        playback = self.playback
        assert isinstance(playback, VMotionPlayback)
        return playback

    def take(self, events: Iterable[Event]) -> str:
        """The log as far as it goes now; gives the text twin. Who looks at the last step goes on with it."""
        self.rounds.take(events)
        self._publish()
        return self.describe()

    def follow(self, log: EventLog) -> Callable[[], None]:
        """From now on show what a log reports, event by event; what it returns ends that. Hosts may have a log each.

        Of samples in the middle of a round only every fourth is drawn: a page that is drawn anew for each of them would
        be busy with nothing else.
        """
        waiting = 0

        def heard(event: Event) -> None:
            nonlocal waiting
            if self.rounds.add(event):
                waiting += 1
                if not isinstance(event, DirtySampled) or waiting >= SAMPLES_DRAWN:
                    waiting = 0
                    self._publish()

        log.listen(heard)

        def end() -> None:
            if heard in log.listeners:
                log.listeners.remove(heard)

        return end
