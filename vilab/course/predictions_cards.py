"""Questions of lesson 15, answered by the runs that they stand before."""

from __future__ import annotations

from collections.abc import Callable

from vilab.course.card_figures import Costs, Measured
from vilab.view.packet_path import MEMORY, PORT, exits
from vilab.view.packet_path_track import PacketPathTrack
from vilab.view.playback import Ask
from vilab.view.predict import Prediction, measured


def packet_questions(track: PacketPathTrack) -> Ask:
    """Before the first step, before the card reads by itself, and before the answer arrives."""
    made = track.made
    alone = next(at for at, stop in enumerate(made) if stop.lane == MEMORY)
    ports = [at for at, stop in enumerate(made) if stop.lane == PORT]
    back = next(at for at, stop in enumerate(made) if at > ports[-1] and stop.lane == MEMORY)

    def ask(position: int) -> Prediction | None:
        if position == 0:
            return measured(
                "One ping and its answer. How often will the guest leave its code for the monitor until the program "
                "has its answer?",
                ("Twice: once for each frame.", "3 to 8 times.", "9 to 20 times.", "More often."),
                (3, 9, 21), lambda: exits(made),
                lambda n: f"{n} times, {exits(made, 'card')} of them for registers of the card: a register is chosen "
                "first and accessed then, and each interrupt has to be asked about and acknowledged.",
            )  # fmt: skip
        if position == alone:
            return measured(
                "The driver has said: look now. How many more exits until the frame is on the port?",
                ("None.", "1: for the descriptor.", "2: for descriptor and frame."),
                (1, 2), lambda: exits(made[alone : ports[0] + 1]),
                lambda n: "None: the card reads descriptor and frame by itself. What it needs to know is in memory."
                if not n else f"{n}.",
            )  # fmt: skip
        if position == back:
            return measured(
                "The answer stands at the port. How often does the card write to memory before it interrupts?",
                ("Once: the frame.", "Twice: frame and flags.", "3 times: frame, length, flags."),
                (2, 3), lambda: sum(stop.lane == MEMORY and stop.at_ns == made[back].at_ns and "<- 00" not in stop.name
                                    for stop in made[back:]),
                lambda n: f"{n} times, and the flags with OWN come last: a driver that looks meanwhile must not find "
                "half an answer.",
            )  # fmt: skip
        return None

    return ask


def stream_questions(found: Callable[[], Measured]) -> Ask:
    """Before the megabyte in large pieces, and before the one in small pieces."""

    def ask(position: int) -> Prediction | None:
        if position not in (0, 1):
            return None
        costs = (found().large, found().small)[position]
        names = list(costs)
        if len(names) < 2:
            return None
        what = (
            "A megabyte over TCP, given to the kernel in pieces of 64 KB. Which card needs fewest exits, and why?",
            "Now in pieces of 1 KB, each of which becomes a packet of its own. Which card needs fewest exits?",
        )[position]
        reasons = {
            "vlance": "vlance: it is the simplest.",
            "e1000": "e1000: one packet may become many frames, and it waits before it interrupts.",
            "vmxnet3": "vmxnet3: it was made for a monitor, its registers are hardly needed.",
        }
        options = tuple(reasons[name] for name in names)
        return Prediction(what, options, lambda: names.index(least(costs).card), lambda: _why(costs))

    return ask


def least(costs: dict[str, Costs]) -> Costs:
    return min(costs.values(), key=lambda each: each.per_mb(each.for_the_card))


def _why(costs: dict[str, Costs]) -> str:
    parts = (f"{each.card} {each.per_mb(each.for_the_card):,.0f}" for each in costs.values())
    best = least(costs)
    return (
        f"{', '.join(parts)} a MB. {best.card}: {best.requests} packets from the driver for {best.frames_out} frames, "
        f"{best.interrupts} interrupts, {best.accesses / max(1, best.interrupts):.1f} register accesses for each."
    )
