"""Lanes, bars, ticks and chips of ``lock_lanes`` as SVG."""

from __future__ import annotations

from vilab.view import lock_wire
from vilab.view.frame import WIDTH, Stage
from vilab.view.lock_frame import SECOND_NS, LockStep, LockStory
from vilab.view.lock_lanes_layout import LANE, LEFT, Layout
from vilab.view.lock_lanes_lun import draw_lun
from vilab.view.svg import glyph, line, number, rect, text
from vilab.view.vmfs_frame import VolumeMoment

_CHARACTER = 8.2
"""Units of one character of a label, in the widest of the fonts."""


def brief(step: LockStep) -> str:
    """A step in two or three words."""
    vm = step.subject
    return {
        "mounts": "mounts", "on": f"{vm} on", "off": f"{vm} off", "grows": f"{vm} +{step.megabytes} MB",
        "meets": "conflict", "asks": f"{vm}?", "refused": f"{vm} is in use", "dies": "power lost", "silent": "watches",
        "replayed": "replays the journal", "broken": "breaks the heartbeat",
        "stolen": f"takes {vm.rsplit('/', 1)[-1]}", "freezes": "stands still", "fenced": "is locked out",
        "stuck": "gives up",
    }.get(step.kind, step.kind)  # fmt: skip


LOUD = {"meets": "fault", "refused": "fault", "dies": "fault", "stuck": "fault", "fenced": "fault", "freezes": "fault",
        "replayed": "vmm", "broken": "vmm", "stolen": "vmm"}  # fmt: skip


def draw(story: LockStory, position: int, label: str) -> Stage:
    at = Layout(story)
    step = story.steps[position]
    under = [_ground(at), _axis(at), _names(at, position)]
    for host in story.hosts:
        under.append(_life(at, position, host))
    under.append(draw_lun(at, position))
    over = [_labels(at, position), _wire(at, position)]
    return Stage(
        label=label, height=at.height, under="".join(under), over="".join(over), playhead=at.x(step.at_ns),
        playhead_height=at.below + LANE + 4,
    )  # fmt: skip


def _ground(at: Layout) -> str:
    lanes = [rect(0, at.lane(host), WIDTH, LANE, "var(--vl-ring-3)") for host in at.story.hosts]
    return "".join(lanes) + rect(0, at.lun, WIDTH, at.lun_end - at.lun, "var(--vl-ring-1)")


def _axis(at: Layout) -> str:
    parts = []
    for second in range(0, int(at.seconds) + 1, 5):
        x = at.x(second * SECOND_NS)
        words = f"{second} s" if not second else str(second)
        if second % 10 == 0:
            parts.append(text(x, 12, words, "s soft mid" if second else "s soft"))
        parts.append(line(f"M{number(x)} 17v5", "tick"))
    return "".join(parts)


def _names(at: Layout, position: int) -> str:
    parts = []
    for host in at.story.hosts:
        top = at.lane(host)
        parts.append(text(16, top + 24, host, "l b"))
        words, css = _state(at.story, position, host)
        parts.append(text(16, top + 43, words, f"s {css}"))
    parts.append(text(16, at.row(0) + 14, "LUN", "b"))
    parts.append(text(LEFT - 8, at.row(0) + 13, "reserved", "s soft end"))
    for slot in (0, 1):
        parts.append(text(LEFT - 8, at.slot_row(slot) + 13, f"slot {slot}", "s soft end"))
    for n, path in enumerate(at.story.paths):
        parts.append(text(LEFT - 8, at.file_row(n) + 13, path.rsplit("/", 1)[-1], "s end"))
    return "".join(parts)


def _state(story: LockStory, position: int, host: str) -> tuple[str, str]:
    """What a host does at this moment."""
    now = story.steps[position].at_ns
    if host in story.deaths and story.deaths[host] <= now:
        return "no power", "fault"
    seen = [step for step in story.steps[: position + 1] if step.host == host and step.kind not in ("begin", "silent")]
    if not seen:
        return "not mounted", "soft"
    if seen[-1].kind in ("asks", "replayed", "broken", "stolen"):
        asked = next((s.subject for s in reversed(seen) if s.kind == "asks"), "")
        return f"wants {asked}", "b"
    if seen[-1].kind == "freezes":
        return "stands still", "fault"
    if seen[-1].kind == "fenced":
        return "locked out", "fault"
    on: list[str] = []
    for step in seen:
        if step.kind == "on":
            on.append(step.subject)
        elif step.kind == "off":
            on.remove(step.subject)
    return (f"runs {', '.join(on)}" if on else "mounted"), "soft"


