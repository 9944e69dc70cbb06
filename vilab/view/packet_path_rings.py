"""Two rings of descriptors at one moment: whose each is, and where the card stands.

::

    send ring      [ ours ][ ours ][ card ][ ours ] ...       card: its OWN bit is 1
                                      ^ the card's next
    receive ring   [ card ][ card ][ ours ][ card ] ...       ours: 0, the driver's

A descriptor that has changed hands in the step is filled, and says what its bit was: 0 → 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from vilab.view.svg import number, rect, text

LEFT, WIDTH, GAP, ROW, BOX = 316.0, 580.0, 6.0, 56.0, 30.0


class Owner(msgspec.Struct, frozen=True):
    """One descriptor. ``card``: its OWN bit. ``frame_bytes``: of what lies in it, 0: nothing that is known."""

    card: bool
    frame_bytes: int = 0


class Rings(msgspec.Struct, frozen=True):
    """``next_sent``, ``next_filled``: the descriptor that the card looks at next. ``send_at``, ``receive_at``: where
    the rings are in memory."""

    send: tuple[Owner, ...]
    receive: tuple[Owner, ...]
    next_sent: int = 0
    next_filled: int = 0
    send_at: int = 0
    receive_at: int = 0


def changes(before: Rings, after: Rings) -> list[tuple[str, int, bool]]:
    """(``send`` or ``receive``, number, the card's now) of each that has changed hands."""
    found = []
    for name in ("send", "receive"):
        pairs = zip(getattr(before, name), getattr(after, name), strict=True)
        found += [(name, at, now.card) for at, (was, now) in enumerate(pairs) if was.card != now.card]
    return found


def draw_rings(before: Rings, now: Rings, top: float) -> str:
    """``before``: a step ago."""
    parts = []
    rows = (("send", "send ring", now.next_sent), ("receive", "receive ring", now.next_filled))
    for row, (name, words, following) in enumerate(rows):
        y = top + ROW * row
        parts.append(text(16, y + 20, words, "b guest"))
        parts.append(text(124, y + 20, "OWN bits, before → now", "s soft") if row == 0 else "")
        parts.append(text(LEFT - 12, y + 45, "▲ the card looks here next", "s end soft") if row == 0 else "")
        parts.append(_row(getattr(before, name), getattr(now, name), following, y))
    return "".join(parts)


def _row(before: Sequence[Owner], now: Sequence[Owner], following: int, y: float) -> str:
    pitch = WIDTH / max(1, len(now))
    parts = []
    for at, (was, owner) in enumerate(zip(before, now, strict=True)):
        x, wide = LEFT + pitch * at, pitch - GAP
        changed = was.card != owner.card
        fill = "var(--vl-vmm-fill)" if changed else "var(--vl-host-wash)" if owner.card else "var(--vl-guest-wash)"
        edge = "var(--vl-vmm-ink)" if changed else "var(--vl-host-ink)" if owner.card else "var(--vl-guest-ink)"
        parts.append(rect(x, y, wide, BOX, fill, f'stroke="{edge}" stroke-width="1"'))
        words = "1 card" if owner.card else "0 ours"
        words = f"{int(was.card)} → {int(owner.card)}" if changed else words
        css = "mid b on-vmm" if changed else "mid host" if owner.card else "mid guest"
        parts.append(text(x + wide / 2, y + 20, words, css))
        if owner.frame_bytes:
            parts.append(text(x + wide / 2, y + 45, f"{owner.frame_bytes} B", "s mid soft"))
        if at == following:
            tip = f"M{number(x + 8)} {number(y + BOX + 8)}l-5 8h10Z"
            parts.append(f'<path d="{tip}" style="fill:var(--vl-host-ink)"/>')
    return "".join(parts)
