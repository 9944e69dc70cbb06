"""Where the time of a packet goes, for each product, and what it would be at other costs.

::

                  0 µs        50         100     │   150
    hosted, none  ███ guest ███▒██ I/O ██▒▒██ host kernel ███   156.7 µs, 75.1 Mbit/s
    1 ports       ███ guest ███▒█▒███ host kernel ███┆idle┆
    ESX           ███ guest ███▒┆        idle        ┆          │ the wire takes 123.0 µs

A step is the next product. A slider changes what an event costs: counts stay, the product of both is drawn anew, and
the bar as it was is a dashed outline. ``Turnable``: the sliders are ``memory_knobs``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from vilab.host.hosted_account import (
    HOST_KERNEL,
    IDLE,
    LANCE,
    OTHER_SWITCHES,
    PORTS_IN_VMM,
    REST,
    SWITCHES_FOR_IO,
    VMKERNEL,
    Account,
    category,
)
from vilab.host.world_costs import COST_TABLE, WORLD_COSTS, WorldCosts
from vilab.view.frame import WIDTH, Cell, Panel, Picture, Row, Stage
from vilab.view.memory_knobs import Knob
from vilab.view.step_track import StepTrack
from vilab.view.svg import number, text
from vilab.view.timeline import timeline
from vilab.view.words import NBSP, plain

LEFT, RIGHT, TOP, PITCH, BAR = 168.0, WIDTH - 176.0, 48.0, 52.0, 26.0
TICK_NS = 25_000

KNOBS: tuple[tuple[str, str, float], ...] = (
    ("switch_ns", "world switch, one way", 15_000), ("write_ns", "write() to the VMNet", 50_000),
    ("select_ns", "select()", 15_000), ("host_interrupt_ns", "host's interrupt handler", 15_000),
)  # fmt: skip

_STYLE: dict[str, tuple[str, str, str]] = {
    REST: ("fill:var(--vl-guest-fill)", "guest-on", "guest, VMM"),
    PORTS_IN_VMM: ("fill:var(--vl-vmm-wash);stroke:var(--vl-vmm-ink);stroke-width:1", "vmm-ink", "ports"),
    SWITCHES_FOR_IO: ("fill:var(--vl-vmm-fill)", "vmm-on", "I/O"),
    OTHER_SWITCHES: ("fill:var(--vl-vmm-fill);opacity:.75", "vmm-on", "IRQ"),
    LANCE: ("fill:var(--vl-host-wash);stroke:var(--vl-host-ink);stroke-width:1", "host-ink", "Lance"),
    HOST_KERNEL: ("fill:var(--vl-host-fill)", "host-on", "host kernel"),
    VMKERNEL: ("fill:var(--vl-host-fill)", "host-on", "vmkernel"),
    IDLE: ("fill:none;stroke:var(--vl-text-soft);stroke-width:1.5;stroke-dasharray:4 3", "text-soft", "idle"),
}
NAMES: dict[str, tuple[str, str]] = {
    "none": ("hosted", "as in version 2.0"), "ports": ("+ ports in VMM", "first optimization"),
    "combining": ("+ combining", "second"), "flag": ("+ IRQ flag", "third"), "esx": ("ESX", "driver in the vmkernel"),
    "native": ("native", "no virtual machine"),
}  # fmt: skip


class TimeTrack(StepTrack):
    """``Turnable``.

    Parameters
    ----------
    makers : one for each product, in order; each is called when its step comes.
    """

    def __init__(self, makers: Sequence[Callable[[], Account]], names: Sequence[str], question: str) -> None:
        self.question, self.names = question, tuple(names)
        self._makers, self._made = tuple(makers), dict[int, Account]()
        self.costs = WORLD_COSTS
        self._position = 0

    @property
    def total(self) -> int:
        return len(self._makers)

    @property
    def now(self) -> int:
        return self._position

    def account(self, at: int) -> Account:
        if at not in self._made:
            self._made[at] = self._makers[at]()
        return self._made[at]

    def go(self, position: int) -> None:
        self._position = position

    def knobs(self) -> Sequence[Knob]:
        found = []
        for field, label, most in KNOBS:
            value = getattr(self.costs, field)
            found.append(Knob(field, label, 0, most / 1000, 0.1, value / 1000, f"{value / 1000:.1f}{NBSP}µs"))
        return found

    def turn(self, name: str, to: float) -> None:
        self.costs = msgspec.structs.replace(self.costs, **{name: round(to * 1000)})

    # Words ------------------------------------------------------------------------------------------------------------

    def sentence(self, position: int) -> str:
        if not position:
            return "Nothing has been measured yet. Step runs the guest on the hosted product, without optimizations."
        account = self.account(position - 1)
        costs, name = self.costs, NAMES[self.names[position - 1]][0]
        need, speed = account.need_ns(costs) / 1000, account.mbit_s(costs)
        idle = account.split(costs)[IDLE] / 1000
        what = f"the wire takes longer, {idle:.1f} µs are idle" if idle else "the **processor** is what it waits for"
        say = f"{name}: a packet needs **{need:.1f} µs**, {what}: **{speed:.1f} Mbit/s**."
        share = account.io_share(costs)
        if account.product in ("none", "ports", "combining", "flag"):
            say += f" World switches for I/O are {100 * share:.1f} % of the VMM's time."
        if costs != WORLD_COSTS:
            say += f" (Measured, at the usual costs: {account.measured_mbit_s:.1f} Mbit/s.)"
        return say

    # The picture ------------------------------------------------------------------------------------------------------

    def picture(self, position: int) -> Picture:
        words = self.sentence(position)
        when = NAMES[self.names[position - 1]][0] if position else "nothing is shown yet"
        return Picture(
            position, self.total, when, words, f"step {position} of {self.total}, {when}",
            self._stage(position, plain(words)), timeline((), position, self.total, LEFT, RIGHT),
            (self._panel(position),),
        )  # fmt: skip

    @property
    def height(self) -> float:
        return TOP + PITCH * self.total + 4

    def _stage(self, position: int, says: str) -> Stage:
        shown = [self.account(at) for at in range(position)]
        most = max((max(sum(a.split(c).values()) for c in (self.costs, WORLD_COSTS)) for a in shown), default=105_000.0)
        most = max(most, 105_000.0)
        scale = (RIGHT - LEFT) / most
        drawn = [self._axis(most, scale)]
        for at, name in enumerate(self.names):
            y = TOP + PITCH * at
            title, note = NAMES[name]
            css = "b" if at < position else "soft"
            drawn.append(text(0, y + 13, title, css) + text(0, y + 31, note, "s soft"))
        if shown:
            x = LEFT + shown[0].line_ns * scale
            high = TOP + PITCH * self.total - 8
            dash = "fill:none;stroke:var(--vl-text);stroke-width:1.5;stroke-dasharray:6 4"
            drawn.append(f'<path d="M{number(x)} {number(TOP - 8)}V{number(high)}" style="{dash}"/>')
            drawn.append(text(x, TOP - 14, f"the wire: {shown[0].line_ns / 1000:.0f} µs", "mid b halo"))
        for at, account in enumerate(shown):
            drawn.append(self._bar(account, TOP + PITCH * at, scale, now=at == position - 1))
        return Stage(label=f"{self.question} {says}", height=self.height, over="".join(drawn))

    def _axis(self, most: float, scale: float) -> str:
        step = TICK_NS if most <= 10 * TICK_NS else 4 * TICK_NS
        ticks = range(0, int(most) + 1, step)
        return "".join(text(LEFT + at * scale, 12, f"{at // 1000}", "s soft mid") for at in ticks) + text(
            RIGHT + 28, 12, "µs a packet", "s soft"
        )

    def _bar(self, account: Account, y: float, scale: float, now: bool) -> str:
        x, drawn = LEFT, []
        for name, ns in account.split(self.costs).items():
            width = ns * scale
            if width < 0.5:
                continue
            style, ink, word = _STYLE[name]
            box = f'x="{number(x)}" y="{number(y)}" width="{number(width)}" height="{BAR}"'
            drawn.append(f'<rect {box} style="{style}" data-part="{name}"/>')
            label = f"{word} {ns / 1000:.0f}" if width > 8.5 * len(word) + 34 else word
            if width > 8.2 * len(label) + 6:
                bold = "b" if now else ""
                css = f"mid halo {bold}" if name == IDLE else f"mid {bold}"
                drawn.append(text(x + width / 2, y + 18, label, css, f'style="fill:var(--vl-{ink})"'))
            x += width
        before = account.need_ns(WORLD_COSTS) * scale
        if abs(before - account.need_ns(self.costs) * scale) > 2:
            dash = "fill:none;stroke:var(--vl-text-soft);stroke-width:1.5;stroke-dasharray:5 3"
            drawn.insert(
                0, f'<rect x="{LEFT}" y="{number(y - 4)}" width="{number(before)}" height="{BAR + 8}" style="{dash}"/>'
            )
        speed = f"{account.mbit_s(self.costs):.1f} Mbit/s"
        bound = account.split(self.costs)[IDLE] <= 0
        why = "processor" if bound else "wire"
        drawn.append(text(RIGHT + 16, y + 13, speed, "b vmm" if bound else "b"))
        drawn.append(text(RIGHT + 16, y + 31, f"bound by the {why}", "s soft"))
        return "".join(drawn)

    def _panel(self, position: int) -> Panel:
        head = (Cell("event"), Cell("a packet", "r"), Cell("× µs", "r"), Cell("= µs", "r"), Cell("where from"))
        if not position:
            return Panel("Counts × costs", head, (), empty="Nothing has been counted yet.")
        account = self.account(position - 1)
        rows = [Row((Cell("guest code, VMM"), Cell("", "r"), Cell("", "r"), Cell(f"{account.rest_ns / 1000:.1f}", "r"),
                     Cell("measured", "soft")))]  # fmt: skip
        table = {row.field: row for row in COST_TABLE}
        for (field, why), n in sorted(
            account.counts.items(), key=lambda each: -each[1] * _cost(self.costs, each[0][0])
        ):
            cost = _cost(self.costs, field) / 1000
            name = f"{table[field].name}: {why}" if why else table[field].name
            loud = "now" if category((field, why)) == SWITCHES_FOR_IO else ""
            source = table[field].source if _cost(self.costs, field) == _cost(WORLD_COSTS, field) else "yours"
            rows.append(Row((Cell(name), Cell(f"{n:.2f}", "r"), Cell(f"{cost:.2f}", "r"), Cell(f"{n * cost:.1f}", "r"),
                             Cell(source, "soft")), loud))  # fmt: skip
        return Panel("Counts × costs", head, tuple(rows))


def _cost(costs: WorldCosts, field: str) -> int:
    value: int = getattr(costs, field)
    return value
