"""Outbound shaping: what a machine offers and what its port lets through, over time, and the bucket between.

::

    KB
      offered  . . . .----------      a burst, all at once at the wire's speed
      passed        __/               peak while the bucket lasts, then the average
    bucket   ####___                  tokens left

A real machine sends, the real shaper of its port decides; the curves are the frames that arrived at the port and those
that left it. Knobs: average, peak, burst.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import msgspec

from vilab.errors import AdminError
from vilab.network.network_events import FrameDropped, FrameForwarded
from vilab.network.packets import ip_of
from vilab.network.policies import ShapingPolicy
from vilab.view.frame import Cell, Panel, Picture, Row, Stage
from vilab.view.memory_knobs import Knob
from vilab.view.step_track import StepTrack
from vilab.view.svg import line, number, text
from vilab.view.switch_lab import SwitchLab, Wanted
from vilab.view.timeline import timeline
from vilab.view.words import plain

MS_NS = 1_000_000
STEPS, STEP_MS = 20, 50
DATA_BYTES, FRAME_BYTES = 1458, 1500
FRAMES_A_STEP = 20
"""A bulk transfer: 30 KB every 50 ms, 4.8 Mbit/s, for half of the time."""


class Shaped(msgspec.Struct, frozen=True):
    """``offered``, ``passed``: octets by the end of each step; ``tokens``: bits in the bucket then."""

    policy: ShapingPolicy
    offered: tuple[int, ...]
    passed: tuple[int, ...]
    tokens: tuple[int, ...]
    queued: tuple[int, ...]
    dropped: int


def shape(policy: ShapingPolicy) -> Shaped:
    machines = [Wanted("web1", "00:50:56:a1:3c:07", "10.0.0.7", 10)]
    lab = SwitchLab(machines, [Wanted("gw", "00:1a:e3:07:d8:fe", "10.0.0.254", 10)], 1, (10,))
    lab.recorder.recording = False
    peer, port = lab.stations["web1"].peer, lab.ports["web1"]
    peer.ping(ip_of("10.0.0.254"))
    lab.run()
    lab.set_policies(msgspec.structs.replace(lab.switch.policies, shaping=policy))
    sizes = {"passed": 0, "dropped": 0}

    def count(event: object) -> None:
        if isinstance(event, FrameForwarded) and event.port == port.number:
            sizes["passed"] += len(event.frame)
        elif isinstance(event, FrameDropped) and event.port == port.number:
            sizes["dropped"] += 1

    lab.log.listen(count)
    begin = port.sent.octets
    rows: list[tuple[int, int, int, int]] = [(0, 0, policy.burst_kb * 1024 * 8, 0)]
    for step in range(STEPS):
        for n in range(FRAMES_A_STEP if step < STEPS // 2 else 0):
            lab.clock.at(
                lab.clock.now_ns + n * STEP_MS * MS_NS // FRAMES_A_STEP,
                lambda: peer.send_udp(ip_of("10.0.0.254"), 9, 1024, bytes(DATA_BYTES)),
            )
        lab.run(STEP_MS * MS_NS)
        assert port.shaper is not None
        state = port.shaper.state
        tokens = state.tokens + policy.average_kbps * (lab.clock.now_ns - state.at_ns)
        tokens = min(tokens, policy.burst_kb * 1024 * 8_000_000) // 1_000_000
        rows.append((port.sent.octets - begin, sizes["passed"], tokens, port.shaper.queued_bytes))
    offered, passed, left, queued = (tuple(column) for column in zip(*rows, strict=True))
    return Shaped(policy, offered, passed, left, queued, sizes["dropped"])


LEFT, RIGHT, TOP, BASE, BUCKET = 64.0, 800.0, 16.0, 250.0, 330.0


class ShapingTrack(StepTrack):
    """``Turnable`` for a player with knobs: time in steps of 50 ms."""

    KNOBS: ClassVar = {"average_kbps": ("average", 500, 5000, 500), "peak_kbps": ("peak", 500, 10000, 500),
             "burst_kb": ("burst", 16, 320, 16)}  # fmt: skip

    def __init__(self, question: str, policy: ShapingPolicy) -> None:
        self.question = question
        self.run = shape(policy)
        self._position = 0

    @property
    def now(self) -> int:
        return self._position

    @property
    def total(self) -> int:
        return STEPS

    def go(self, position: int) -> None:
        self._position = position

    def knobs(self) -> Sequence[Knob]:
        policy, made = self.run.policy, []
        for name, (label, least, most, step) in self.KNOBS.items():
            value = getattr(policy, name)
            unit = f"{value}\u00a0KB" if name == "burst_kb" else f"{value / 1000:.1f}\u00a0Mbit/s"
            made.append(Knob(name, label, least, most, step, value, unit, True))
        return made

    def turn(self, name: str, to: float) -> None:
        """All of it again under another policy."""
        if name not in self.KNOBS:
            raise AdminError(f"There is no knob {name!r} here; there are {', '.join(self.KNOBS)}.")
        changed = {name: int(to)}
        if name == "average_kbps":
            changed["peak_kbps"] = max(int(to), self.run.policy.peak_kbps)
        elif name == "peak_kbps":
            changed["average_kbps"] = min(int(to), self.run.policy.average_kbps)
        self.run = shape(msgspec.structs.replace(self.run.policy, **changed))

    def sentence(self, position: int) -> str:
        run, n = self.run, position
        policy = run.policy
        if not n:
            return (
                f"web1 is about to offer {FRAMES_A_STEP * FRAME_BYTES * 8 / STEP_MS / 1000:.1f}\u00a0Mbit/s for half "
                f"a second. "
                f"Average {policy.average_kbps / 1000:g}, peak {policy.peak_kbps / 1000:g}\u00a0Mbit/s; the bucket is "
                f"full: "
                f"{policy.burst_kb}\u00a0KB."
            )
        rate = (run.passed[n] - run.passed[n - 1]) * 8 / STEP_MS / 1000
        waits = f", {run.queued[n] / 1024:.0f}\u00a0KB wait" if run.queued[n] else ", nothing waits"
        now = f"In these {STEP_MS}\u00a0ms **{rate:.1f}\u00a0Mbit/s pass**{waits}."
        left = run.tokens[n] / 8 / 1024
        if run.queued[n] and left < 2:
            return (
                f"{now} The bucket is empty: only what falls in, {policy.average_kbps / 1000:g}\u00a0Mbit/s, can leave."
            )
        return f"{now} In the bucket there are {left:.0f}\u00a0KB of bonus."

    def picture(self, position: int) -> Picture:
        words = self.sentence(position)
        stage = Stage(
            label=f"{self.question} {plain(words)}", height=BUCKET + 4, under=self._draw(position),
            playhead=self._x(position), playhead_height=BUCKET,
        )  # fmt: skip
        values = (("offered", self.run.offered[position]), ("passed", self.run.passed[position]),
                  ("waiting", self.run.queued[position]), ("bonus left", self.run.tokens[position] // 8))  # fmt: skip
        cells = tuple(Cell(f"{value / 1024:,.0f} KB", "r") for _, value in values)
        panel = Panel("By now", tuple(Cell(name, "r") for name, _ in values), (Row(cells),))
        when = f"{position * STEP_MS}\u00a0ms"
        return Picture(position, STEPS, when, words, f"{when}. {plain(words)}", stage,
                       timeline([], position, STEPS, LEFT, RIGHT), (panel,))  # fmt: skip

    def _x(self, step: float) -> float:
        return LEFT + (RIGHT - LEFT) * step / STEPS

    def _draw(self, position: int) -> str:
        run = self.run
        most = FRAMES_A_STEP * FRAME_BYTES * STEPS // 2

        def y(octets: float) -> float:
            return BASE - (BASE - TOP - 8) * octets / most

        parts = [text(LEFT - 8, TOP + 4, "KB", "s soft end")]
        for kb in (0, 100, 200):
            parts.append(line(f"M{LEFT} {number(y(kb * 1024))}H{RIGHT}", "axis", 'style="stroke:var(--vl-line)"'))
            parts.append(text(LEFT - 8, y(kb * 1024) + 4, str(kb), "s soft end"))
        shown = range(position + 1)
        offered = "L".join(f"{number(self._x(n))} {number(y(run.offered[n]))}" for n in shown)
        passed = "L".join(f"{number(self._x(n))} {number(y(run.passed[n]))}" for n in shown)
        style = "fill:none;stroke-width:2.5;stroke:var(--vl-{}-ink)"
        if position:
            parts.append(f'<path d="M{offered}" style="{style.format("host")};stroke-dasharray:6 4"/>')
            parts.append(f'<path d="M{passed}" style="{style.format("guest")};stroke-width:4"/>')
            x = self._x(position) + 10
            high, low = y(run.offered[position]), y(run.passed[position])
            parts.append(text(x, (high if low - high > 18 else low - 18) + 5, "offered", "host"))
            parts.append(text(x, low + 5, "passed", "b guest"))
        full = run.policy.burst_kb * 1024 * 8
        height = BUCKET - BASE - 26
        parts.append(text(LEFT - 8, BASE + 40, "bucket", "s soft end"))
        tops = "L".join(f"{number(self._x(n))} {number(BUCKET - height * min(run.tokens[n] / full, 1))}" for n in shown)
        parts.append(
            line(f"M{LEFT} {number(BUCKET - height)}H{RIGHT}", "not-there") + line(f"M{LEFT} {BUCKET}H{RIGHT}", "axis")
        )
        if position:
            area = f"M{LEFT} {BUCKET}L{tops}L{number(self._x(position))} {BUCKET}Z"
            parts.append(f'<path d="{area}" style="fill:var(--vl-guest-wash);stroke:none"/>')
            parts.append(f'<path d="M{tops}" style="{style.format("guest")}"/>')
        parts.append(text(RIGHT + 6, BUCKET - height + 5, f"full, {run.policy.burst_kb} KB", "s soft"))
        return "".join(parts)
