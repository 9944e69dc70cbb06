"""The critical instructions, run one after another in every engine: who answers rightly?

::

                 should     0 of 18     5 of 18            18 of 18             18 of 18
                 give       No VMM      Trap and emulate   Binary translation   Hardware assist
    sgdt [m]     c0398000   x ffc07000  x ffc07000         v                    v
    ...
    pop ss       0068       x #GP       v trapped          v                    v

A real table. A wrong cell carries the wrong value, a right one only its mark. One step is the next row in all engines
at once; rows that have not run yet are empty. Enter on a row opens the two register states.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from vilab.view.frame import Cell, Panel, Picture, Row, Stage
from vilab.view.svg import inline_glyph
from vilab.view.timeline import timeline
from vilab.view.words import counted, escape, hex4, hex8, html, plain
from vilab.vmm.critical_run import Answer, CriticalRow
from vilab.vmm.records import GPR_NAMES, Registers
from vilab.x86 import flags

ENGINES: dict[str, tuple[str, str]] = {
    "deprivileged": ("No VMM", "ring 1, bare"),
    "trap": ("Trap and emulate", "ring 1"),
    "bt": ("Binary translation", "ring 1, translated"),
    "svm": ("Hardware assist", "ring 0, guest mode"),
    "bare": ("Bare machine", "ring 0"),
}
"""(heading, how the guest's kernel runs)"""


class CriticalCell(msgspec.Struct, frozen=True):
    """One instruction in one engine.

    value : what came: ``ffc07000``, ``IF 1``, ``#GP``.
    trapped : the VMM was asked.
    why : what it does wrong, as the rest of a sentence that begins with "it"; empty if there is no more to say.
    guest, cpu : the two truths afterwards, where they were kept.
    """

    right: bool
    value: str
    trapped: bool = False
    why: str = ""
    guest: Registers | None = None
    cpu: Registers | None = None


class CriticalResult(msgspec.Struct, frozen=True):
    """One row. ``cells`` maps the engine's name to what it gave; ``category`` heads a group of rows."""

    mnemonic: str
    text: str
    category: str
    expected: str
    cells: dict[str, CriticalCell]


def results_of(rows: Sequence[CriticalRow]) -> list[CriticalResult]:
    """The rows of ``vmm.critical_run.critical_table`` for the picture."""
    return [
        CriticalResult(
            row.instruction.name.split()[0],
            row.instruction.name,
            row.instruction.category,
            row.expected,
            {engine: _cell_of(answer, row.instruction.wrong) for engine, answer in row.answers.items()},
        )
        for row in rows
    ]


def _cell_of(answer: Answer, wrong: str) -> CriticalCell:
    why = "" if answer.right else wrong
    return CriticalCell(answer.right, answer.value, answer.way in ("trap", "exit"), why, answer.guest, answer.cpu)


class CriticalScene(msgspec.Struct, frozen=True):
    """The table after ``position`` rows have run. ``right`` counts the right answers so far, engine by engine."""

    results: tuple[CriticalResult, ...]
    engines: tuple[str, ...]
    position: int
    right: dict[str, int]
    say: str

    def describe(self) -> str:
        """The text twin, without marks."""
        return plain(self.say)


def scene(results: Sequence[CriticalResult], engines: Sequence[str], position: int) -> CriticalScene:
    """Looks at no row after ``position`` but for its name."""
    run = results[:position]
    right = {engine: sum(1 for row in run if row.cells[engine].right) for engine in engines}
    return CriticalScene(tuple(results), tuple(engines), position, right, _say(results, engines, position))


def _say(results: Sequence[CriticalResult], engines: Sequence[str], position: int) -> str:
    if not position:
        return f"**Nothing has run yet.** Press Step to run `{results[0].text}` in {counted(len(engines), 'engine')}."
    row = results[position - 1]
    if position == len(results) and "trap" in engines:
        return _sum(results)
    wrong = [engine for engine in engines if not row.cells[engine].right]
    if not wrong:
        return f"`{row.text}` gives `{row.expected}`, the right answer, in every engine."
    right = [name(engine).lower() for engine in engines if engine not in wrong]
    answers: dict[str, list[str]] = {}
    for engine in wrong:
        answers.setdefault(row.cells[engine].value, []).append(_where(engine))
    given = "; ".join(f"{_listed(where)} it gives **{value}**" for value, where in answers.items())
    words = f"`{row.text}` should give `{row.expected}`. {given[0].upper()}{given[1:]}"
    reason = next((row.cells[engine].why for engine in wrong if row.cells[engine].why), "")
    if reason:
        return f"{words}: it {reason}."
    return f"{words}; {_listed(right)} {'is' if len(right) == 1 else 'are'} right." if right else f"{words}."


def _sum(results: Sequence[CriticalResult]) -> str:
    trapped = [row for row in results if row.cells["trap"].right]
    silent = [row for row in results if not row.cells["trap"].right]
    loud = next((row for row in silent if row.mnemonic == "popf"), silent[-1] if silent else None)
    words = (
        f"Trapping repairs the **{len(trapped)} that trap** and leaves {len(silent)} that answer wrongly in silence."
    )
    if loud is None:
        return words
    return (
        f"{words} `{loud.text}` gives {loud.cells['trap'].value} where {loud.expected} is due: the kernel cannot know."
    )


def _where(engine: str) -> str:
    return "without a VMM" if engine == "deprivileged" else f"under {name(engine).lower()}"


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def name(engine: str) -> str:
    return ENGINES.get(engine, (engine, ""))[0]


def draw(picture: CriticalScene) -> Stage:
    """The scene as a table."""
    width = (100 - 28) / max(len(picture.engines), 1)
    widths = [15.0, 13.0, *[width] * len(picture.engines)]
    columns = "".join(f'<col style="width:{each:g}%"/>' for each in widths)
    heads = "".join(_head(picture, engine) for engine in picture.engines)
    groups: list[str] = []
    last = None
    for index, row in enumerate(picture.results):
        if row.category != last:
            if last is not None:
                groups.append("</tbody>")
            span = 2 + len(picture.engines)
            groups.append(f'<tbody><tr class="g"><th colspan="{span}" scope="rowgroup">{html(row.category)}</th></tr>')
            last = row.category
        groups.append(_row(picture, index, row))
    table = (
        f'<table class="vl-crit"><caption class="vl-sr">{escape(picture.describe())}</caption>'
        f'<colgroup>{columns}</colgroup><thead><tr><td></td><th scope="col">should<br/>give</th>{heads}</tr></thead>'
        f"{''.join(groups)}</tbody></table>"
    )
    return Stage(label=picture.describe(), table=table, rows=len(picture.results))


def _head(picture: CriticalScene, engine: str) -> str:
    count, run = picture.right[engine], picture.position
    title, how = ENGINES.get(engine, (engine, ""))
    verdict = "" if not run else " good" if count == run else " bad"
    so_far = len(picture.results) if run in (0, len(picture.results)) else run
    return (
        f'<th scope="col" class="eng{verdict}"><span class="big">{count if run else "–"}</span> of {so_far} right'
        f"<b>{escape(title)}</b>{escape(how)}</th>"
    )


def _row(picture: CriticalScene, index: int, row: CriticalResult) -> str:
    ran = index < picture.position
    now = index + 1 == picture.position
    cells = "".join(_cell(row.cells[engine]) if ran else '<td class="a"></td>' for engine in picture.engines)
    expected = html(row.expected) if ran else ""
    current = ' class="sel" aria-current="true"' if now else ""
    label = _say(picture.results, picture.engines, index + 1) if ran else f"{row.text}: has not run yet"
    return (
        f'<tr{current} data-row="{index}" aria-label="{escape(plain(label))}">'
        f'<th scope="row" class="mono">{html(row.text)}</th>'
        f'<td class="mono soft">{expected}</td>{cells}</tr>'
    )


def _cell(cell: CriticalCell) -> str:
    if cell.right:
        trapped = f' <span class="c-vmm">{inline_glyph("trap")} trapped</span>' if cell.trapped else ""
        return f'<td class="a">{inline_glyph("right")}{trapped}</td>'
    return f'<td class="w">{inline_glyph("error")}<span class="mono">{html(cell.value)}</span></td>'


class CriticalTrack:
    """The table as something that can be played.

    Parameters
    ----------
    results : the rows, in teaching order; rows of one category stand together.
    engines : the columns; by default those of the first row.
    """

    def __init__(self, results: Sequence[CriticalResult], question: str, engines: Sequence[str] | None = None) -> None:
        self.results = tuple(results)
        self.question = question
        self.engines = tuple(engines if engines is not None else results[0].cells)
        self._open: int | None = None

    @property
    def total(self) -> int:
        return len(self.results)

    def go(self, position: int) -> None:
        self._open = None

    def open(self, row: int) -> None:
        """Show the register states of a row that has run; the same row again closes them."""
        self._open = None if row == self._open or not 0 <= row < self.total else row

    def next_like(self, position: int, direction: int) -> int | None:
        """The next row with the same pattern of right and wrong answers."""

        def pattern(at: int) -> tuple[bool, ...]:
            return tuple(self.results[at - 1].cells[engine].right for engine in self.engines)

        at = position + direction
        while 1 <= at <= self.total:
            if position == 0 or pattern(at) == pattern(position):
                return at
            at += direction
        return None

    def scene(self, position: int) -> CriticalScene:
        return scene(self.results, self.engines, position)

    def describe(self, position: int) -> str:
        return self.scene(position).describe()

    def picture(self, position: int) -> Picture:
        made = self.scene(position)
        run = self.results[:position]
        when = "all run" if position == self.total else "nothing has run" if not position else f"{run[-1].text}"
        value = f"step {position} of {self.total}, {when}"
        opened = self._opened(position)
        return Picture(
            position, self.total, when, made.say, value, draw(made), timeline((), position, self.total), opened
        )  # fmt: skip

    def _opened(self, position: int) -> tuple[Panel, ...]:
        if self._open is None or self._open >= position:
            return ()
        row = self.results[self._open]
        kept = [engine for engine in self.engines if row.cells[engine].guest is not None]
        wrong = [engine for engine in kept if not row.cells[engine].right]
        right = [engine for engine in kept if row.cells[engine].right]
        pair = (wrong[:1] + right[:1]) if wrong and right else kept[:2]
        return _states(row, pair)


def _states(row: CriticalResult, engines: Sequence[str]) -> tuple[Panel, ...]:
    """What the guest set and what the CPU holds afterwards, engine beside engine; only what differs somewhere."""
    tables = [(engine, _values(row.cells[engine].guest), _values(row.cells[engine].cpu)) for engine in engines]
    shown = [
        label
        for label in _values(row.cells[engines[0]].guest)
        if label in ("CPL", "IF") or any(guest[label] != cpu[label] for _, guest, cpu in tables)
    ]
    head = (Cell(""), Cell("what the guest set", "c-guest"), Cell(""), Cell("what the CPU holds", "c-host"))
    panels = []
    for engine, guest, cpu in tables:
        rows = tuple(
            Row(
                (
                    Cell(label),
                    Cell(guest[label], "mono c-guest"),
                    Cell("=" if guest[label] == cpu[label] else "≠", "ne"),
                    Cell(cpu[label], "mono c-host"),
                )
            )
            for label in shown
        )
        panels.append(Panel(f"{name(engine)}: `{row.text}`", head, rows))
    return tuple(panels)


def _values(which: Registers | None) -> dict[str, str]:
    if which is None:
        return {}
    system = {
        "CPL": str(which.cpl), "IF": str(int(bool(which.eflags & flags.IF))), "EFLAGS": hex8(which.eflags),
        "CS": hex4(which.selectors[1]), "GDTR base": hex8(which.gdtr_base), "IDTR base": hex8(which.idtr_base),
        "LDTR": hex4(which.ldtr), "TR": hex4(which.tr), "CR0": hex8(which.cr0), "CR3": hex8(which.cr3),
    }  # fmt: skip
    return system | {register.upper(): hex8(value) for register, value in zip(GPR_NAMES, which.gpr, strict=True)}


def as_text(results: Sequence[CriticalResult], engines: Mapping[str, str] | Sequence[str] | None = None) -> str:
    """The whole table in columns of text."""
    columns = tuple(engines if engines is not None else results[0].cells)
    lines = [["", "should give", *(name(engine) for engine in columns)]]
    for row in results:
        cells = [
            ("right" + (", trapped" if cell.trapped else "")) if cell.right else f"WRONG {cell.value}"
            for cell in (row.cells[engine] for engine in columns)
        ]
        lines.append([row.text, row.expected, *cells])
    lines.append(["right", "", *(str(sum(row.cells[engine].right for row in results)) for engine in columns)])
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    return "\n".join(
        "  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
