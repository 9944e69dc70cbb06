"""One step of a frame through a virtual switch as SVG."""

from __future__ import annotations

from vilab.network.ethernet import vlan_of
from vilab.network.vlan_tagging import TRUNK
from vilab.view import switch_layout as at
from vilab.view.frame import WIDTH, Stage
from vilab.view.frame_bytes import FrameRow, draw_frame
from vilab.view.frame_bytes_layers import brief
from vilab.view.svg import glyph, line, number, rect, text
from vilab.view.switch_frame import Machine, SwitchStep, Uplink
from vilab.view.switch_layout import Layout, look, vlan_words

_INK = "var(--vl-text-strong)"
_SURFACE = "var(--vl-surface)"
_QUIET = "var(--vl-line-strong)"


def box(
    x: float, y: float, width: float, height: float, fill: str, stroke: str, weight: float = 1, dash: str = ""
) -> str:
    style = f"stroke:{stroke};stroke-width:{number(weight)};stroke-dasharray:{dash or 'none'}"
    spot = f'x="{number(x)}" y="{number(y)}" width="{number(width)}" height="{number(height)}"'
    return f'<rect {spot} rx="3" style="fill:{fill};{style}"/>'


def stroke(path: str, colour: str, weight: float, dash: str = "") -> str:
    return line(
        path, "", f'style="fill:none;stroke:{colour};stroke-width:{number(weight)};stroke-dasharray:{dash or "none"}"'
    )


def inked(x: float, y: float, words: str, colour: str, css: str = "mid b") -> str:
    return text(x, y, words, css, f'style="fill:{colour}"')


def step_vlan(step: SwitchStep) -> int:
    """The VLAN of its frame, as far as anybody knows."""
    if step.vlan >= 0:
        return step.vlan
    tag = vlan_of(step.frame) if step.frame else None
    machine = step.scene.machine(step.origin)
    if machine is not None:
        return (tag or 0) if machine.vlan == TRUNK else machine.vlan
    host = next((o for o in step.scene.outside if o.name == step.origin), None)
    return host.vlan if host is not None else tag or 0


def draw(step: SwitchStep, label: str, clickable: bool = False) -> Stage:
    layout = Layout(step.scene)
    picture = _Picture(layout, step, clickable)
    return Stage(
        label=label, height=layout.height, under=picture.under(), over=picture.over() + draw_frame(rows(step), at.FRAME)
    )


def rows(step: SwitchStep) -> list[FrameRow]:
    """The frame as it is inside, and as it is outside: at most one of each, copies before the original."""
    if not step.frame:
        return []
    bad = {"forged source": "source", "guest tag": "tag", "address changed": "destination"}.get(step.reason, "")
    found: dict[bool, FrameRow] = {}
    copies = sorted(step.copies, key=lambda copy: step.scene.uplink(copy.place) is None)
    for place, frame in [*((c.place, c.frame) for c in copies), (step.origin, step.frame)]:
        inside = step.scene.uplink(place) is None
        where = f"on {place}'s port" if inside else f"on {place}"
        found.setdefault(vlan_of(frame) is not None, FrameRow(where, frame, bad))
    return [found[key] for key in (False, True) if key in found]


