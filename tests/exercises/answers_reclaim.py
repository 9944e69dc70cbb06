"""Right answers to the exercises of lessons 10 and 11, written apart from the instructor's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vilab.course.checkers_reclaim import Guest
from vilab.course.checkers_shares import Client


def policy(guests: Sequence[Guest], wanted: int) -> Mapping[str, int]:
    hurt = {guest.name for guest in guests if guest.paged_out}
    calm = [guest for guest in guests if guest.name not in hurt] or list(guests)
    balloons = {guest.name: max(0, guest.inside - guest.paged_out) for guest in guests}
    back = sum(guest.inside - balloons[guest.name] for guest in guests)
    for guest in calm:
        balloons[guest.name] = max(0, guest.inside + (wanted + back) // len(calm))
    return balloons


def double_paged(lines: Sequence[str]) -> list[tuple[str, str]]:
    found, last = [], {}
    for line in lines:
        words = line.split()
        who = words[2] if words[0] == "host" else words[0]
        if words[0] != "host" and words[1] == "writes" and last.get(who) == ["host", "reads", who, words[2]]:
            found.append((who, words[2]))
        last[who] = words[:4]
    return found


def rho(shares: int, pages: int, used: int, tax: float) -> float:
    idle = max(0, pages - used)
    return shares / (pages - idle + idle / (1 - tax))


def targets(clients: Sequence[Client], available: int, tax: float) -> list[int]:
    held = [client.least for client in clients]
    while True:
        best, who = 0.0, -1
        for at, client in enumerate(clients):
            if held[at] < client.most and client.shares:
                bid = rho(client.shares, held[at] + 1, client.used, tax)
                if bid > best:
                    best, who = bid, at
        if who < 0 or sum(held) >= available:
            return held
        held[who] += 1


def estimate(samples: Sequence[tuple[int, int]], touched_now: int, drawn_now: int) -> float:
    if not samples:
        return 1.0
    slow = fast = samples[0][0] / samples[0][1]
    for t, n in samples[1:]:
        slow += (t / n - slow) / 8
        fast += (t / n - fast) * 3 / 4
    return max(slow, fast, fast + (touched_now / drawn_now - fast) * 3 / 4)
