"""The design's tokens: contrasts that must hold, and that nobody writes a colour or a font past them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import vilab.view

VIEW = Path(vilab.view.__file__).parent
HUES = ("guest", "vmm", "host", "shared", "balloon", "warn", "fault")
RINGS = ("ring-3", "ring-1", "ring-0", "ring-m1")
SURFACE = {"light": "#ffffff", "dark": "#212121"}
"""JupyterLab's layout-color1."""


def tokens(theme: str) -> dict[str, str]:
    css = (VIEW / "tokens.css").read_text()
    light, dark = css.split('body[data-jp-theme-light="false"] .vl {', 1)
    found = dict(re.findall(r"--vl-([\w-]+):\s*(#[0-9a-f]{6})", light))
    if theme == "dark":
        found |= dict(re.findall(r"--vl-([\w-]+):\s*(#[0-9a-f]{6})", dark))
    return found


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("hue", HUES)
def test_words_can_be_read_on_every_ground_they_stand_on(theme: str, hue: str) -> None:
    values = tokens(theme)
    ink, fill, on, wash = (values[f"{hue}-{part}"] for part in ("ink", "fill", "on", "wash"))
    for ground in (SURFACE[theme], wash, *(values[ring] for ring in RINGS)):
        assert contrast(ink, ground) >= 4.5
    assert contrast(on, fill) >= 4.5
    assert contrast(fill, SURFACE[theme]) >= 3
    assert contrast(values["text-soft"], wash) >= 4.5


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_more_privilege_is_heavier_in_light_and_nearer_to_the_light_in_dark(theme: str) -> None:
    values = [luminance(tokens(theme)[ring]) for ring in RINGS]
    assert values == sorted(values, reverse=theme == "light")


@pytest.mark.parametrize(
    "name",
    [
        "stage.css",
        "views.css",
        "memory_grid.css",
        "switch_bench.css",
        "capture.css",
        "player.js",
        "quiz.js",
        "memory_grid.js",
        "switch_bench.js",
        "capture.js",
        *sorted(p.name for p in VIEW.glob("*.py")),
    ],
)
def test_no_colour_and_no_font_is_written_past_the_tokens(name: str) -> None:
    text = (VIEW / name).read_text()
    assert re.findall(r"(?<![&\w])#(?:[0-9a-fA-F]{6}|[0-9a-fA-F]{3})\b(?!;)", text) == []
    assert re.findall(r"\b(?:rgba?|hsla?)\(", text) == []
    if name.endswith(".css"):
        assert set(re.findall(r"font-family:\s*([^;]+);", text)) <= {"var(--vl-mono)", "var(--vl-font)"}
        for size in re.findall(r"font-size:\s*([^;]+);", text):
            assert re.match(r"var\(--vl-text|calc\(var\(--vl-text|\.93em|(?:1[2346]|20)px", size), size
