"""The few shapes that the pictures are made of, as SVG text. Colours, fonts and sizes are tokens or classes.

Glyphs say what happened before any colour does (half width 5 on the slider, 6 in a log, 9 in a picture)::

    trap ▼   callout ▽   translate ■   true_fault ◆   hidden_fault ◇   trace_fault □   io ●   memory ○   error ✕
    space ❘ (another address space)   frame ▰
    filled: control left the guest        hollow: handled without the guest noticing
"""

from __future__ import annotations

from vilab.view.words import escape

GLYPH_NAMES = {
    "trap": "trap", "exit": "exit", "callout": "callout", "translate": "translation", "true_fault": "true fault",
    "hidden_fault": "hidden fault", "trace_fault": "trace fault", "interrupt": "interrupt", "io": "port access",
    "error": "wrong", "space": "load of CR3", "memory": "memory event",
    "frame": "frame",
}  # fmt: skip
"""Kinds of events that have a glyph, in words."""


def number(value: float) -> str:
    """A coordinate with no more digits than it needs."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def rect(x: float, y: float, width: float, height: float, fill: str, extra: str = "") -> str:
    box = f'x="{number(x)}" y="{number(y)}" width="{number(width)}" height="{number(height)}"'
    return f'<rect {box} style="fill:{fill}" {extra}/>'


def line(path: str, css: str, extra: str = "") -> str:
    return f'<path d="{path}" class="{css}" {extra}/>'


def text(x: float, y: float, words: str, css: str = "", extra: str = "") -> str:
    return f'<text x="{number(x)}" y="{number(y)}" class="{css}" {extra}>{escape(words)}</text>'


def glyph(kind: str, x: float, y: float, half: float) -> str:
    """The mark for an event, centred on (x, y)."""
    n = number
    if kind in ("trap", "exit", "interrupt"):
        return f'<path d="{_triangle(x, y, half)}" class="g-trap"/>'
    if kind == "callout":
        return f'<path d="{_triangle(x, y, half)}" class="g-callout"/>'
    if kind == "translate":
        side = half * 0.8
        return (
            f'<path d="M{n(x - side)} {n(y - side)}h{n(2 * side)}v{n(2 * side)}h{n(-2 * side)}Z" class="g-translate"/>'
        )
    if kind == "trace_fault":
        side = half * 0.75
        box = f"M{n(x - side)} {n(y - side)}h{n(2 * side)}v{n(2 * side)}h{n(-2 * side)}Z"
        return f'<path d="{box}" class="g-hidden"/>'
    if kind == "frame":
        tip = (
            f"M{n(x - half)} {n(y - half * 0.7)}h{n(half * 1.3)}L{n(x + half)} {n(y)}l{n(half * -0.7)} {n(half * 0.7)}"
        )
        return f'<path d="{tip}h{n(half * -1.3)}Z" class="g-frame"/>'
    if kind == "space":
        return f'<path d="M{n(x)} {n(y - half)}v{n(2 * half)}" class="g-space"/>'
    if kind in ("true_fault", "hidden_fault"):
        css = "g-true" if kind == "true_fault" else "g-hidden"
        right, left = f"L{n(x + half)} {n(y)}", f"L{n(x - half)} {n(y)}"
        return f'<path d="M{n(x)} {n(y - half)}{right}L{n(x)} {n(y + half)}{left}Z" class="{css}"/>'
    if kind == "memory":
        return f'<circle cx="{n(x)}" cy="{n(y)}" r="{n(half * 0.75)}" class="g-memory"/>'
    if kind == "io":
        return f'<circle cx="{n(x)}" cy="{n(y)}" r="{n(half * 0.8)}" class="g-io"/>'
    if kind == "right":
        down, up = f"l{n(half * 0.7)} {n(half * 0.7)}", f"l{n(half * 1.3)} {n(-half * 1.5)}"
        return f'<path d="M{n(x - half)} {n(y)}{down}{up}" class="g-right"/>'
    arm = half * 0.8
    a, b, c, d = n(x - arm), n(y - arm), n(x + arm), n(y + arm)
    return f'<path d="M{a} {b}L{c} {d}M{c} {b}L{a} {d}" class="g-error"/>'


def _triangle(x: float, y: float, half: float) -> str:
    top, tip = y - half * 0.75, y + half * 0.9
    return f"M{number(x - half)} {number(top)}L{number(x + half)} {number(top)}L{number(x)} {number(tip)}Z"


def inline_glyph(kind: str) -> str:
    """A glyph in a table cell; the word for it is beside it for those who cannot see it."""
    name = "right" if kind == "right" else GLYPH_NAMES.get(kind, kind)
    return (
        f'<svg class="vl-glyph" viewBox="0 0 16 16" aria-hidden="true">{glyph(kind, 8, 8, 6)}</svg>'
        f'<span class="vl-sr">{escape(name)}</span>'
    )
