"""Panels, cards and notices as HTML. Every text from a run is escaped on its way (``words.html``)."""

from __future__ import annotations

from vilab.view.frame import Cell, Panel, Row
from vilab.view.predict import Card
from vilab.view.svg import inline_glyph
from vilab.view.words import html, plain


def panels(made: tuple[Panel, ...]) -> str:
    """State on the left (5 parts), log on the right (7 parts)."""
    return "".join(_panel(panel, index) for index, panel in enumerate(made))


def _panel(panel: Panel, index: int) -> str:
    head = "".join(_cell(cell, "th") for cell in panel.head)
    body = "".join(_row(row, f"{index}.{at}") for at, row in enumerate(panel.rows))
    if not panel.rows and panel.empty:
        body = f'<tr><td colspan="{len(panel.head)}" class="soft">{html(panel.empty)}</td></tr>'
    scroll = ' tabindex="-1"' if panel.kind == "log" else ""
    return (
        f'<div class="vl-panel" data-kind="{panel.kind}"><h3>{html(panel.title)}</h3>'
        f'<div class="vl-scroll"{scroll}><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div></div>'
    )


def _row(row: Row, key: str) -> str:
    attributes = f' class="{row.mark}"' if row.mark else ""
    if row.goto is not None:
        attributes += f' tabindex="0" data-goto="{row.goto}" data-key="{key}" aria-label="{_row_label(row)}"'
    return f"<tr{attributes}>{''.join(_cell(cell, 'td') for cell in row.cells)}</tr>"


def _row_label(row: Row) -> str:
    return html(plain(", ".join(cell.text or cell.glyph for cell in row.cells if cell.text or cell.glyph)))


def _cell(cell: Cell, tag: str) -> str:
    css = f' class="{cell.css}"' if cell.css else ""
    inside = inline_glyph(cell.glyph) if cell.glyph else ""
    title = f' title="{html(cell.text)}"' if "clip" in cell.css else ""
    return f"<{tag}{css}{title}>{inside}{html(cell.text)}</{tag}>"


def card(asked: Card, name: str) -> str:
    """Before the reveal every option can be chosen; afterwards the same card, same size, says which was right."""
    options = "".join(_option(asked, index, name) for index in range(len(asked.options)))
    foot = html(asked.why) if asked.revealed else "Guessing is free."
    css = "" if asked.revealed else ' class="soft"'
    verdict = ""
    if asked.revealed:
        verdict = "Right." if asked.chosen == asked.right else "Not so."
        verdict = f'<span class="vl-sr">{verdict} </span>'
    return (
        f'<div class="vl-card" role="group" aria-label="Prediction"><h4>{html(asked.question)}</h4>'
        f'<div role="radiogroup" aria-label="Answers">{options}</div>'
        f'<div class="vl-foot"><span{css}>{verdict}{foot}</span><span class="vl-here"></span></div></div>'
    )


def _option(asked: Card, index: int, name: str) -> str:
    chosen = asked.chosen == index
    css, end = "", f"<kbd>{index + 1}</kbd>"
    if asked.revealed and index == asked.right:
        css, end = " right", f'<span class="verdict c-shared">✓ {"right" if chosen else "this"}</span>'
    elif asked.revealed and chosen:
        css, end = " mine", '<span class="verdict c-fault">✕ your answer</span>'
    closed = ' aria-disabled="true"' if asked.revealed else ""
    reach = "0" if chosen or (asked.chosen is None and index == 0) else "-1"
    return (
        f'<div class="vl-opt{css}" role="radio" aria-checked="{str(chosen).lower()}" tabindex="{reach}" '
        f'data-choice="{index}"{closed}><span class="vl-dot"></span>'
        f"<span>{html(asked.options[index])}</span>{end}</div>"
    )


def notice(title: str, lines: tuple[str, ...], foot: str, copy: str = "") -> str:
    """An error: a bar in fault ink, what did not happen, why, where to look."""
    button = f'<button class="vl-btn" data-copy="{html(copy)}">Copy details</button>' if copy else ""
    rest = "".join(f"<p{' class=soft' if index else ''}>{html(words)}</p>" for index, words in enumerate(lines))
    return (
        f'<div class="vl-err" role="alert"><p class="c-fault"><b>✕ {html(title)}</b></p>{rest}'
        f'<div class="vl-foot"><span class="soft">{html(foot)}</span>{button}</div></div>'
    )
