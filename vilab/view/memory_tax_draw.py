"""The price of memory, drawn: the formula, each machine's numbers in it, and what follows from them.

::

               S                     P (f + k (1 - f)) is W + k (P - W): a page in use costs 1, an idle one k
    rho = ----------------
          P (f + k (1 - f))

    vm1           ┌┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┐            dashed: what it holds
    2,560 shares  |██|░░░░░░░░░|     ┊  171 → 101 MB      solid: in use, light: idle, at its target
                      <──────────────
                  now 2,560 / (171 (0.05 + 4 · 0.95)) = 3.9    gives first
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from vilab.memory.client import MB_PAGES
from vilab.memory.shares import Claim, idle_page_price, next_to_give, rho
from vilab.memory.targets import allocation_targets
from vilab.view.frame import WIDTH
from vilab.view.memory_chart_draw import mb
from vilab.view.svg import number, text
from vilab.view.words import NBSP, escape, grouped, plain

LEFT, RIGHT = 132.0, 712.0
FORMULA_HEIGHT, _PITCH, _BAR = 80.0, 114.0, 24.0
SAME_MB = 0.5


class Priced(msgspec.Struct, frozen=True):
    """What everybody holds, has been promised and uses; ``available_pages`` are there for all of them."""

    claims: tuple[Claim, ...]
    held_pages: tuple[int, ...]
    available_pages: int
    tax: float

    @property
    def k(self) -> float:
        return idle_page_price(self.tax)

    @property
    def targets(self) -> tuple[int, ...]:
        return allocation_targets(self.claims, self.available_pages, self.tax)

    @property
    def gives_first(self) -> int | None:
        """Min-funding revocation: who has the lowest rho now."""
        return next_to_give(self.claims, self.held_pages, self.tax)

    def rho_mb(self, at: int, pages: int) -> float:
        """Adjusted shares per megabyte of one claim if it held ``pages``."""
        return rho(self.claims[at], pages, self.k) * MB_PAGES


def height(rows: int) -> float:
    return FORMULA_HEIGHT + _PITCH * rows + 4


def draw(priced: Priced, scale_pages: int) -> str:
    """The whole board. ``scale_pages``: as many as the bars' space stands for."""
    unit = (RIGHT - LEFT) / scale_pages
    rows = [_row(priced, at, FORMULA_HEIGHT + _PITCH * at, unit) for at in range(len(priced.claims))]
    return formula(priced) + "".join(rows)


def formula(priced: Priced) -> str:
    """With the tax in it: it is the same for everybody."""
    k = f"{priced.k:.3g}"
    bar = f'<path d="M{number(LEFT + 46)} 33H{number(LEFT + 226)}" class="mc-fraction"/>'
    return (
        text(LEFT, 40, "ρ  =", "xl b") + text(LEFT + 136, 24, "S", "xl b mid") + bar
        + text(LEFT + 136, 56, "P (f + k (1 − f))", "xl b mid")
        + text(LEFT + 264, 22, f"k = 1 / (1 − {priced.tax:.2f}) = {k}", "l b vmm")
        + text(LEFT + 264, 42, f"what one idle page costs, in pages in use: tax {priced.tax * 100:.0f}{NBSP}%", "soft")
        + text(LEFT + 264, 62, "S shares, P MB held, f = W / P the part in use", "soft")
    )  # fmt: skip


def _row(priced: Priced, at: int, top: float, unit: float) -> str:
    claim, held, target = priced.claims[at], priced.held_pages[at], priced.targets[at]
    y = top + 20
    used = min(claim.active_pages, target)
    marks = [
        text(0, y + 8, claim.name, "l b"), text(0, y + 27, f"{grouped(claim.shares)} shares", "soft"),
        text(0, y + 46, f"uses {mb(claim.active_pages)} MB", "soft"),
        _box(LEFT, y, unit * used, "fill:var(--vl-guest-fill)", "used"),
        _box(LEFT + unit * used, y, unit * (target - used),
             "fill:var(--vl-guest-wash);stroke:var(--vl-guest-ink);stroke-width:1", "idle"),
        _box(LEFT - 0.5, y - 4.5, unit * held + 1, "fill:none;stroke:var(--vl-text-soft);stroke-width:1.5;"
             "stroke-dasharray:5 3", "held", _BAR + 9),
        _within(LEFT, y, unit * used, "in use", "guest-on"),
        _within(LEFT + unit * used, y, unit * (target - used), "idle", "guest-ink"),
        _arrow(LEFT + unit * held, LEFT + unit * target, y + _BAR + 13),
        _numbers(held, target, y + _BAR - 6),
        text(LEFT, y + _BAR + 34, substituted(priced, at, held, "now"), "tab"),
    ]  # fmt: skip
    if priced.gives_first == at and len(priced.claims) > 1 and not settled(priced):
        marks.append(text(WIDTH, y + _BAR + 34, "◂ lowest: gives first", "end b vmm"))
    marks.append(text(LEFT, y + _BAR + 55, substituted(priced, at, target, "target"), "soft tab"))
    words = plain(f"{claim.name}: {substituted(priced, at, held, 'now')}; {substituted(priced, at, target, 'target')}")
    return f'<g aria-label="{escape(words)}">{"".join(marks)}</g>'


