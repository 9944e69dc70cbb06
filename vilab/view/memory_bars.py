"""What each virtual machine thinks it has: its guest-physical memory as a bar.

::

    vm1                                     16 MB configured, 5.1 MB of the machine
    [ private | shared | zeros | balloon | swapped |. . . never touched . . . . . .]
      solid: there is machine memory behind it      outlined: there is none

All bars have one scale, and the largest is as wide as the picture's right side. Which machine is looked for in the
grid can be chosen here: the rows are the stage's.
"""

from __future__ import annotations

from collections.abc import Sequence

from vilab.view.frame import WIDTH
from vilab.view.memory_frame import VmFrame
from vilab.view.memory_grid import size
from vilab.view.svg import number, rect, text
from vilab.view.words import escape, plain

LEFT = 476.0
RIGHT = float(WIDTH)
TOP = 46.0
_MOST_PITCH, _MOST_BAR = 76.0, 36.0
_LABEL_PX = 8.6
"""A digit in bold at 14 px in the widest font."""

PATTERNS = """\
<defs><pattern id="vm-sh" width="8" height="8" patternUnits="userSpaceOnUse">
<rect width="8" height="8" style="fill:var(--vl-shared-fill)"/>
<path d="M-2 2L2 -2M0 8L8 0M6 10L10 6" style="stroke:var(--vl-surface);stroke-width:1.3;opacity:.75"/></pattern>
<pattern id="vm-ba" width="12" height="12" patternUnits="userSpaceOnUse">
<rect width="12" height="12" style="fill:var(--vl-balloon-wash)"/>
<circle cx="6" cy="6" r="2.4" style="fill:none;stroke:var(--vl-balloon-ink);stroke-width:1.2"/></pattern>
<pattern id="vm-sw" width="6" height="6" patternUnits="userSpaceOnUse">
<rect width="6" height="6" style="fill:var(--vl-host-wash)"/>
<path d="M0 3H6" style="stroke:var(--vl-host-ink);stroke-width:1.6"/></pattern></defs>"""

_PARTS = (
    ("private", "var(--vl-guest-fill)", "guest", ""),
    ("shared", "url(#vm-sh)", "shared", ""),
    ("zeros", "var(--vl-shared-wash)", "shared", "shared"),
    ("balloon", "url(#vm-ba)", "balloon", "balloon"),
    ("swapped", "url(#vm-sw)", "host", "host"),
)
"""Name, fill, hue of its label, hue of its outline."""


def parts_of(vm: VmFrame) -> tuple[int, ...]:
    """Pages of each of the five kinds that a bar is made of; what is missing was never touched."""
    return vm.private, vm.shared - vm.zero, vm.zero, vm.ballooned, vm.swapped


def draw(vms: Sequence[VmFrame], height: float, only: str = "") -> str:
    """The right half of the stage, ``height`` units below ``TOP``."""
    head = text(LEFT, 16, "What each VM thinks it has", "l b") + text(
        LEFT, 35, "guest-physical memory; solid: machine memory is behind it", "soft"
    )
    if not vms:
        return PATTERNS + head + text(LEFT, TOP + 24, "No virtual machine is on.", "soft")
    widest = max(vm.pages for vm in vms)
    key = 24.0
    pitch = min(_MOST_PITCH, (height - key) / len(vms))
    bars = [_bar(vm, at, TOP + pitch * at, pitch, widest, only) for at, vm in enumerate(vms)]
    return PATTERNS + head + "".join(bars) + _key(vms, TOP + pitch * len(vms) + 14)


