"""The picture of binary translation: what the kernel's author wrote, what the CPU runs, and how they hang together.

::

    Guest code                              Translated code                  Callouts
    c0104f21  fa        cli       in cache    fd401005  mov ss:[vIF],0
    c0104f22  8b 44 ..  mov eax   identical   fd40100d  mov eax,[esp+8]
    c0104f33  0f 22 d8  mov cr3   callout     fd401022  int3                 | to VMM >
    c0104f3c  74 0e     je        chained     fd40102d  je fd4010e7          jumps to C

The fragment that runs stands with its neighbour, at most 12 rows a side; a longer pair scrolls by rows. Below it, the
whole cache (``cache_map``).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from vilab.events import UnitTranslated
from vilab.view.cache import CacheState, Link
from vilab.view.words import instruction, plain
from vilab.vmm.records import StepRecord
from vilab.x86.decode import disassemble
from vilab.x86.text import instruction_text

MOST_ROWS = 12
MOST_LINES = 4
"""Lines of one instruction's translation that are written out; the rest is counted."""

LETTERS = "ABCDEFGH"
INDIRECT = ("ret", "iret", "jmp", "call")


class TcLine(msgspec.Struct, frozen=True):
    """One instruction in the cache, or ``… 5 more``. ``soft`` for what is not run."""

    address: int | None
    text: str
    soft: bool = False


class Pair(msgspec.Struct, frozen=True):
    """One guest instruction and its translation. ``kind`` as in ``UnitTranslated``; ``label`` says it in words."""

    gva: int
    code: bytes
    text: str
    kind: str
    label: str
    hue: str
    lines: tuple[TcLine, ...]
    tc_bytes: int
    current: bool
    fragment: int
    aside: str = ""
    to_vmm: bool = False


class TranslationScene(msgspec.Struct, frozen=True):
    """Rows on screen, letters of fragments by their address, and the cache below."""

    position: int
    total: int
    pairs: tuple[Pair, ...]
    letters: dict[int, str]
    current: int | None
    state: CacheState
    say: str
    first_eip: int
    hidden_above: int = 0
    hidden_below: int = 0

    def describe(self) -> str:
        """The text twin, without marks."""
        return plain(self.say)


def scene(records: Sequence[StepRecord], steps: int, state: CacheState, say: str, first_eip: int) -> TranslationScene:
    """The picture after ``steps`` steps."""
    record = records[steps - 1] if steps else None
    current, shown = _fragments(records, steps, state)
    letters = {start: LETTERS[index] for index, start in enumerate(shown)}
    for start in shown:
        for link in state.links_of(start):
            new = link.how != "fall_through" and link.target not in letters and link.target in state.fragments
            if new and len(letters) < len(LETTERS):
                letters[link.target] = LETTERS[len(letters)]
    pairs = [pair for start in shown for pair in _pairs(start, state, letters, record if start == current else None)]
    pairs, above, below = _crop(pairs)
    return TranslationScene(steps, len(records), tuple(pairs), letters, current, state, say, first_eip, above, below)


def _fragments(records: Sequence[StepRecord], steps: int, state: CacheState) -> tuple[int | None, list[int]]:
    """The fragment that runs (``None`` for code that runs directly), and those on screen, in the guest's order."""
    for step in range(steps - 1, max(-1, steps - 400), -1):
        at = state.holding(records[step].tc_address)
        if at is not None:
            return (at if step == steps - 1 else None), _with_neighbour(at, state)
    newest = max(state.fragments.values(), key=lambda unit: unit.at_ns, default=None)
    return None, [] if newest is None else _with_neighbour(newest.tc_address, state)


def _with_neighbour(start: int, state: CacheState) -> list[int]:
    """The fragment and the one before it in the guest's code, or else the one behind, if both fit."""
    unit = state.fragments[start]
    end = unit.eip + len(unit.guest_code)
    before = next((at for at, other in state.fragments.items() if other.eip + len(other.guest_code) == unit.eip), None)
    after = next((at for at, other in state.fragments.items() if other.eip == end), None)
    for first, second in ((before, start), (start, after)):
        if first is None or second is None or first == second:
            continue
        rows = sum(
            max(1, len(_tc_lines(row, at, state))) for at in (first, second) for row in state.fragments[at].lines
        )
        if rows <= MOST_ROWS:
            return [first, second]
    return [start]