class _Picture:
    def __init__(self, layout: Layout, step: SwitchStep, clickable: bool) -> None:
        self.at, self.step, self.scene, self.clickable = layout, step, step.scene, clickable
        self.vlan = step_vlan(step)
        self.look = look(self.scene, self.vlan)
        self.got = {c.place: c for c in step.copies}
        self.refused = dict(step.refused)
        self.busy = {step.origin, *self.got}

    def under(self) -> str:
        s = self.scene
        parts = [self._cable(m) for m in s.machines] + [self._wire(u) for u in s.uplinks]
        parts += [stroke(f"M{number(self.at.physical[1])} {at.OUTSIDE_BUS}H763", _QUIET, 1.5) for _ in s.outside[:1]]
        parts.append(rect(0, at.SWITCH, WIDTH, at.SWITCH_END - at.SWITCH, "var(--vl-host-wash)", 'rx="3"'))
        parts.append(text(896, 182, s.switch, "l b end"))
        parts.append(self._physical())
        parts.append(self._path())
        return "".join(parts)

    def over(self) -> str:
        s = self.scene
        parts = [self._machine(m) for m in s.machines] + [self._uplink(u) for u in s.uplinks]
        parts += [self._host(o.name) for o in s.outside[:1]]
        parts += [self._port(m) for m in s.machines]
        parts += [self._chips(), self._reasons(), self._drop()]
        return "".join(parts)

    # --- what is there ------------------------------------------------------------------------------------------------

    def _act(self, what: str, name: str, words: str, inside: str) -> str:
        """Something that can be pressed, where the picture is there to be changed."""
        if not self.clickable:
            return inside
        return f'<g class="sw-act" data-act="{what}" data-name="{name}"><title>{words}</title>{inside}</g>'

    def _machine(self, m: Machine) -> str:
        x, width = self.at.columns[m.name], self.at.box
        loud = m.name in self.busy
        fill, edge = ("var(--vl-guest-wash)", "var(--vl-guest-ink)") if loud else (_SURFACE, _QUIET)
        css = "guest" if loud else "soft" if self.step.frame else ""
        under = "soft" if m.mac == m.own_mac else "vmm"
        return (
            box(x - width / 2 + 1, 1, width - 2, at.BOX_HEIGHT, fill, edge, 2 if loud else 1)
            + text(x, 24, m.name, f"l mid b {css}") + text(x, 44, m.mac.hex(":"), f"ms mid {under}")
        )  # fmt: skip

    def _cable(self, m: Machine) -> str:
        x = self.at.columns[m.name]
        return stroke(f"M{number(x)} {at.CABLE}V{at.PORT}", _QUIET, 1.5, look(self.scene, m.vlan).dash)

    def _port(self, m: Machine) -> str:
        x, its = self.at.columns[m.name], look(self.scene, m.vlan)
        loud = m.name in self.busy
        words = vlan_words(m.vlan)
        width = max(80.0, len(words) * 8.8 + 14)
        dash = its.dash if not loud else ""
        chip = box(x - width / 2, at.PORT, width, at.PORT_HEIGHT, its.ink if loud else its.wash, its.ink, 1.5, dash)
        chip += inked(x, at.PORT + 17, words, _SURFACE if loud else its.ink)
        notes = [f"guest tags {m.tag}"] if m.tag is not None else []
        notes += ["asks for all"] if m.curious else []
        near = x + self.at.box < WIDTH
        note = text(x + 8 if near else x - 8, at.PORT - 6, ", ".join(notes), f"s soft{'' if near else ' end'}")
        return self._act("vlan", m.name, f"Connect {m.name} to the next port group", chip) + note

    def _uplink(self, u: Uplink) -> str:
        x = self.at.uplinks[u.name]
        loud = u.name in self.busy
        edge = "var(--vl-fault-ink)" if not u.up else "var(--vl-host-ink)" if loud else _QUIET
        made = box(x - 48, at.UPLINK, 96, at.UPLINK_HEIGHT, _SURFACE, edge, 2 if loud or not u.up else 1)
        made += text(x, at.UPLINK + 18, u.name, f"mid b {'' if loud else 'fault' if not u.up else 'soft'}")
        return self._act("cable", u.name, f"Pull the cable of {u.name}, or plug it in", made)

    def _wire(self, u: Uplink) -> str:
        x = self.at.uplinks[u.name]
        if u.up:
            return stroke(f"M{number(x)} {at.WIRE}V{at.OUTSIDE}", _QUIET, 1.5)
        return stroke(f"M{number(x)} {at.WIRE}V{at.WIRE + 12}M{number(x)} {at.OUTSIDE - 12}V{at.OUTSIDE}", _QUIET, 1.5)

    def _physical(self) -> str:
        left, right = self.at.physical
        trunk = ", ".join(map(str, self.scene.trunk))
        made = box(left, at.OUTSIDE, right - left, at.OUTSIDE_END - at.OUTSIDE, _SURFACE, "var(--vl-host-ink)", 2)
        return made + text(
            (left + right) / 2, at.OUTSIDE_END - 9, f"physical switch: trunk for VLAN {trunk}", "mid b host"
        )

    def _host(self, name: str) -> str:
        host = next(o for o in self.scene.outside if o.name == name)
        loud = name in self.busy
        fill, edge = ("var(--vl-guest-wash)", "var(--vl-guest-ink)") if loud else (_SURFACE, _QUIET)
        css = "guest" if loud else "soft" if self.step.frame else ""
        return (
            box(764, 266, 147, at.BOX_HEIGHT, fill, edge, 2 if loud else 1)
            + text(837, 289, f"{name}, VLAN {host.vlan}", f"l mid b {css}")
            + text(837, 309, host.mac.hex(":"), "ms mid soft")
        )  # fmt: skip

    # --- the way that the frame has taken -----------------------------------------------------------------------------

    def _path(self) -> str:
        step = self.step
        if not step.frame:
            return ""
        x, n = self.at.x(step.origin), number
        inside = step.origin in self.at.columns
        uplink = step.origin in self.at.uplinks
        ways: list[str] = []
        if step.kind == "sends":
            ways.append(
                f"M{n(x)} {at.CABLE}V{at.PORT}" if inside else f"M763 {at.OUTSIDE_BUS}H{n(self.at.physical[1])}"
            )
        elif step.kind in ("drops", "forwards"):
            ways.append(f"M{n(x)} {at.CABLE if inside else at.OUTSIDE}V{at.BUS}")
            for place in self.got:
                to = self.at.x(place)
                end = at.CABLE if place in self.at.columns else at.OUTSIDE
                ways.append(f"M{n(x)} {at.BUS}H{n(to)}V{n(end)}")
        elif step.kind == "tells":
            ways.append(f"M{n(x)} {at.WIRE}V{at.OUTSIDE}")
        elif step.kind == "outside":
            begin = (
                f"M{n(x)} {at.WIRE}V{at.OUTSIDE_BUS}"
                if uplink
                else f"M763 {at.OUTSIDE_BUS}H{n(self.at.physical[1] - 10)}"
            )
            ways.append(begin)
            base = x if uplink else self.at.physical[1]
            for place in self.got:
                if place in self.at.uplinks:
                    ways.append(f"M{n(base)} {at.OUTSIDE_BUS}H{n(self.at.x(place))}V{at.WIRE}")
                else:
                    ways.append(f"M{n(base)} {at.OUTSIDE_BUS}H763")
        return "".join(stroke(way, self.look.ink, 4) for way in ways)

    # --- frames -------------------------------------------------------------------------------------------------------

    def _chips(self) -> str:
        step = self.step
        if not step.frame:
            return ""
        here = step.kind in ("sends", "drops")
        parts = []
        if step.kind != "tells":
            parts.append(self._chip(step.origin, step.frame, solid=here))
        parts += [self._chip(copy.place, copy.frame, solid=True) for copy in step.copies]
        return "".join(parts)

    def _chip(self, place: str, frame: bytes, solid: bool) -> str:
        words, tag = brief(frame), vlan_of(frame)
        if place in self.at.columns:
            x, y = self.at.columns[place], at.CHIP_CABLE
        elif place in self.at.uplinks:
            x, y = self.at.uplinks[place], at.CHIP_WIRE
        else:
            x, y = (self.at.physical[1] + 763) / 2, at.OUTSIDE_BUS - at.CHIP / 2
        core = 84.0 if place not in self.at.columns and place not in self.at.uplinks else 96.0
        label = f"tag {tag}"
        room = len(label) * 8.2 + 12  # for the tag
        width = core if tag is None else core + room
        left = x - width / 2
        fill, edge = (_INK, _INK) if solid else (_SURFACE, _INK)
        parts = [box(left, y, width, at.CHIP, fill, edge, 1.5, "" if solid else "4 3")]
        if tag is not None:
            its = look(self.scene, tag)
            parts.append(
                box(
                    left + 3,
                    y + 3,
                    room,
                    at.CHIP - 6,
                    its.ink if solid else its.wash,
                    its.ink,
                    1,
                    "" if solid else "4 3",
                )
            )
            parts.append(inked(left + 3 + room / 2, y + 20, label, _SURFACE if solid else its.ink))
        middle = left + width / 2 if tag is None else left + room + (width - room) / 2
        parts.append(
            inked(middle, y + 20, words, _SURFACE if solid else "var(--vl-text-soft)", "mid b" if solid else "mid")
        )
        return "".join(parts)

    # --- who does not get it ------------------------------------------------------------------------------------------

    def _reasons(self) -> str:
        parts = []
        for place, why in self.step.refused:
            if place in self.at.columns:
                x = self.at.columns[place]
                width = len(why) * 7.2 + 8
                loud = why in ("address changed", "other uplink")
                parts.append(rect(x - width / 2, 72, width, 22, _SURFACE))
                parts.append(text(x, 88, why, f"mid {'fault' if loud else 'soft'}"))
            elif place in self.at.uplinks and why != "no link":
                parts.append(text(self.at.uplinks[place] + 10, 239, why, "soft"))
                parts += self._because(place, why)
        for u in self.scene.uplinks:
            x = self.at.uplinks[u.name]
            if not u.up:
                parts.append(glyph("error", x, 232, 6) + text(x + 12, 237, "no link", "fault"))
            elif u.cable == "wrong":
                parts.append(text(x + 8, at.OUTSIDE - 5, "port in VLAN 99", "s fault"))
        return "".join(parts)

    def _because(self, place: str, why: str) -> list[str]:
        machine = self.scene.machine(self.step.origin)
        if why != "not used" or machine is None or not machine.uplink:
            return []
        return [text(self.at.uplinks[place] + 10, 257, f"port {machine.port} leaves by {machine.uplink}", "soft")]

    def _drop(self) -> str:
        """✕ where the frame ended, and why."""
        step = self.step
        if step.kind == "outside" and not step.copies:
            x = self.at.x(step.origin) if step.origin in self.at.uplinks else self.at.physical[1] - 10
            return self._cross(x, at.OUTSIDE_BUS, "no other port")
        if step.kind != "drops" or not step.frame:
            return ""
        if step.refused and step.refused[0][0] in self.at.columns:
            return ""
        return self._cross(self.at.x(step.origin), at.BUS, step.reason)

    def _cross(self, x: float, y: float, words: str) -> str:
        end = x + 18 + len(words) * 8.4 < (WIDTH - 90 if y == at.BUS else self.at.physical[1])
        mark = f'<circle cx="{number(x)}" cy="{number(y)}" r="10" class="wrong"/>{glyph("error", x, y, 6)}'
        return mark + text(x + 17 if end else x - 17, y + 5, words, f"b fault {'' if end else 'end'}")
