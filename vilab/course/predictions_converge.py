"""Questions of lesson 19. What is right comes from the run, when a choice has arrived."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vilab.course.converge_runs import LINK_MBIT, MS, ROGUE_PAGES, moved, predicted_ns
from vilab.view.playback import Ask
from vilab.view.predict import Prediction, measured
from vilab.view.vmotion_run import ROUND, STOPPED
from vilab.view.vmotion_track import VMotionTrack

Asked = Callable[[int], Prediction | None]


def rogue_questions(track: VMotionTrack) -> Ask:
    """Before round 1, and before the machine stands still."""

    def ask(position: int) -> Prediction | None:
        if position == 0:
            return _first()
        if position < track.total and track.kind_of(position) == ROUND and track.kind_of(position + 1) == STOPPED:
            return _downtime()
        return None

    return ask


def _first() -> Prediction:
    def why(share: float) -> str:
        return (
            f"{100 * share:.0f} %. Before its turn comes nearly every page has been written again, so it is skipped: "
            "sending it would be for nothing."
        )

    return measured(
        f"Round 1 is to send every page in use, but a page that was written before its turn is left to the next round. "
        f"One process stores into {ROGUE_PAGES:,} pages over and over. How many of all pages will round 1 send?",
        ("All, or nearly.", "About half.", "About a tenth."), (-0.8, -0.25),
        lambda: -moved().rounds[0].sent_pages / (moved().rounds[0].sent_pages + moved().rounds[0].skipped_pages),
        lambda share: why(-share),
    )  # fmt: skip


def _downtime() -> Prediction:
    found = moved()
    size = found.left_pages * 4096 / 1e6

    def why(ns: float) -> str:
        due = predicted_ns(found.left_pages, LINK_MBIT)
        return (
            f"{ns / MS:,.0f} ms. {size:.1f} million bytes at {LINK_MBIT} Mbit/s take {due / MS:,.0f} ms; state, locks "
            "and headers take the rest."
        )

    return measured(
        f"The machine is stopped now. {found.left_pages:,} pages are left, and the link carries {LINK_MBIT} million "
        "bits a second. How long will it stand still?",
        ("About 0.3 s.", "About 0.6 s.", "About 1.3 s.", "About 6 s."), (0.45e9, 0.95e9, 3e9),
        lambda: found.downtime_ns, why,
    )  # fmt: skip


def link_questions() -> Asked:
    """Before the second link: twice as fast."""

    def ask(position: int) -> Prediction | None:
        if position != 1:
            return None
        return measured(
            "Now the link is twice as fast. The rogue is the same. What becomes of the time it stands still?",
            ("The same: it writes faster than either link.", "Half of it.", "Much less than half: now it converges."),
            (-0.75, -0.25), lambda: -moved("rogue", "plain", 40).downtime_ns / moved("rogue", "plain", 20).downtime_ns,
            lambda part: f"{-100 * part:.0f} % of it. Pages left are the same {ROGUE_PAGES:,}, and a few.",
        )  # fmt: skip

    return ask


def remedy_questions() -> Asked:
    """Before each of the four quantities."""
    return _in_order((_stands_still, _bytes, _client, _work))


def steady_questions() -> Asked:
    """Before the first two of them, of the steady writer."""
    return _in_order((_steady_stands_still, _steady_bytes))


def _in_order(made: Sequence[Callable[[], Prediction]]) -> Asked:
    return lambda position: made[position]() if position < len(made) else None


def _stands_still() -> Prediction:
    return measured(
        "Clark's rule sends the first round slowly, and each one as fast as the one before it asks for. By how much "
        "does it shorten the time the rogue stands still?",
        ("Not at all.", "To about a half.", "To a tenth or less."), (-0.9, -0.2),
        lambda: -moved("rogue", "rates").downtime_ns / moved().downtime_ns,
        lambda part: f"{-100 * part:.0f} % of it are left. It stores into all its pages in less than any round takes.",
    )  # fmt: skip


def _bytes() -> Prediction:
    return measured(
        "A delta is what has changed in a page since it was sent. The rogue changes four bytes of a page at a time. "
        "What do deltas save of the bytes on the wire?",
        ("Next to nothing.", "About half.", "Nine tenths."), (0.2, 0.7),
        lambda: 1 - moved("rogue", "delta").sent_bytes / moved().sent_bytes,
        lambda part: f"{100 * part:.0f} %. Hardly a page was sent before: round 1 has skipped them. And what was sent "
        "has been written to hundreds of times since.",
    )  # fmt: skip


def _client() -> Prediction:
    return measured(
        f"With its writer stunned the machine stood still for {moved('rogue', 'stun').downtime_ns / MS:.0f} ms. A "
        "client asks the *other* process of that guest all the time. How long did it wait for the slowest answer?",
        ("About as long as the machine stood still.", "Up to 100 ms.", "Longer than that."), (25 * MS, 100 * MS),
        lambda: moved("rogue", "stun").heard.slowest_ns,
        lambda ns: f"{ns / MS:.0f} ms. A VMM cannot take a process off the guest's run queue. It can make the virtual "
        "processor wait: what else runs on it waits, too, and has the next turn.",
    )  # fmt: skip


def _work() -> Prediction:
    return measured(
        "And the rogue itself? From the beginning of the move to its end, how much of its usual work does it get done "
        "when it is stunned?",
        ("Next to nothing.", "About a tenth, as without stunning.", "Nearly all of it."), (0.04, 0.5),
        lambda: moved("rogue", "stun").done or 0.0,
        lambda part: f"{100 * part:.1f} %. Without, it is {100 * (moved().done or 0.0):.0f} %: it had been stopped for "
        "most of the time.",
    )  # fmt: skip


def _steady_stands_still() -> Prediction:
    return measured(
        "The steady writer changes a few bytes of a page at a time, too, but not so often. To what do deltas shorten "
        "the time it stands still?",
        ("Hardly at all.", "To about a half.", "To a tenth or less."), (-0.8, -0.2),
        lambda: -moved("steady", "delta").downtime_ns / moved("steady").downtime_ns,
        lambda part: f"{-100 * part:.0f} % of it are left. A page that was sent before takes some ten bytes instead of "
        "4,096. So rounds are shorter, so less is written in them: it converges.",
    )  # fmt: skip


def _steady_bytes() -> Prediction:
    return measured(
        "Without peeking round 1 sends every page, also those that have been written again already. What does that "
        "cost in bytes, beside deltas with peeking?",
        ("A quarter more, at least.", "About the same.", "A quarter less, at least."), (-1.25, -0.75),
        lambda: -moved("steady", "every").sent_bytes / moved("steady", "delta").sent_bytes,
        lambda part: f"{-100 * part:.0f} %. Each page has to be sent in full once in any case. Sent early it can be a "
        "delta in the last copy; skipped until then it cannot.",
    )  # fmt: skip