def _pairs(start: int, state: CacheState, letters: dict[int, str], record: StepRecord | None) -> list[Pair]:
    unit = state.fragments[start]
    links = state.links_of(start)
    pairs = []
    for row in unit.lines:
        gva, size, kind, tc, tc_size = row
        code = unit.guest_code[gva - unit.eip : gva - unit.eip + size]
        mnemonic, operands = instruction_text(code, gva)
        lines = _tc_lines(row, start, state)
        last = row == unit.lines[-1]
        mine = [link for link in links if last or tc <= link.source < tc + max(tc_size, 1)]
        label, hue, aside = _in_words(kind, mnemonic, operands, len(lines), mine if last else [], letters)
        pairs.append(
            Pair(
                gva,
                code,
                instruction(mnemonic, operands),
                kind,
                label,
                hue,
                lines[:MOST_LINES],
                tc_size,
                record is not None and record.eip == gva,
                start,
                aside,
                kind == "callout",
            )
        )
    return pairs


def _in_words(
    kind: str, mnemonic: str, operands: str, lines: int, links: Sequence[Link], letters: dict[int, str]
) -> tuple[str, str, str]:
    """(on the ribbon, its hue, beside the translation)"""
    if kind == "ident":
        return "identical", "host", ""
    if kind == "callout":
        return "callout", "vmm", ""
    many = f": 1 to {lines}" if lines > 1 else ""
    if kind == "in_cache":
        return f"in cache{many}", "vmm", ""
    if links:
        jump = next((link for link in links if link.how != "fall_through"), None)
        if jump is None:
            return "chained", "guest", "falls through"
        letter = letters.get(jump.target)
        return "chained", "guest", f"jumps to {letter}" if letter else f"jumps to {jump.target:08x}"
    if not lines:
        return "left out", "guest", "falls through"
    if mnemonic.startswith(INDIRECT) and not operands.startswith("0x"):
        return f"in cache{many}", "vmm", "looks up"
    return "not chained yet", "vmm", "to the VMM"


def _tc_lines(row: tuple[int, int, str, int, int], start: int, state: CacheState) -> tuple[TcLine, ...]:
    """The translation of one line as it stands in the cache now: exits that were chained read as they were patched,
    and a fragment that took the place of an exit hides it."""
    unit: UnitTranslated = state.fragments[start]
    _, _, kind, tc, size = row
    size = max(0, min(size, state.end_of(start) - tc))
    code = unit.tc_code[tc - start : tc - start + size]
    lines = []
    for there in disassemble(code, tc):
        link = state.links.get(there.address)
        if link is not None and link.source != link.target:
            verb = there.mnemonic if there.mnemonic.startswith("j") else "jmp"
            lines.append(TcLine(there.address, f"{verb} {link.target:08x}"))
        elif there.mnemonic == "nop" and kind == "control":
            continue  # room for the jump that an exit becomes
        else:
            lines.append(
                TcLine(
                    there.address,
                    instruction(there.mnemonic, there.operands),
                    kind == "control" and there.mnemonic == "int3",
                )
            )
    if len(lines) > MOST_LINES:
        lines = [*lines[: MOST_LINES - 1], TcLine(None, f"… {len(lines) - MOST_LINES + 1} more", True)]
    return tuple(lines)


def _crop(pairs: list[Pair]) -> tuple[list[Pair], int, int]:
    """At most 12 rows a side, with the current one among them."""

    def rows(of: Sequence[Pair]) -> int:
        return sum(max(1, len(pair.lines)) for pair in of)

    first, last = 0, len(pairs)
    current = next((index for index, pair in enumerate(pairs) if pair.current), 0)
    while rows(pairs[first:last]) > MOST_ROWS:
        if last - 1 > current and last - current >= current - first:
            last -= 1
        elif first < current:
            first += 1
        else:
            last -= 1
    return pairs[first:last], first, len(pairs) - last
