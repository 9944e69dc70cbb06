"""Questions of lesson 17. What is right is counted in the run, when a choice has arrived."""

from __future__ import annotations

from collections.abc import Callable

from vilab.course.hosted_runs import account, packet
from vilab.view.predict import Prediction, measured
from vilab.view.world_stops import stops

Asked = Callable[[int], Prediction | None]


def one_packet_question() -> Prediction:
    """Before the first step of the unoptimized packet."""
    return measured(
        "The guest sends one packet. Its driver will access the data register of the card three times. How often will "
        "the processor change worlds until the packet is done with?",
        ("Twice: there and back.", "4 to 6 times.", "7 or 8 times.", "More than 8 times."),
        (4, 7, 9), lambda: stops(packet("none"))[-1].switches,
        lambda n: f"{n}: there and back for each of the three accesses, and once more for the interrupt of the host's "
        "card, which says that the packet has left.",
    )  # fmt: skip


def switch_questions() -> Asked:
    """Before each optimization, of a packet that is sent: what will be left?"""

    def ask(position: int) -> Prediction | None:
        if position == 1:
            return measured(
                "First optimization: the VMM itself does whatever needs no real card. How many of the world switches "
                "for I/O will be left?",
                ("Hardly fewer: the driver accesses the card as often as before.", "About half.", "About a quarter.",
                 "None."),
                (-0.6, -0.4, -0.05), lambda: -account("ports").switches("I/O") / account("none").switches("I/O"),
                lambda r: f"{-100 * r:.0f} %. One access in four sends; the others only change registers.",
            )  # fmt: skip
        if position == 2:
            return measured(
                "Second: frames wait until worlds are switched anyway. But a frame cannot wait for ever. How many "
                "switches will there be for I/O, a packet?",
                ("2, as before: the wire needs every frame.", "About 1.", "None, or nearly."),
                (-1.5, -0.25), lambda: -account("combining").switches("I/O", "backlog"),
                lambda n: f"{abs(n):.1f}. The host's card interrupts for each frame that it has sent: a switch, and it "
                "takes the next frame along.",
            )  # fmt: skip
        if position == 3:
            return measured(
                "Third: the VMNet leaves word in shared memory when a frame has come. How much will a guest that "
                "*sends* gain in world switches?",
                ("A third or more.", "A little.", "Nothing."),
                (-0.2, -0.02), lambda: account("flag").switches() / account("combining").switches() - 1,
                lambda r: f"{100 * r:+.0f} %. Who sends is visited by the VMApp all the time. Look at who receives.",
            )  # fmt: skip
        return None

    return ask


def time_questions() -> Asked:
    """Before the bars of the first optimization and of ESX."""

    def ask(position: int) -> Prediction | None:
        if position == 0:
            return measured(
                "A frame of 1,514 bytes takes the wire 123 µs. What limits the hosted product, as it was?",
                ("The wire: 123 µs are long for a processor.", "The processor, by less than a tenth.",
                 "The processor, by a quarter or more."),
                (1.0, 1.1), lambda: account("none").need_ns() / account("none").line_ns,
                lambda r: f"It needs {r:.2f} times what the wire takes.",
            )  # fmt: skip
        if position == 4:
            return measured(
                "ESX: the same guest, the same card, and the driver is below the VMM. How much of the processor's time "
                "will be left over?",
                ("About as much as with all three optimizations.", "About twice as much.", "Three times or more."),
                (1.5, 2.8), lambda: account("esx").idle_ns / account("flag").idle_ns,
                lambda r: f"{r:.1f} times as much. On the wire one sees nothing of it.",
            )  # fmt: skip
        return None

    return ask