def _life(at: Layout, position: int, host: str) -> str:
    """Thin before it has mounted, thick while it lives, dotted afterwards."""
    now, y = at.story.steps[position].at_ns, at.path(host)
    death = at.story.deaths.get(host, now + 1)
    mounted = next((s.at_ns for s in at.story.steps if s.kind == "mounts" and s.host == host), now)
    mounted, end = min(mounted, now), min(death, now)
    parts = [line(f"M{number(LEFT)} {number(y)}H{number(at.x(mounted))}", "axis")]
    stroke = "fill:none;stroke:var(--vl-host-ink);stroke-width:4"
    if end > mounted:
        parts.append(f'<path d="M{number(at.x(mounted))} {number(y)}H{number(at.x(end))}" style="{stroke}"/>')
    for begin, until in _stands_still(at.story, position, host):
        box = rect(at.x(begin), y - 3, at.x(until) - at.x(begin), 6, "var(--vl-ring-3)")
        parts.append(box + line(f"M{number(at.x(begin))} {number(y)}H{number(at.x(until))}", "not-there"))
    ends = [death] if death <= now else []
    ends += [s.at_ns for s in at.story.steps[: position + 1] if s.host == host and s.kind in ("fenced", "stuck")]
    for end in ends:
        x = at.x(end)
        if end == death:
            parts.append(line(f"M{number(x + 9)} {number(y)}H{number(at.x(now))}", "not-there"))
        parts.append(f'<circle cx="{number(x)}" cy="{number(y)}" r="8" class="wrong"/>{glyph("error", x, y, 5)}')
    return "".join(parts)


def _stands_still(story: LockStory, position: int, host: str) -> list[tuple[int, int]]:
    """From when to when a host does nothing, as far as the story has come."""
    steps, found = story.steps[: position + 1], list[tuple[int, int]]()
    for n, step in enumerate(steps):
        if step.kind == "freezes" and step.host == host:
            after = (s.at_ns for s in steps[n + 1 :] if s.host == host)
            found.append((step.at_ns, next(after, steps[-1].at_ns)))
    return found


_HALO = 'style="paint-order:stroke;stroke:var(--vl-ring-3);stroke-width:4px;stroke-linejoin:round"'


def _labels(at: Layout, position: int) -> str:
    """Above each host's line; the newest first, an older one only where it has room."""
    taken: dict[str, list[tuple[float, float]]] = {host: [] for host in at.story.hosts}
    parts = []
    here = at.story.steps[position]
    for n in range(position, 0, -1):
        step = at.story.steps[n]
        if step.kind == "silent" and n != position:
            continue
        words, now = brief(step), n == position
        if not now and step.host == here.host and at.x(here.at_ns) - at.x(step.at_ns) < 6:
            continue
        width = len(words) * (_CHARACTER if now else _CHARACTER - 0.6)
        x = at.x(step.at_ns)
        room = x + width + 8 < WIDTH
        left = x + 4 if room else x - width - 6
        if (not room and not now) or any(
            left < end + 8 and left + width > begin - 8 for begin, end in taken[step.host]
        ):
            continue
        taken[step.host].append((left, left + width))
        loud = LOUD.get(step.kind, "")
        css = f"{'b ' if now else 's '}{loud if now or loud == 'fault' else '' if now else 'soft'}"
        parts.append(text(left, at.lane(step.host) + 26, words, css, _HALO))
    return "".join(parts)


def _wire(at: Layout, position: int) -> str:
    step = at.story.steps[position]
    commands = at.story.commands_of(position)
    y = at.wire - 10
    if not commands:
        return text(0, y, "On the wire in this step: nothing.", "s soft")
    own = _slot_of(step.volume, step.host)
    found = lock_wire.chips(commands, step.volume, own)
    took = (commands[-1].at_ns - commands[0].at_ns) / 1e6
    span = f" in {took:,.1f} ms" if took < 1000 else f" in {took / 1000:.1f} s"
    title = f"{step.host} to the LUN in this step: {len(commands)} SCSI commands{span}"
    return text(0, y, title, "s b") + lock_wire.draw(found, at.wire)


def _slot_of(volume: VolumeMoment, host: str) -> int:
    slot = volume.slot_of(host)
    return -1 if slot is None else slot.slot
