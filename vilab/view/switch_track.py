"""A frame's way through a virtual switch, step by step, for a player. Drawn from ``switch_frame`` records only."""

from __future__ import annotations

from collections.abc import Sequence

from vilab.view.frame import Cell, Panel, Picture, Row
from vilab.view.step_track import StepTrack
from vilab.view.switch_draw import draw
from vilab.view.switch_frame import SwitchStep
from vilab.view.switch_layout import vlan_words
from vilab.view.switch_says import say, short, where
from vilab.view.timeline import timeline
from vilab.view.words import duration, plain

GLYPHS = {"sends": "frame", "forwards": "frame", "outside": "frame", "tells": "frame", "drops": "error",
          "link": "error", "moves": "io", "beacons": "io", "set": "io"}  # fmt: skip


class SwitchTrack(StepTrack):
    """``Track`` for a player. ``clickable``: ports and uplinks in the picture can be pressed."""

    first = 0

    def __init__(self, steps: Sequence[SwitchStep], question: str, clickable: bool = False) -> None:
        self.steps, self.question, self.clickable = list(steps), question, clickable

    @property
    def total(self) -> int:
        return len(self.steps) - 1

    def kind_of(self, position: int) -> str:
        return self.steps[position].kind

    def sentence(self, position: int) -> str:
        return say(self.steps[position])

    def elapsed_ns(self, position: int) -> int:
        return self.steps[position].at_ns - self.steps[0].at_ns

    def picture(self, position: int) -> Picture:
        step = self.steps[position]
        words, when = say(step), duration(self.elapsed_ns(position))
        marks = [(at, self._glyph(at)) for at in range(1, position + 1)]
        return Picture(
            position, self.total, when, words, f"step {position}, {when}. {plain(words)}",
            draw(step, f"{self.question} {plain(words)}", self.clickable),
            timeline([mark for mark in marks if mark[1]], position, self.total),
            (_ports(step), _learned(step), self._log(position)),
        )  # fmt: skip

    def _glyph(self, at: int) -> str:
        step = self.steps[at]
        if step.kind == "link" and step.reason == "up":
            return "io"
        return GLYPHS.get(step.kind, "")

    def _log(self, position: int) -> Panel:
        rows = tuple(self._logged(at, at == position) for at in range(1, position + 1))
        return Panel("So far", (Cell("µs", "r"), Cell("where"), Cell("what")), rows, "log", "Nothing yet.")

    def _logged(self, at: int, now: bool) -> Row:
        step = self.steps[at]
        when = Cell(f"{self.elapsed_ns(at) / 1000:,.1f}", "r soft")
        return Row((when, Cell(where(step)), Cell(short(step), "", self._glyph(at))), "now" if now else "", at)


def _ports(step: SwitchStep) -> Panel:
    s, got = step.scene, {c.place for c in step.copies}
    head = (Cell("port", "r"), Cell("client"), Cell("VLAN"), Cell("leaves by"))
    rows = []
    for m in s.machines:
        cells = (Cell(str(m.port), "r soft"), Cell(m.name, "c-guest"), Cell(_number(m.vlan)), Cell(m.uplink or "–"))
        rows.append(Row(cells, "now" if m.name in got else ""))
    for u in s.uplinks:
        state = Cell("" if u.up else "no link", "c-fault")
        rows.append(Row((Cell(str(u.port), "r soft"), Cell(u.name, "c-host"), Cell("trunk"), state),
                        "now" if u.name in got else ""))  # fmt: skip
    return Panel(s.switch, head, tuple(rows))


def _number(vlan: int) -> str:
    return {"no VLAN": "none", "all VLANs": "all"}.get(vlan_words(vlan), str(vlan))


def _learned(step: SwitchStep) -> Panel:
    """The table of the physical switch; only addresses that somebody in the picture has."""
    s = step.scene
    names = {m.mac: m.name for m in s.machines} | {o.mac: o.name for o in s.outside}
    rows = [(names[mac], port, str(vlan)) for vlan, mac, port in s.where if mac in names]
    table = tuple(Row((Cell(name), Cell(port, "c-host"), Cell(vlan, "r soft"))) for name, port, vlan in sorted(rows))
    head = (Cell("who"), Cell("is at"), Cell("VLAN", "r"))
    return Panel("Physical switch", head, table, "state", "Has learned nothing yet.")
