"""Questions about a frame's way through a virtual switch. What is right is read off the run, after a choice."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vilab.network.ethernet import BROADCAST, vlan_of
from vilab.view.predict import Prediction
from vilab.view.switch_frame import SwitchStep
from vilab.view.switch_says import listed

Ask = Callable[[int], Prediction | None]


def conversation_questions(steps: Sequence[SwitchStep]) -> Ask:
    """Before the first broadcast is passed on, comes back, is answered; and before a tagged frame gets to a machine."""
    first = {
        _first(steps, lambda s: s.kind == "sends" and s.frame[:6] == BROADCAST): _who_hears,
        _first(steps, lambda s: s.kind == "drops" and s.reason == "came back") - 1: _comes_back,
        _first(steps, lambda s: s.kind == "sends" and s.frame[:6] != BROADCAST): _answer,
        _first(steps, lambda s: s.kind == "forwards" and vlan_of(s.frame) is not None) - 1: _tagged,
    }

    def ask(position: int) -> Prediction | None:
        make = first.get(position)
        return None if make is None or position < 0 or position + 1 >= len(steps) else make(steps, position)

    return ask


def _first(steps: Sequence[SwitchStep], true: Callable[[SwitchStep], bool]) -> int:
    return next((at for at, step in enumerate(steps) if true(step)), -1)


def _places(step: SwitchStep) -> tuple[list[str], list[str]]:
    """The machines and the uplinks that get a copy."""
    machines = {m.name for m in step.scene.machines}
    got = [copy.place for copy in step.copies]
    return [name for name in got if name in machines], [name for name in got if name not in machines]


def _who_hears(steps: Sequence[SwitchStep], position: int) -> Prediction:
    step, after = steps[position], steps[position + 1]

    def right() -> int:
        machines, uplinks = _places(after)
        others = len(step.scene.machines) - 1
        return 3 if len(machines) == others else min(len(uplinks), 2)

    return Prediction(
        f"{step.origin} broadcasts an ARP request. Who hears it?",
        ("web2, whom it asks for. Nothing leaves the host.", "web2, and whoever is behind one of the two uplinks.",
         "web2, and the physical switch twice: by both uplinks.", "All five ports of the switch, and one uplink."),
        right, lambda: f"{listed([c.place for c in after.copies])} get a copy. The others: "
                       f"{listed([why for _, why in after.refused])}.",
    )  # fmt: skip


def _comes_back(steps: Sequence[SwitchStep], position: int) -> Prediction:
    after = steps[position + 1]

    def right() -> int:
        if after.kind == "drops":
            return 2
        machines, _ = _places(after)
        return 0 if machines else 1

    return Prediction(
        f"The physical switch floods the broadcast: to {after.origin}, too, another uplink of the same virtual "
        f"switch. What "
        "does that do with it?",
        ("It gives web2 a second copy.", "It sends it on to the other uplink: a loop, unless a spanning tree stops it.",
         "It drops it."),
        right, lambda: "Its source is an address that a port of this switch listens to. And nothing ever goes from "
                       "uplink to uplink, so "
        "a virtual switch needs no spanning tree.",
    )  # fmt: skip


def _answer(steps: Sequence[SwitchStep], position: int) -> Prediction:
    step, after = steps[position], steps[position + 1]

    def right() -> int:
        machines, uplinks = _places(after)
        return 0 if not uplinks and len(machines) == 1 else 1 if uplinks else 2

    return Prediction(
        f"{step.origin} answers {step.scene.name_of(step.frame[:6])}. Where does the answer go?",
        ("To web1, and nowhere else.", "To web1, and out over an uplink, so that the physical switch can learn.",
         "To all ports of VLAN 10: the switch has seen web1 only once."),
        right, lambda: "A virtual switch need not learn: each card has told it what it listens to. Two machines of "
                       "one host "
        "talk to each other in memory.",
    )  # fmt: skip


def _tagged(steps: Sequence[SwitchStep], position: int) -> Prediction:
    after = steps[position + 1]

    def right() -> int:
        if not after.copies:
            return 2
        return 1 if len(after.copies[0].frame) < len(after.frame) else 0

    def why() -> str:
        return (
            f"{len(after.frame)} octets came in, {len(after.copies[0].frame)} go to {after.copies[0].place}: no guest "
            f"needs to know of VLANs."
        )

    return Prediction(
        f"A frame for {after.copies[0].place if after.copies else 'web1'} arrives on {after.origin}, with a tag of "
        f"VLAN {after.vlan}. "
        "What will the machine get?",
        ("The frame as it is; its driver has to know VLANs.", "The frame without the tag, four octets shorter.",
         "Nothing: only a frame without a tag can be for a machine."),
        right, why,
    )  # fmt: skip
