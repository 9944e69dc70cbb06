"""What a person can be asked while a migration is stepped through: each time the run itself says what was right.

::

    before round 1        how much will the guest have written again when it is over?
    after round 2         another round, or stop?            the same question twice: once it goes on, once it stops,
    before the last copy  another round, or stop?            so that having been asked is no hint
    after the last copy   how long will it have stood still in all?
"""

from __future__ import annotations

from vilab.view.playback import Ask
from vilab.view.predict import Prediction, measured
from vilab.view.vmotion_run import MOVED, OPEN, ROUND, STOPPED
from vilab.view.vmotion_seen import PAGE_BYTES, Round
from vilab.view.vmotion_text import reason
from vilab.view.vmotion_track import VMotionTrack
from vilab.view.vmotion_units import amount, time, unit_of


def vmotion_questions(track: VMotionTrack) -> Ask:
    """For a player. Nothing is asked where the log has not come so far yet."""

    def ask(position: int) -> Prediction | None:
        if position >= track.total or track.kind_of(position + 1) == OPEN:
            return None
        coming = track.kind_of(position + 1)
        if position == 0:
            return _first(track) if coming == ROUND else None
        here = track.kind_of(position)
        if here == ROUND and (coming == STOPPED or (position == 2 and coming == ROUND)):
            return _next(track, position)
        if here == STOPPED and coming == MOVED:
            return _downtime(track, position)
        return None

    return ask


def _last(track: VMotionTrack, position: int) -> Round:
    seen = track.seen(position)
    assert seen is not None
    return seen.rounds[-1]


def _first(track: VMotionTrack) -> Prediction:
    def share() -> float:
        done = _last(track, 1)
        return done.dirty_pages * PAGE_BYTES / max(done.due_bytes, 1)

    def why(part: float) -> str:
        seen = track.seen(1)
        assert seen is not None
        left = amount(seen.left_pages * PAGE_BYTES, unit_of(seen))
        habit = (
            "programs write to few pages, but again and again" if part <= 0.5 else "this guest writes to most it has"
        )
        return f"{left}, {100 * part:.0f} % of what round 1 had to send: {habit}."

    return measured(
        "Round 1 sends all pages in use, and the guest runs on meanwhile. How much of that will be out of date when "
        "it is over?",
        ("A twentieth at most.", "Up to a quarter.", "Up to a half.", "More."), (0.05, 0.25, 0.5), share, why,
    )  # fmt: skip


def _next(track: VMotionTrack, position: int) -> Prediction:
    last = _last(track, position)
    seen = track.seen(position)
    assert seen is not None
    unit = unit_of(seen)
    left, sent = amount(seen.left_pages * PAGE_BYTES, unit), amount(last.due_bytes, unit)

    def right() -> int:
        return int(track.kind_of(position + 1) == STOPPED)

    def why() -> str:
        after = track.seen(position + 1)
        if after is not None and after.stun is not None and right():
            return reason(after.stun.why)
        return f"{left} are left of {sent}: for the rule ({seen.began.rule}) that is worth another round."

    return Prediction(
        f"Round {last.number} had {sent} to send and leaves {left}. What happens next?",
        ("Another round, while the guest runs on.", "The VM is stopped, and the rest is sent."), right, why,
    )  # fmt: skip


def _downtime(track: VMotionTrack, position: int) -> Prediction:
    last = _last(track, position)
    copy_ns = last.sent.duration_ns if last.sent is not None else 0

    def factor() -> float:
        seen = track.seen(position + 1)
        return (seen.downtime_ns or 0) / max(copy_ns, 1) if seen is not None else 0.0

    return measured(
        f"The last copy has taken {time(copy_ns)}. Processor, devices and locks are still to be handed over. How long "
        "will the guest have stood still in all?",
        ("A tenth longer at most.", "Up to twice as long.", "More than twice as long."), (1.1, 2), factor,
        lambda found: f"{time(found * copy_ns)} in all: {time((found - 1) * copy_ns)} for state, locks and resume.",
    )  # fmt: skip
