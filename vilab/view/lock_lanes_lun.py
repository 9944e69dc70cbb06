"""The rows of the LUN in ``lock_lanes``: reservations, stamps in the heartbeat slots, whom each lock names."""

from __future__ import annotations

from vilab.storage.vmfs.events import VmfsHeartbeat, VmfsReservation
from vilab.view.frame import WIDTH
from vilab.view.lock_frame import SECOND_NS, LockStory
from vilab.view.lock_lanes_layout import Layout
from vilab.view.svg import glyph, line, number, rect, text
from vilab.view.vmfs_frame import FREE

_HALO = 'style="paint-order:stroke;stroke:var(--vl-ring-1);stroke-width:6px;stroke-linejoin:round"'


def draw_lun(at: Layout, position: int) -> str:
    """All rows, as far as the story has come."""
    return _beats(at, position) + _reservations(at, position) + _locks(at, position) + _silence(at, position)


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
