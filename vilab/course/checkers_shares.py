"""Exercises of lesson 11: the price of a page and the targets, and the estimate of what a guest uses. The judges: the
host's own policy, on made-up clients and on a host that runs, and the samples of a running guest.

::

    11a   rho(shares, pages, used, tax)                    adjusted shares per page
          targets(clients, available, tax)                 pages for each client, in their order
    11b   estimate(samples, touched_now, drawn_now)        the fraction that a guest uses
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import cache

import msgspec

from vilab.course.exercise_student import call
from vilab.course.feedback import Feedback, WrongAnswer, columns, right
from vilab.course.reclaim_runs import QUANTUM_NS, SECOND, start
from vilab.host.host import Host
from vilab.memory import sampling
from vilab.memory.memory_events import WorkingSetSampled
from vilab.memory.shares import Claim, adjusted_shares_per_page
from vilab.memory.targets import allocation_targets

# 11a -------------------------------------------------------------------------------------------------------------


class Client(msgspec.Struct, frozen=True):
    """``least``, ``most``: its reservation and its limit; ``used``: pages of its working set."""

    name: str
    shares: int
    least: int
    most: int
    used: int


Rho = Callable[[int, int, int, float], float]
Targets = Callable[[Sequence[Client], int, float], Sequence[int]]
Case = tuple[tuple[Client, ...], int, float]

FIGURE_7 = (Client("vm1", 2560, 0, 256, 8), Client("vm2", 2560, 0, 256, 195))
FIRST_CASES: tuple[Case, ...] = (
    (FIGURE_7, 342, 0.0), (FIGURE_7, 342, 0.75), (FIGURE_7, 342, 0.99), (FIGURE_7, 600, 0.75),
    ((Client("a", 100, 0, 200, 50), Client("b", 300, 0, 200, 50)), 200, 0.0),
)  # fmt: skip
STEPS = 400_000


def cases(seed: int, count: int = 12) -> tuple[Case, ...]:
    """Made-up clients, with reservations, limits, and some without shares."""
    rng = random.Random(seed)
    found = []
    for _ in range(count):
        clients = []
        for number in range(rng.randint(2, 4)):
            most = rng.randint(20, 200)
            least = rng.choice((0, 0, rng.randint(0, most)))
            shares = rng.choice((0, 500, 1000, 1500, rng.randint(1, 4000)))
            clients.append(Client(f"vm{number + 1}", shares, least, most, rng.randint(0, most)))
        low = sum(client.least for client in clients)
        available = rng.randint(low, max(low, sum(client.most for client in clients)))
        found.append((tuple(clients), available, rng.choice((0.0, 0.25, 0.5, 0.75, 0.9))))
    return tuple(found)


def check_rho(rho: Rho, seed: int = 1) -> Feedback:
    """``rho(shares, pages, used, tax)`` for pages of which the smaller of ``used`` and ``pages`` are in use."""
    rng = random.Random(seed)
    numbers = [(2560, 171, 8, 0.75), (2560, 171, 195, 0.75), (1000, 100, 0, 0.0)]
    numbers += [
        (rng.randint(1, 5000), rng.randint(1, 5000), rng.randint(0, 6000), rng.choice((0.0, 0.5, 0.75, 0.99)))
        for _ in range(20)
    ]
    for shares, pages, used, tax in numbers:
        said = f"rho({shares}, {pages}, {used}, {tax})"
        answer = _number(call(rho, shares, pages, used, tax, said=said), said)
        f = min(1.0, used / pages)
        due = adjusted_shares_per_page(shares, pages, f, tax)
        if abs(answer - due) > 1e-6 * due:
            rows = columns((
                ("f", f"{f:.4f}"), ("k", f"{1 / (1 - tax):.4g}"), ("pays for", f"{shares / due:,.2f} pages"),
                ("is due", f"{due:.6f}"),
            ))  # fmt: skip
            raise WrongAnswer(f"{said} gave {answer:.6f}.", rows)
    return right(f"{len(numbers)} prices, as the host works them out.")


def check_targets(targets: Targets, given: Sequence[Case] = FIRST_CASES) -> Feedback:
    """``targets(clients, available, tax)``: a list of pages. Each may be one page off."""
    for clients, available, tax in given:
        said = f"targets({', '.join(c.name for c in clients)}, {available}, {tax})"
        answer = call(targets, list(clients), available, tax, said=said, steps=STEPS)
        if not isinstance(answer, Sequence) or len(answer) != len(clients):
            raise WrongAnswer(f"{said} returned {str(answer)[:60]}; {len(clients)} numbers of pages are wanted.")
        mine = [_number(value, said) for value in answer]
        claims = [Claim(c.name, c.shares, c.least, c.most, c.used) for c in clients]
        due = allocation_targets(claims, available, tax)
        wrong = [at for at, (got, want) in enumerate(zip(mine, due, strict=True)) if abs(got - want) > 1]
        if wrong or sum(mine) > available:
            rows = [("", "shares", "least", "most", "used", "yours", "due")]
            rows += [
                (c.name, str(c.shares), str(c.least), str(c.most), str(c.used), f"{got:g}", str(want))
                for c, got, want in zip(clients, mine, due, strict=True)
            ]
            what = f"{clients[wrong[0]].name} gets {mine[wrong[0]]:g} pages" if wrong else "more is given than there is"
            raise WrongAnswer(f"{said}: {what}.", columns(rows))
    return right(f"{len(given)} machines shared out, as the host does it.")


def _number(value: object, words: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise WrongAnswer(f"{words} returned {str(value)[:60]}; numbers are wanted.")
    return float(value)


# 11b -------------------------------------------------------------------------------------------------------------

Estimate = Callable[[Sequence[tuple[int, int]], int, int], float]
Sample = tuple[int, int]
"""(t, n)"""

WAKES: tuple[Sample, ...] = ((3, 100), (2, 100), (4, 100), (90, 100), (92, 100), (3, 100), (2, 100), (1, 100))
SMALL: tuple[Sample, ...] = ((7, 10), (0, 10), (10, 10), (5, 10), (0, 10))
PROGRAM = "checksum 1500 0 250 40 1 0"
PERIODS = 8


@cache
def of_a_guest() -> tuple[tuple[Sample, float], ...]:
    """The samples of a guest that runs, each with the estimate that the host had after it."""
    host = Host(64, quantum_ns=QUANTUM_NS)
    vm = start(host, "vm1", PROGRAM)
    found: list[tuple[Sample, float]] = []

    def listen(event: object) -> None:
        if isinstance(event, WorkingSetSampled):
            found.append(((event.touched, event.sampled), event.active_pages / vm.client.pmap.pages))

    host.log.listen(listen)
    host.run_for(PERIODS * sampling.PERIOD_NS + SECOND)
    host.close()
    return tuple(found)


def _due(samples: Sequence[Sample], touched: int, drawn: int) -> float:
    record = sampling.new_sampler(10_000, 0)
    for t, n in samples:
        record.drawn, record.touched = n, t
        sampling.close_period(record)
    record.drawn, record.touched = drawn, touched
    return sampling.active_fraction(record)


def check_estimate(estimate: Estimate, series: Sequence[Sequence[Sample]] = (WAKES,)) -> Feedback:
    """``estimate(samples, touched_now, drawn_now)``: samples of the periods that are over, oldest first, and of the one
    that is not. Checked after every period, and with a period half over."""
    count = 0
    for samples in series:
        for periods in range(len(samples) + 1):
            for touched in (0, 60):
                _check_one(estimate, samples[:periods], touched)
                count += 1
    guest = of_a_guest()
    for at in range(1, len(guest) + 1):
        seen = [sample for sample, _ in guest[:at]]
        # With nothing drawn yet, as the host has it when a period has just ended.
        answer = _answer(estimate, seen, 0, 100)
        if abs(answer - guest[at - 1][1]) > 1e-3:
            raise WrongAnswer(
                f"After {at} periods of a running guest the host believed {guest[at - 1][1]:.3f}, not {answer:.3f}.",
                columns([("t", "n"), *((str(t), str(n)) for t, n in seen)]),
            )  # fmt: skip
        count += 1
    return right(f"{count} estimates, {len(guest)} of them of a guest that ran.")


def _answer(estimate: Estimate, samples: Sequence[Sample], touched: int, drawn: int) -> float:
    said = f"estimate({len(samples)} samples, {touched}, {drawn})"
    return _number(call(estimate, list(samples), touched, drawn, said=said), said)


def _check_one(estimate: Estimate, samples: Sequence[Sample], touched: int) -> None:
    answer, due = _answer(estimate, samples, touched, 100), _due(samples, touched, 100)
    if abs(answer - due) > 1e-6:
        shown = [("t", "n"), *((str(t), str(n)) for t, n in samples), (f"{touched} so far", "100")]
        raise WrongAnswer(f"estimate gave {answer:.4f} where the host believes {due:.4f}.", columns(shown))