def _bar(vm: VmFrame, at: int, y: float, pitch: float, widest: int, only: str) -> str:
    wide = pitch >= 46
    bar = min(_MOST_BAR, pitch - 28) if wide else max(8.0, pitch - 6)
    left = LEFT if wide else LEFT + 52
    unit = (RIGHT - left) / widest
    top = y + (20 if wide else 0)
    marks = []
    what = _what(vm)
    if wide:
        marks.append(text(LEFT, y + 14, vm.name, "b"))
        marks.append(text(RIGHT, y + 14, what, "soft end"))
    else:
        marks.append(text(LEFT, top + bar / 2 + 5, vm.name, "b"))
    marks.append(
        f'<rect x="{number(left + 0.75)}" y="{number(top + 0.75)}" width="{number(unit * vm.pages - 1.5)}" '
        f'height="{number(bar - 1.5)}" style="fill:none;stroke:var(--vl-line-strong);stroke-width:1.5;'
        'stroke-dasharray:2 5"/>'
    )
    x = left
    for (name, fill, _, outline), pages in zip(_PARTS, parts_of(vm), strict=True):
        if not pages:
            continue
        width = unit * pages
        edge = f"stroke:var(--vl-{outline}-ink);stroke-width:1" if outline else ""
        marks.append(
            rect(x, top, max(width - 1, 0.75), bar, fill, f'data-part="{name}"').replace('" data', f';{edge}" data')
        )
        label = f"{pages / 256:.1f}"
        if wide and name == "private" and width > _LABEL_PX * len(label) + 12:
            marks.append(text(x + 8, top + bar / 2 + 5, label, "b", 'style="fill:var(--vl-guest-on)"'))
        x += width
    chosen = vm.name == only
    if chosen:
        marks.append(
            f'<rect x="{number(left - 3)}" y="{number(top - 3)}" width="{number(unit * vm.pages + 6)}" '
            f'height="{number(bar + 6)}" style="fill:none;stroke:var(--vl-text-strong);stroke-width:2"/>'
        )
    press = "shown alone in the grid; Enter shows all" if chosen else "Enter shows only its pages in the grid"
    words = plain(f"{vm.name}: {what}. {_spoken(vm)}. {press}")
    cursor = (
        f'<rect x="{number(LEFT - 8)}" y="{number(y - 1)}" width="{number(RIGHT - LEFT + 16)}" '
        f'height="{number(pitch - 2)}" class="vm-here"/>'
    )
    return f'<g data-row="{at}" class="vm-row" aria-label="{escape(words)}">{cursor}{"".join(marks)}</g>'


def _what(vm: VmFrame) -> str:
    if vm.stopped:
        return "stopped"
    blocked = "blocked, " if vm.blocked else ""
    return f"{blocked}{size(vm.pages)}, costs {size(vm.charged)}"


def _spoken(vm: VmFrame) -> str:
    named = [f"{name} {size(pages)}" for (name, *_), pages in zip(_PARTS, parts_of(vm), strict=True) if pages]
    return ", ".join([*named, f"never touched {size(vm.untouched)}"])


def _key(vms: Sequence[VmFrame], y: float) -> str:
    """Each word in its own hue, in the order of the bars."""
    sums = [sum(column) for column in zip(*map(parts_of, vms), strict=True)]
    x, marks = LEFT, []
    for (name, fill, hue, outline), pages in zip(_PARTS, sums, strict=True):
        if not pages:
            continue
        edge = f"stroke:var(--vl-{outline}-ink)" if outline else ""
        marks.append(
            f'<rect x="{number(x + 0.5)}" y="{number(y - 9.5)}" width="10" height="10" style="fill:{fill};{edge}"/>'
        )
        marks.append(text(x + 16, y, name, hue if hue != "balloon" else "", _ink(hue)))
        x += 30 + 8.2 * len(name)
    marks.append(
        f'<rect x="{number(x + 0.75)}" y="{number(y - 9.25)}" width="9.5" height="9.5" '
        'style="fill:none;stroke:var(--vl-line-strong);stroke-width:1.5;stroke-dasharray:2 2"/>'
    )
    marks.append(text(x + 16, y, "never touched", "soft"))
    return "".join(marks)


def _ink(hue: str) -> str:
    return f'style="fill:var(--vl-{hue}-ink)"'
