"""What a translator has done in a run, in words and numbers: for printing in lesson 3."""

from __future__ import annotations

import msgspec

from vilab.course.runs import Figures, Run
from vilab.events import FragmentChained, UnitTranslated
from vilab.vmm.records import Steppable
from vilab.x86.decode import disassemble


class Summary(msgspec.Struct, frozen=True):
    """Counted over a whole run. ``retired``: guest instructions executed; ``callouts`` excludes finding the way."""

    fragments: int
    guest_instructions: int
    ident: int
    chained: int
    retired: int

    def __str__(self) -> str:
        return (
            f"{self.fragments} fragments, {self.guest_instructions} guest instructions translated, "
            f"{self.ident} of them identical; {self.chained} exits chained; {self.retired} guest instructions executed"
        )


def units(run: Steppable) -> list[UnitTranslated]:
    """Every translation of a run, in order."""
    return [event for record in run.records for event in record.events if isinstance(event, UnitTranslated)]


def summary(run: Steppable) -> Summary:
    made = units(run)
    chained = sum(isinstance(event, FragmentChained) for record in run.records for event in record.events)
    return Summary(
        len(made), sum(len(unit.lines) for unit in made), sum(_ident(unit) for unit in made), chained, run.total
    )


def _ident(unit: UnitTranslated) -> int:
    return sum(row[2] == "ident" for row in unit.lines)


def units_text(run: Steppable, most: int = 20) -> str:
    """A unit a line: where it is, how long, and what it does."""
    lines = []
    for number, unit in enumerate(units(run)[:most], 1):
        names = " ".join(i.mnemonic for i in disassemble(unit.guest_code, unit.eip))
        size = f"{len(unit.lines):2} instructions, {_ident(unit):2} identical"
        lines.append(f"{number:2}  {unit.eip:08x}  {size}:  {names}")
    return "\n".join(lines)


def unit_text(unit: UnitTranslated) -> str:
    """One unit, guest code on the left and what stands in the cache on the right."""
    lines = []
    for gva, length, kind, tc, tc_length in unit.lines:
        at, to = gva - unit.eip, tc - unit.tc_address
        guest = disassemble(unit.guest_code[at : at + length], gva)[0].text
        made = [i.text for i in disassemble(unit.tc_code[to : to + tc_length], tc)]
        rest = "" if len(made) == 1 else f" ... {len(made) - 1} more"
        lines.append(f"{gva:08x}  {guest:<18} {kind:<9} {tc:08x}  {made[0]}{rest}")
    return "\n".join(lines)


def never_translated(run: Run) -> str:
    """Instructions of the image's code that no unit holds."""
    image = run.vm.image
    start, code = next((gpa, data) for gpa, data in image.segments if gpa <= image.entry < gpa + len(data))
    seen = {row[0] for unit in units(run) for row in unit.lines}
    return "\n".join(f"{i.address:08x}  {i.text}" for i in disassemble(code, start) if i.address not in seen)


def policies(figures: dict[str, Figures]) -> str:
    """Runs that differ in one option, in columns: what the translator had to do."""
    names = ("units", "guest_instructions", "ident", "chained", "invalidated")
    rows = [["", *figures]]
    rows += [[name.replace("_", " "), *(f"{f.translation[name]:,}" for f in figures.values())] for name in names]
    rows.append(["virtual time, µs", *(f"{f.virtual_ns / 1000:,.0f}" for f in figures.values())])
    return "\n".join(row[0].ljust(20) + "".join(cell.rjust(12) for cell in row[1:]) for row in rows)


def shares(figures: Figures) -> str:
    """Of a whole run: how long units are, what part of them is copied as it is, how many exits are chained."""
    t = figures.translation
    return "\n".join((
        f"{t['units']:,} units, {t['guest_instructions']:,} guest instructions: "
        f"{t['guest_instructions'] / t['units']:.1f} a unit",
        f"{t['ident']:,} of them identical: {100 * t['ident'] / t['guest_instructions']:.0f} %",
        f"{t['chained']:,} exits chained, {t['invalidated']:,} units invalidated",
    ))  # fmt: skip
