"""A moment as a picture that needs neither a kernel nor JavaScript: what a stored notebook shows on a web page."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from vilab.view.frame import WIDTH, Picture
from vilab.view.svg import number
from vilab.view.words import escape, plain

_HERE = Path(__file__).parent
_TWIN_LINE, _TWIN_CHARACTERS = 22, 104


@lru_cache(maxsize=1)
def _style() -> str:
    css = "\n".join((_HERE / name).read_text(encoding="utf-8") for name in ("tokens.css", "stage.css"))
    css = re.sub(r"/\*.*?\*/", "", css, flags=re.S)
    return re.sub(
        r"\s*\n\s*", "", css.split(".vl .bqplot")[0] + css.split(".vl .bqplot .zeroLine")[-1].split("}", 1)[1]
    )


def svg(picture: Picture) -> str:
    """The stage with its text twin under it. Empty for a picture that is a table: its text twin stands alone."""
    stage = picture.stage
    if stage.table:
        return ""
    lines = _wrap(plain(picture.say))
    height = stage.height + 16 + _TWIN_LINE * len(lines)
    playhead = ""
    if stage.playhead is not None:
        x = number(stage.playhead)
        playhead = f'<path d="M{x} -6V{number(stage.playhead_height)}" class="playhead"/>'
    twin = "".join(
        f'<text x="0" y="{number(stage.height + 24 + _TWIN_LINE * at)}" class="l">{escape(words)}</text>'
        for at, words in enumerate(lines)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="vl" viewBox="-8 -8 {WIDTH + 16} {number(height + 8)}" '
        f'role="img" '
        f'aria-label="{escape(stage.label)}"><style>{_style()}</style>{stage.under}{playhead}{stage.over}{twin}</svg>'
    )


def _wrap(words: str) -> list[str]:
    lines = [""]
    for word in words.split():
        if len(lines[-1]) + len(word) + 1 > _TWIN_CHARACTERS:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines
