"""How long is a machine cut off when an uplink fails? A case a step: pings over seconds, answered or lost.

::

                        fault              repaired
    cable pulled        ''''''|''''''''''''''|''''''''''      a short tick: answered; a long one in magenta: lost
    wrong VLAN, links   ''''''|xxxxxxxxxxxxxx|''''''''''
    wrong VLAN, beacons ''''''|xxxxxxx'''''''|''''''''''
                              RARP ^   3.1 s

One real host sends a ping every fifth of a second through a real switch to another one; what is drawn is which of them
came back, and what the team of uplinks has said.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import msgspec

from vilab.events import Event
from vilab.network.packets import ip_of
from vilab.network.physical_events import BeaconVerdict, LinkChanged, UplinkMoved
from vilab.network.policies import Detection, Policies, TeamingPolicy
from vilab.view.frame import WIDTH, Cell, Panel, Picture, Row, Stage
from vilab.view.predict import Prediction, measured
from vilab.view.step_track import MeasuredTrack
from vilab.view.svg import glyph, line, number, rect, text
from vilab.view.switch_lab import SwitchLab, Wanted
from vilab.view.timeline import timeline
from vilab.view.words import plain

SECOND_NS = 1_000_000_000
FAULT_S, REPAIR_S, END_S = 2.0, 9.0, 14.0
EVERY_S = 0.2


class Case(msgspec.Struct, frozen=True):
    """``fault``: ``out``, the cable is pulled; ``wrong``, the card's port on the physical switch gets another VLAN."""

    words: str
    fault: str
    detection: Detection
    uplinks: int = 2
    failback: bool = True


CASES = (
    Case("cable pulled, link state", "out", "link"),
    Case("switch port in a wrong VLAN, link state", "wrong", "link"),
    Case("the same, beacons, 3 uplinks", "wrong", "beacon", 3),
    Case("the same, beacons, 2 uplinks", "wrong", "beacon", 2),
)


class Outcome(msgspec.Struct, frozen=True):
    """``pings``: (when, answered). ``moves``: (when, to which uplink, why); ``verdicts``: (when, words)."""

    case: Case
    pings: tuple[tuple[int, bool], ...]
    moves: tuple[tuple[int, str, str], ...]
    verdicts: tuple[tuple[int, str], ...]
    shotgun: bool

    @property
    def lost(self) -> int:
        return sum(not answered for _, answered in self.pings)

    @property
    def away_ns(self) -> int:
        """From the fault to the first answered ping behind a lost one; 0 if none was lost."""
        lost = [at_ns for at_ns, answered in self.pings if not answered]
        if not lost:
            return 0
        again = [at_ns for at_ns, answered in self.pings if answered and at_ns > lost[-1]]
        return (again[0] if again else int(END_S * SECOND_NS)) - int(FAULT_S * SECOND_NS)


def happens(case: Case) -> Outcome:
    """Let it happen."""
    machines = [Wanted("web1", "00:50:56:a1:3c:07", "10.0.0.7", 10)]
    teaming = TeamingPolicy(detection=case.detection, failback=case.failback)
    lab = SwitchLab(machines, [Wanted("gw", "00:1a:e3:07:d8:fe", "10.0.0.254", 10)], case.uplinks, (10,),
                    Policies(teaming=teaming))  # fmt: skip
    lab.recorder.recording = False
    uplink = lab.uplink_of("web1")
    heard: list[Event] = []
    lab.log.listen(heard.append)
    peer, begin_ns = lab.stations["web1"].peer, lab.clock.now_ns
    sent: list[int] = []

    def ping() -> None:
        sent.append(lab.clock.now_ns - begin_ns)
        peer.ping(ip_of("10.0.0.254"), len(sent))

    def cable(how: str) -> None:
        lab.set_cable(uplink, how)

    for n in range(int(END_S / EVERY_S)):
        lab.clock.at(begin_ns + round((n + 0.5) * EVERY_S * SECOND_NS), ping)
    lab.clock.at(begin_ns + int(FAULT_S * SECOND_NS), partial(cable, case.fault))
    lab.clock.at(begin_ns + int(REPAIR_S * SECOND_NS), partial(cable, "in"))
    lab.clock.run_to(begin_ns + int(END_S * SECOND_NS))
    answered = {reply.sequence for reply in peer.replies}
    moves = [(e.at_ns - begin_ns, e.to_nic or "none", e.why) for e in heard if isinstance(e, UplinkMoved)]
    verdicts = [
        (e.at_ns - begin_ns, "shotgun" if e.shotgun else f"{', '.join(e.failed)} failed" if e.failed else "all well")
        for e in heard if isinstance(e, BeaconVerdict)
    ]  # fmt: skip
    verdicts += [(e.at_ns - begin_ns, f"link {'up' if e.up else 'down'}") for e in heard if isinstance(e, LinkChanged)]
    return Outcome(
        case, tuple((at_ns, n in answered) for n, at_ns in enumerate(sent, 1)), tuple(moves), tuple(sorted(verdicts)),
        any(words == "shotgun" for _, words in verdicts),
    )  # fmt: skip