def settled(priced: Priced) -> bool:
    """Everybody holds about what it should."""
    pairs = zip(priced.held_pages, priced.targets, strict=True)
    return all(abs(held - target) < SAME_MB * MB_PAGES for held, target in pairs)


def substituted(priced: Priced, at: int, pages: int, when: str) -> str:
    """``now: ρ = 2,560 / (171.0 × (0.05 + 4 × 0.95)) = 3.87``"""
    claim = priced.claims[at]
    if pages <= 0:
        return f"{when}: nothing: ρ is not defined"
    f = min(1.0, claim.active_pages / pages)
    k = f"{priced.k:.3g}"
    return (
        f"{when}: ρ = {grouped(claim.shares)} / ({mb(pages)} × ({f:.2f} + {k} × {1 - f:.2f})) = "
        f"{priced.rho_mb(at, pages):.2f}"
    )


def _box(x: float, y: float, width: float, style: str, part: str, high: float = _BAR) -> str:
    if width <= 0:
        return ""
    size = f'width="{number(width)}" height="{number(high)}"'
    return f'<rect x="{number(x)}" y="{number(y)}" {size} data-part="{part}" style="{style}"/>'


def _within(x: float, y: float, width: float, words: str, ink: str) -> str:
    if width < 9 * len(words) + 12:
        return ""
    return text(x + 8, y + 17, words, "b", f'style="fill:var(--vl-{ink})"')


def _arrow(start: float, end: float, y: float) -> str:
    """What has to move: from what is held to the target."""
    if abs(end - start) < 10:
        return ""
    way = 1 if end > start else -1
    head = (
        f"M{number(end - 8 * way)} {number(y - 5)}L{number(end)} {number(y)}L{number(end - 8 * way)} {number(y + 5)}Z"
    )
    return (
        f'<path d="M{number(start)} {number(y)}H{number(end - 7 * way)}" class="mc-move"/>'
        f'<path d="{head}" class="mc-move-head"/>'
    )


def _numbers(held: int, target: int, y: float) -> str:
    """``171 → 101 MB``, at the right."""
    whole = max(held, target) >= 100 * MB_PAGES
    write = (lambda pages: f"{pages / MB_PAGES:.0f}") if whole else mb
    words = f"{write(held)} → {write(target)} MB" if write(held) != write(target) else f"{write(target)} MB"
    return text(WIDTH, y, words, "xl b end tab")


def say(priced: Priced) -> str:
    """Who gets how much, and why; two sentences."""
    k = f"**k{NBSP}={NBSP}{priced.k:.3g}**"
    who = ", ".join(
        f"{claim.name} {mb(target)}{NBSP}MB" for claim, target in zip(priced.claims, priced.targets, strict=True)
    )
    price = f"Tax {priced.tax * 100:.0f}{NBSP}%: an idle page costs as much as {k} pages in use." if priced.tax else (
        "Without a tax an idle page costs no more than one in use: only shares count."
    )  # fmt: skip
    giver = priced.gives_first
    if giver is None or settled(priced):
        return f"{price} Targets: {who}. Everybody holds about that."
    return f"{price} Targets: {who}. Lowest ρ now: **{priced.claims[giver].name}**, which gives the next page."


def scale(priceds: Sequence[Priced]) -> int:
    """One scale for all of them."""
    return max(max(claim.max_pages for claim in each.claims) for each in priceds)
