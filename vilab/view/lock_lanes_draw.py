"""Lanes, bars, ticks and chips of ``lock_lanes`` as SVG."""

from __future__ import annotations

from vilab.storage.vmfs_events import VmfsHeartbeat, VmfsReservation
from vilab.view import lock_wire
from vilab.view.frame import WIDTH, Stage
from vilab.view.lock_frame import SECOND_NS, LockStep, LockStory
from vilab.view.svg import glyph, line, number, rect, text
from vilab.view.vmfs_frame import FREE, VolumeMoment

LEFT, RIGHT = 136.0, 900.0
_TOP, _LANE, _ROW, _GAP = 24.0, 56.0, 21.0, 6.0
_CHARACTER = 8.2
"""Units of one character of a label, in the widest of the fonts."""


class Layout:
    """Where things stand; the same for every step of one story."""

    def __init__(self, story: LockStory) -> None:
        self.story = story
        self.seconds = max(10.0, -(-story.end_ns // (5 * SECOND_NS)) * 5.0)
        self.rows = len(story.paths) + 3
        self.lun = _TOP + _LANE + _GAP
        self.lun_end = self.lun + self.rows * _ROW + 10
        self.below = self.lun_end + _GAP
        self.wire = self.below + _LANE + 30
        self.height = self.wire + lock_wire.ROWS * lock_wire.PITCH

    def x(self, at_ns: float) -> float:
        return LEFT + (RIGHT - LEFT) * at_ns / SECOND_NS / self.seconds

    def lane(self, host: str) -> float:
        return _TOP if host == self.story.hosts[0] else self.below

    def path(self, host: str) -> float:
        return self.lane(host) + 42

    def row(self, number_: int) -> float:
        """0: reserved; 1: slot 0; files; last: slot 1."""
        return self.lun + 5 + _ROW * number_

    def slot_row(self, slot: int) -> float:
        return self.row(1 if slot == 0 else self.rows - 1)

    def file_row(self, at: int) -> float:
        return self.row(2 + at)


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
    under += [_beats(at, position), _reservations(at, position), _locks(at, position), _silence(at, position)]
    over = [_labels(at, position), _wire(at, position)]
    return Stage(
        label=label, height=at.height, under="".join(under), over="".join(over), playhead=at.x(step.at_ns),
        playhead_height=at.below + _LANE + 4,
    )  # fmt: skip


def _ground(at: Layout) -> str:
    lanes = [rect(0, at.lane(host), WIDTH, _LANE, "var(--vl-ring-3)") for host in at.story.hosts]
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


def _beats(at: Layout, position: int) -> str:
    """A tick for every stamp; a cross where somebody else has ended it."""
    strokes, ends = [], []
    own: dict[int, str] = {}
    for said in at.story.said_by(position):
        event = said.event
        if not isinstance(event, VmfsHeartbeat) or event.slot > 1:
            continue
        x, y = at.x(event.at_ns), at.slot_row(event.slot)
        if event.action == "released" and own.get(event.slot) != said.host:
            ends.append(glyph("error", x, y + 10, 6))
        else:
            own[event.slot] = said.host
            strokes.append(f"M{number(x)} {number(y + (2 if event.action == 'acquired' else 5))}V{number(y + 15)}")
    style = "fill:none;stroke:var(--vl-host-ink);stroke-width:1.5"
    return f'<path d="{"".join(strokes)}" style="{style}"/>' + "".join(ends)


def _reservations(at: Layout, position: int) -> str:
    """A bar in the LUN's first row, a line to whose it is; a cross where somebody was turned away."""
    now = at.story.steps[position].at_ns
    parts, since = [], dict[str, int]()
    spans: list[tuple[str, int, int]] = []
    crosses: dict[tuple[str, int], float] = {}
    for said in at.story.said_by(position):
        event = said.event
        if not isinstance(event, VmfsReservation):
            continue
        if event.action == "reserved":
            since[said.host] = event.at_ns
        elif event.action == "released" and said.host in since:
            spans.append((said.host, since.pop(said.host), event.at_ns))
        elif event.action == "conflict":
            crosses.setdefault((said.host, event.at_ns // SECOND_NS), at.x(event.at_ns))
    for host, begin in since.items():
        spans.append((host, begin, _lost(at.story, position, host, now)))
    top = at.row(0)
    for host, begin, end in spans:
        x, y = at.x(begin), at.path(host)
        edge = at.lun if host == at.story.hosts[0] else at.lun_end
        width = max(2.0, at.x(end) - x)
        parts.append(rect(x, top + 4, width, 12, "var(--vl-host-fill)"))
        parts.append(
            f'<path d="M{number(x + 1)} {number(y)}V{number(edge)}" '
            'style="fill:none;stroke:var(--vl-host-ink);stroke-width:1"/>'
        )
    for (_, _), x in crosses.items():
        parts.append(glyph("error", x + 1, top + 10, 5))
    return "".join(parts)


def _lost(story: LockStory, position: int, host: str, now: int) -> int:
    """Until when a dead host's reservation held: the last time that somebody was turned away, or its death."""
    death = story.deaths.get(host)
    if death is None:
        return now
    turned = [
        said.event.at_ns
        for said in story.said_by(position)
        if isinstance(said.event, VmfsReservation) and said.event.action == "conflict" and said.host != host
    ]
    return max([death, *(at_ns for at_ns in turned if at_ns > death)])


def _locks(at: Layout, position: int) -> str:
    """Who each file's lock names, from step to step; dashed from the death of that host on."""
    parts = []
    steps = at.story.steps[: position + 1]
    for row, path in enumerate(at.story.paths):
        spans: list[tuple[str, int, int]] = []
        for n, step in enumerate(steps):
            end = steps[n + 1].at_ns if n + 1 < len(steps) else step.at_ns
            file = step.volume.file(path)
            owner = file.owner if file is not None and file.lock != FREE else ""
            if owner and spans and spans[-1][0] == owner and spans[-1][2] == step.at_ns:
                spans[-1] = owner, spans[-1][1], end
            elif owner:
                spans.append((owner, step.at_ns, end))
        for n, (owner, begin, end) in enumerate(spans):
            parts.append(_lock(at, at.file_row(row), owner, begin, end, n > 0))
    return "".join(parts)


def _lock(at: Layout, y: float, owner: str, begin: int, end: int, taken_over: bool) -> str:
    death = min(at.story.deaths.get(owner, end), end)
    x, turn, right = at.x(begin), at.x(death), at.x(end)
    hue = "vmm" if taken_over else "guest"
    parts = [rect(x, y + 2, max(2.5, turn - x), 16, f"var(--vl-{hue}-fill)")]
    if turn - x > 36:
        parts.append(text(x + 6, y + 14, owner, "s b", f'style="fill:var(--vl-{hue}-on)"'))
    elif taken_over and turn + 40 < WIDTH:
        parts.append(text(turn + 6, y + 14, owner, "s b vmm"))
    elif taken_over:
        parts.append(text(x - 6, y + 14, owner, "s b vmm end", _HALO))
    if right - turn > 3:
        edge = f'stroke="var(--vl-{hue}-ink)" stroke-width="1" stroke-dasharray="4 3"'
        parts.append(rect(turn + 1, y + 2.5, right - turn - 2, 15, "none", edge))
        if right - turn > 90:
            parts.append(text(turn + 8, y + 14, f"still names {owner}", "s soft"))
    return "".join(parts)


def _silence(at: Layout, position: int) -> str:
    """From when somebody began to look at a slot to when it had been silent for long enough."""
    steps = at.story.steps[: position + 1]
    step = steps[-1]
    asked = next((s for s in reversed(steps) if s.kind in ("asks", "refused")), None)
    quiet = any(s.kind in ("dies", "freezes") for s in steps)
    if asked is None or not quiet or asked.kind == "refused":
        return ""
    broken = next((s.at_ns for s in steps if s.kind == "broken"), step.at_ns)
    x, right = at.x(asked.at_ns), at.x(broken)
    file = next((f for f in asked.volume.files if f.owner and f.path.startswith(f"/{asked.subject}/")), None)
    if file is None or right - x < 8 or asked.at_ns > broken:
        return ""
    y = at.slot_row(min(file.slot, 1)) + 10
    path = line(f"M{number(x)} {number(y - 5)}v10M{number(x)} {number(y)}H{number(right - 9)}", "not-there")
    words = f"{(broken - asked.at_ns) / SECOND_NS:.1f} s silent"
    if right - x < 110:
        return path
    return path + text((x + right) / 2, y + 4, words, "s b mid", _HALO)


_HALO = 'style="paint-order:stroke;stroke:var(--vl-ring-1);stroke-width:6px;stroke-linejoin:round"'
_LANE_HALO = 'style="paint-order:stroke;stroke:var(--vl-ring-3);stroke-width:4px;stroke-linejoin:round"'


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
        parts.append(text(left, at.lane(step.host) + 26, words, css, _LANE_HALO))
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