LEFT, RIGHT, TOP, ROW = 24.0, 900.0, 40.0, 92.0


def x_of(at_ns: float) -> float:
    return LEFT + (RIGHT - LEFT) * at_ns / SECOND_NS / END_S


class FailoverTrack(MeasuredTrack[Outcome]):
    """``Track`` for a player: a case a step; it happens when it is gone to."""

    def __init__(self, question: str, cases: Sequence[Case] = CASES) -> None:
        self.question, self.cases = question, tuple(cases)
        super().__init__()

    @property
    def total(self) -> int:
        return len(self.cases)

    def measure(self, position: int) -> Outcome:
        return happens(self.cases[position - 1])

    def picture(self, position: int) -> Picture:
        self.go(position)
        words = self.sentence(position)
        stage = Stage(
            label=f"{self.question} {plain(words)}", height=TOP + ROW * len(self.cases), under=self._draw(position)
        )
        value = f"step {position}. {plain(words)}"
        panels = (self._team(position), self._lost(position))
        return Picture(position, self.total, "", words, value, stage, timeline([], position, self.total), panels)

    def sentence(self, position: int) -> str:
        if not position:
            return (
                f"web1 pings gw five times a second. At {FAULT_S:g}\u00a0s the uplink that it uses fails, at "
                f"{REPAIR_S:g}\u00a0s it is "
                "repaired. Nothing has happened yet."
            )
        found = self.found(position)
        moved = next((m for m in found.moves if m[0] >= FAULT_S * SECOND_NS), None)
        begin = (
            f"{found.case.words[0].upper()}{found.case.words[1:]}: **{found.lost} of {len(found.pings)} pings lost**"
        )
        if not found.lost and moved is not None:
            took = (moved[0] - FAULT_S * SECOND_NS) / 1e6
            when = f"{took:g}\u00a0ms later" if took else "at once"
            back = [m for m in found.moves if m[2] == "failback"]
            after = ", and back when it is plugged in" if back else ""
            return f"{begin}. The link is gone, and {when} web1 is on {moved[1]}{after}."
        away = found.away_ns / SECOND_NS
        if found.shotgun:
            return (
                f"{begin}. After {away:.1f}\u00a0s beacons say that two cards do not hear each other, but not which "
                f"is cut off: both are used."
            )
        if moved is None or moved[2] == "failback":
            return (
                f"{begin}. The link is up, so the team sees nothing: **web1 is cut off for {away:.1f}\u00a0s**, until "
                f"somebody repairs it."
            )
        return (
            f"{begin}. Three beacons are missed: after {away:.1f}\u00a0s web1 is on {moved[1]}, with the link up all "
            f"the time."
        )

    def _draw(self, position: int) -> str:
        parts = []
        bottom = TOP + ROW * len(self.cases) - 14
        for second in range(0, int(END_S) + 1, 2):
            parts.append(text(x_of(second * SECOND_NS), 12, f"{second} s" if not second else str(second), "s soft mid"))
        left, right = x_of(FAULT_S * SECOND_NS), x_of(REPAIR_S * SECOND_NS)
        parts.append(rect(left, 20, right - left, bottom - 20, "var(--vl-host-wash)"))
        parts.append(text(left + 6, 34, "fault", "s b") + text(right + 6, 34, "repaired", "s b"))
        for n, case in enumerate(self.cases):
            y = TOP + ROW * n
            css = "b" if n + 1 == position else "" if n < position else "soft"
            parts.append(text(LEFT, y + 16, case.words, css, _HALO))
            if n >= position:
                parts.append(line(f"M{LEFT} {number(y + 58)}H{RIGHT}", "not-there"))
                continue
            parts.append(self._row(self._found[n], y, n + 1 == position))
        return "".join(parts)

    def _row(self, found: Outcome, y: float, now: bool) -> str:
        good = "".join(f"M{number(x_of(at))} {number(y + 46)}v12" for at, answered in found.pings if answered)
        bad = "".join(f"M{number(x_of(at))} {number(y + 34)}v24" for at, answered in found.pings if not answered)
        parts = [
            line(f"M{LEFT} {number(y + 58)}H{RIGHT}", "axis"),
            f'<path d="{good}" style="fill:none;stroke:var(--vl-shared-ink);stroke-width:2.5"/>',
        ]
        if bad:
            parts.append(f'<path d="{bad}" style="fill:none;stroke:var(--vl-fault-ink);stroke-width:4"/>')
        end = x_of(REPAIR_S * SECOND_NS)
        words = f"{found.lost} lost" if found.lost else "none lost"
        if found.lost:
            words += f", {found.away_ns / SECOND_NS:.1f}\u00a0s"
        size = "xl" if now else "l"
        css = f"{size} b {'fault' if found.lost else 'shared'}"
        parts.append(text(min(end + 8, WIDTH - 150), y + 26, words, css, _HALO))
        taken = 0.0
        for at, to, why in found.moves:
            x = x_of(at)
            label = f"{to}: {why}"
            parts.append(f'<path d="M{number(x)} {number(y + 58)}v8" style="stroke:var(--vl-text);stroke-width:1.5"/>')
            if x > taken:
                parts.append(text(x, y + 77, label, "s soft", _HALO))
                taken = x + len(label) * 6.6 + 8
        if found.shotgun:
            at = next(at for at, words in found.verdicts if words == "shotgun")
            parts.append(
                glyph("io", x_of(at), y + 66, 5) + text(x_of(at) + 9, y + 77, "shotgun: both uplinks", "s soft", _HALO)
            )
        return "".join(parts)

    def _team(self, position: int) -> Panel:
        found = self._found[position - 1] if position else None
        rows = [] if found is None else sorted(
            [(at, f"web1 to {to}", why) for at, to, why in found.moves]
            + [(at, words, "seen") for at, words in found.verdicts]
        )  # fmt: skip
        cells = tuple(Row((Cell(f"{at / 1e9:.3f}", "r soft"), Cell(what), Cell(why))) for at, what, why in rows)
        return Panel(
            "The team", (Cell("s", "r"), Cell("what"), Cell("why")), cells, "state", "The team has said nothing."
        )

    def _lost(self, position: int) -> Panel:
        rows = tuple(
            Row((Cell(f.case.words), Cell(str(f.lost), "r"), Cell(f"{f.away_ns / 1e9:.1f}", "r")),
                "now" if n + 1 == position else "")
            for n, f in enumerate(self._found[:position])
        )  # fmt: skip
        return Panel("Cut off", (Cell("case"), Cell("pings lost", "r"), Cell("s", "r")), rows, "state", "Nothing yet.")


