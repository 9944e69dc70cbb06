"""Rows, ribbons and callouts of ``translation`` as SVG, and the cache map below them."""

from __future__ import annotations

from vilab.view import cache_map
from vilab.view.frame import WIDTH, Stage
from vilab.view.svg import number, rect, text
from vilab.view.translation import Pair, TranslationScene
from vilab.view.words import escape, hex8, spaced

HEIGHT = 484
_TOP, _PITCH, _ROW, _GAP = 50.0, 24.0, 22.0, 14.0
_LEFT_END, _RIGHT, _RIGHT_END = 352.0, 512.0, 800.0
_MONO_ROOM = 24
"""Characters of 13 units that fit between a row's text and its end."""


def draw(picture: TranslationScene) -> Stage:
    """The scene as SVG; its rows can be walked with the cursor."""
    parts = [_heads()]
    y = _TOP
    fragment = None
    labelled: set[int] = set()
    for index, pair in enumerate(picture.pairs):
        if fragment is not None and pair.fragment != fragment:
            y += _GAP
        fragment = pair.fragment
        name = ""
        if pair.fragment not in labelled and not pair.to_vmm and not pair.aside:
            labelled.add(pair.fragment)
            name = f"fragment {picture.letters[pair.fragment]}"
        parts.append(_pair(pair, index, y, name))
        y += _PITCH * max(1, len(pair.lines))
    parts.append(_hidden(picture, y))
    if not picture.pairs:
        parts.append(_nothing_yet(picture))
    parts.append(cache_map.draw(picture.state, picture.current, picture.letters))
    return Stage(
        label=f"Guest code beside its translation, step {picture.position} of {picture.total}. {picture.describe()}",
        height=HEIGHT,
        over="".join(parts),
        rows=len(picture.pairs),
    )


def _heads() -> str:
    return (
        text(0, 16, "Guest code", "l b guest")
        + text(0, 36, "what the kernel's author wrote", "soft")
        + text(520, 16, "Translated code", "l b vmm")
        + text(520, 36, "what the CPU runs, at ring 1", "soft")
        + text(WIDTH, 16, "Callouts", "l b vmm end")
        + text(WIDTH, 36, "leave the cache", "soft end")
    )


def _pair(pair: Pair, index: int, y: float, name: str) -> str:
    lines = max(1, len(pair.lines))
    height = _PITCH * (lines - 1) + _ROW
    wash = f"var(--vl-{pair.hue}-wash)"
    parts = [_ribbon(y, height if pair.lines else 2, wash), rect(-6, y, _LEFT_END + 6, _ROW, wash)]
    bold = " b" if pair.current else ""
    parts.append(text(2, y + 16, hex8(pair.gva), "ms soft"))
    parts.append(text(84, y + 16, spaced(pair.code), "ms soft"))
    parts.append(text(190, y + 16, _fit(pair.text, 20), f"m{bold}"))
    for at, line in enumerate(pair.lines):
        top = y + _PITCH * at
        soft = " soft" if line.soft else ""
        parts.append(rect(_RIGHT, top, _RIGHT_END - _RIGHT, _ROW, wash))
        if line.address is not None:
            parts.append(text(520, top + 16, hex8(line.address), "ms soft"))
        parts.append(text(602, top + 16, _fit(line.text, _MONO_ROOM), f"m{bold}{soft}"))
    middle = y + (16 if lines == 1 else 16 + (height - _ROW) / 3)
    weight = "" if pair.hue == "host" else " b"
    parts.append(text((_LEFT_END + _RIGHT) / 2, middle, pair.label, f"mid {pair.hue}{weight}"))
    if pair.to_vmm:
        parts.append(_to_vmm(y))
    elif pair.aside or name:
        hue = pair.hue if pair.aside else "vmm"
        parts.append(text(_RIGHT_END + 12, y + 16, pair.aside or name, hue))
    if pair.current:
        right = WIDTH if pair.to_vmm else _RIGHT_END
        parts.append(_box(-6, y - 1, _LEFT_END + 6, _ROW + 2) + _box(_RIGHT, y - 1, right - _RIGHT, height + 2))
    else:
        parts.append(f'<g class="vl-cursor">{_box(-6, y - 1, _LEFT_END + 6, _ROW + 2)}</g>')
    there = "; ".join(line.text for line in pair.lines) or "nothing"
    label = f"{hex8(pair.gva)} {pair.text}: {pair.label}. In the cache: {there}."
    return f'<g data-row="{index}" aria-label="{escape(label)}">{"".join(parts)}</g>'


def _ribbon(y: float, height: float, wash: str) -> str:
    middle = number((_LEFT_END + _RIGHT) / 2)
    left, right = number(_LEFT_END), number(_RIGHT)
    top, low, far = number(y), number(y + _ROW), number(y + height)
    path = f"M{left} {top}H{right}V{far}C{middle} {far} {middle} {low} {left} {low}Z"
    return f'<path d="{path}" class="ribbon" style="fill:{wash}"/>'


def _to_vmm(y: float) -> str:
    shape = f"M{number(_RIGHT_END)} {number(y)}H898L{WIDTH} {number(y + 11)}L898 {number(y + 22)}H{number(_RIGHT_END)}Z"
    return f'<path d="{shape}" class="to-vmm"/>' + text(824, y + 16, "to VMM", "b on-vmm")


def _box(x: float, y: float, width: float, height: float) -> str:
    box = f'x="{number(x)}" y="{number(y)}" width="{number(width)}" height="{number(height)}"'
    return f'<rect {box} class="current"/>'


def _hidden(picture: TranslationScene, y: float) -> str:
    if not picture.hidden_above and not picture.hidden_below:
        return ""
    words = " and ".join(
        f"{count} more {where}"
        for count, where in ((picture.hidden_above, "above"), (picture.hidden_below, "below"))
        if count
    )
    return text(190, y + 14, f"… {words}", "soft")


def _nothing_yet(picture: TranslationScene) -> str:
    if picture.position:
        return text(WIDTH / 2, 160, "Nothing has been translated yet: ring 3 runs directly.", "mid l")
    if not picture.total:
        return text(WIDTH / 2, 160, "There is nothing to step through.", "mid l b")
    where = f"Press Step to execute the first instruction at {hex8(picture.first_eip)}."
    return text(WIDTH / 2, 160, "Nothing has run yet.", "mid l b") + text(WIDTH / 2, 186, where, "mid")


def _fit(words: str, most: int) -> str:
    return words if len(words) <= most else words[: most - 1] + "…"
