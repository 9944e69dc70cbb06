"""Questions of lesson 18 about rules and wires. What is right is computed when a choice has arrived."""

from __future__ import annotations

from collections.abc import Callable

from vilab.course.shared_link_runs import ASKED_BYTES, EVERY_NS, WIRE_MBIT, beside, percentile
from vilab.course.vmotion_rules import COMPARED, SHOWN, copies, outcome
from vilab.migration.segment_stream import WINDOW_BYTES
from vilab.view.predict import Prediction, measured

Asked = Callable[[int], Prediction | None]


def rule_questions() -> Asked:
    """Before the workloads that teach something: the first, SPECweb, and the one that nothing keeps up with."""
    asked = {SHOWN.index("quake"): _quake, SHOWN.index("specweb"): _specweb, SHOWN.index("constant-writer"): _writer}
    return lambda position: asked[position]() if position in asked else None


def _downtime_ms(name: str, rule: str) -> float:
    return outcome(name, COMPARED[rule]).downtime_ns / 1e6


def _quake() -> Prediction:
    return measured(
        "A game server: 64 MB, and each frame writes a small set. After one round it would stand still for "
        f"{_downtime_ms('quake', 'one round'):.0f} ms. What does a second round save?",
        ("Nothing: the small set is written all the time.", "About half.", "Three quarters or more."),
        (0.25, 0.75), lambda: 1 - _downtime_ms("quake", "Nelson") / _downtime_ms("quake", "one round"),
        lambda part: f"{100 * part:.0f} %. The second round takes a tenth of a second, and in that time a guest writes "
        "little.",
    )  # fmt: skip


def _specweb() -> Prediction:
    return measured(
        "A busy web server: 800 MB, 350 connections. With a goal of 60 ms the rule goes on and on, up to 30 rounds. "
        "Beside Nelson, who gives up after four, how much shorter is the downtime?",
        ("A tenth or so.", "Half.", "It reaches its goal."),
        (0.3, 0.8), lambda: 1 - _downtime_ms("specweb", "goal of 60 ms") / _downtime_ms("specweb", "Nelson"),
        lambda part: f"{100 * part:.0f} %, and {copies('specweb', COMPARED['goal of 60 ms']):.2f} times its memory is "
        "sent: what every round leaves is the set that is written all the time.",
    )  # fmt: skip


def _writer() -> Prediction:
    return measured(
        "A process writes 256 MB from end to end, every 2.2 s: twice as fast as the link. How many rounds are worth "
        "their time?",
        ("None: stop it at once.", "One or two.", "As many as there may be."),
        (1, 4), lambda: len(outcome("constant-writer", "nelson").rounds) - 1,
        lambda rounds: f"Nelson's rule sends {rounds}. The first brings over the half that nobody writes; after that "
        "every round leaves all that is written.",
    )  # fmt: skip


def wire_questions() -> Asked:
    """Before the first step: the neighbour's answers."""
    return lambda position: _neighbour() if position == 0 else None


def _neighbour() -> Prediction:
    share = ASKED_BYTES * 8 * 1000 / EVERY_NS / WIRE_MBIT
    window_ms = WINDOW_BYTES * 8 / WIRE_MBIT / 1000

    def times() -> float:
        return percentile(beside("shared").replies_ns, 99) / percentile(beside("own").replies_ns, 99)

    return measured(
        f"mail's answers need {100 * share:.0f} % of its wire, and come within half a millisecond. web's pages, sent "
        "as fast as they go, take the rest of it. How long will mail's answers take?",
        (
            "As long as before: there is room for both.", "Two or three times as long: frames take turns.",
            "Many times as long.",
        ),
        (1.5, 4), times,
        lambda found: f"{found:.0f} times as long. Nothing is lost and the bandwidth is enough, but the card sends "
        f"frames in the order in which they come, and a TCP window of pages, 64 KB, is there already: {window_ms:.1f} "
        "ms of the wire.",
    )  # fmt: skip
