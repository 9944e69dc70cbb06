"""What lesson 4 looks at: the VMCB of a run, and one address on its way through both page tables.

::

    gva ──> guest directory ──> guest table ──> gpa ──> nested directory ──> nested table ──> mpa
               |                   |
               each lies at a gpa: a nested walk of its own comes first

With two levels on both sides the longest way reads 2 * (2 + 1) + 2 = 8 entries, where one table needs 2; with four
levels it is 4 * (4 + 1) + 4 = 24. Source: AMD APM volume 2, section 15.25.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from vilab.addresses import PAGE_OFFSET_MASK
from vilab.course.runs import Run
from vilab.errors import AdminError
from vilab.events import VmExit
from vilab.vmm import vmcb
from vilab.vmm.engine_svm import SvmEngine
from vilab.x86 import paging as pg


class WalkStep(msgspec.Struct, frozen=True):
    """One entry that is read. ``side``: ``guest`` or ``nested``; ``mpa`` where it lies; ``entry`` what it says."""

    side: str
    what: str
    mpa: int
    entry: int

    def __str__(self) -> str:
        indent = "" if self.side == "guest" else "      "
        return f"{indent}{self.side} {self.what} at mpa {self.mpa:08x} says {self.entry:08x}"


def svm_engine(run: Run) -> SvmEngine:
    if not isinstance(run.vm.engine, SvmEngine):
        raise AdminError(f"This run is under {run.engine}, and only svm has a VMCB.")
    return run.vm.engine


def vmcb_text(run: Run, names: Sequence[str] = ()) -> str:
    """The VMCB as it is at the machine's position: all fields, or those whose names are given."""
    values = svm_engine(run).read_vmcb()
    lines = vmcb.render(values).splitlines()
    if not names:
        return "\n".join(lines)
    wanted = {f"{vmcb.FIELD[name].offset:03x}h" for name in names}
    return "\n".join(line for line in lines if line.split()[0] in wanted)


def nested_walk(run: Run, gva: int) -> list[WalkStep]:
    """Every entry that the processor reads for one access, in order; pages of 4 KB.

    Raises ``AdminError`` where either side has no entry.
    """
    engine = svm_engine(run)
    steps: list[WalkStep] = []
    directory = engine.vcpu.cr3 & pg.FRAME_MASK
    pde = _guest_entry(engine, steps, "directory entry", directory + 4 * pg.directory_index(gva), gva)
    if pde & pg.LARGE:
        _nested(engine, steps, pde & pg.LARGE_FRAME_MASK | gva & (pg.LARGE_BYTES - 1))
        return steps
    pte = _guest_entry(engine, steps, "table entry", (pde & pg.FRAME_MASK) + 4 * pg.table_index(gva), gva)
    _nested(engine, steps, pte & pg.FRAME_MASK | gva & PAGE_OFFSET_MASK)
    return steps


def _guest_entry(engine: SvmEngine, steps: list[WalkStep], what: str, gpa: int, gva: int) -> int:
    mpa = _nested(engine, steps, gpa)
    entry = _word(engine, mpa)
    steps.append(WalkStep("guest", what, mpa, entry))
    if not entry & pg.PRESENT:
        raise AdminError(f"The guest's own tables do not map {gva:08x}.")
    return entry


def _nested(engine: SvmEngine, steps: list[WalkStep], gpa: int) -> int:
    """gpa -> mpa, with the two entries that are read for it."""
    at = (engine.nested.root_mpn << 12) + 4 * pg.directory_index(gpa)
    directory = _word(engine, at)
    steps.append(WalkStep("nested", f"directory entry for gpa {gpa:08x}", at, directory))
    at = (directory & pg.FRAME_MASK) + 4 * pg.table_index(gpa)
    entry = _word(engine, at) if directory & pg.PRESENT else 0
    if not entry & pg.PRESENT:
        raise AdminError(f"The nested tables do not map gpa {gpa:08x} yet: the access would exit with code 400h.")
    steps.append(WalkStep("nested", f"table entry for gpa {gpa:08x}", at, entry))
    return entry & pg.FRAME_MASK | gpa & PAGE_OFFSET_MASK


def _word(engine: SvmEngine, mpa: int) -> int:
    return int(engine.vm.machine_memory.words[mpa >> 2])


def walk_text(run: Run, gva: int) -> str:
    """The walk, an entry a line, and how many there were."""
    steps = nested_walk(run, gva)
    mpa = steps[-1].entry & pg.FRAME_MASK | gva & PAGE_OFFSET_MASK
    lines = [str(step) for step in steps]
    return "\n".join((*lines, f"gva {gva:08x} is mpa {mpa:08x}: {len(steps)} entries were read"))


def exits_text(run: Run) -> str:
    """Every #VMEXIT of the run, a line each."""
    lines = [
        f"{event.eip:08x}  exit {event.exit_code:3x}  {event.reason:<6} info1 {event.info1:x}, info2 {event.info2:x}"
        for record in run.records
        for event in record.events
        if isinstance(event, VmExit)
    ]
    return "\n".join(lines) or "No #VMEXIT at all."