_HALO = 'style="paint-order:stroke;stroke:var(--vl-surface);stroke-width:4px;stroke-linejoin:round"'

_ASKED = (
    "The cable of the uplink that web1 uses is pulled. For how long are its pings lost?",
    "Now somebody puts the uplink's port on the physical switch into another VLAN. The link stays up. For how long?",
    "The same mistake; the uplinks, three of them, send each other a beacon a second. For how long?",
    "The same with two uplinks: if neither hears the other, which one is cut off?",
)


def failover_questions(track: FailoverTrack, position: int) -> Prediction | None:
    """Before each case of ``CASES``."""
    if position >= len(_ASKED) or track.cases != CASES:
        return None
    if position == 3:
        return Prediction(
            _ASKED[3], ("The team can tell, and uses the other one.", "It cannot tell, and leaves everything as it is.",
                        "It cannot tell, and uses both at once."),
            lambda: 2 if track.found(4).shotgun else 0 if track.found(4).moves else 1,
            lambda: f"{track.found(4).lost} pings were lost, then everything went out twice. To find out who is cut "
                    f"off takes three.",
        )  # fmt: skip
    return measured(
        _ASKED[position],
        ("Not at all, or for milliseconds.", "Up to one second.", "Three or four seconds.", "Until somebody repairs "
        "it."),
        (SECOND_NS // 5, SECOND_NS, 5 * SECOND_NS), lambda: track.found(position + 1).away_ns,
        lambda ns: f"{track.found(position + 1).lost} pings lost{f', {ns / SECOND_NS:.1f} s' if ns else ''}. "
                   f"{_WHY[position]}",
    )  # fmt: skip


_WHY = (
    "The card itself notices, and the team acts at once.",
    "Link state sees the card's own cable, and nothing behind it.",
    "Three beacons missed in a row: then it has failed.",
)
