"""A bare page that plays anywidget's part: the fastest way to see a player in a real browser.

``player_page`` opens one page with one player; the model API (get, set, send, on, off, save_changes) is a few lines of
JavaScript, and ``send`` reaches the same ``Playback`` that the widget uses.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import vilab.view
from vilab.view.capture import CapturePlayback
from vilab.view.memory_grid_track import GridPlayback
from vilab.view.memory_knobs import KnobPlayback
from vilab.view.playback import Playback
from vilab.view.quiz import QuizRun
from vilab.view.switch_bench import BenchPlayback
from vilab.view.typed import TypedPlayback
from vilab.view.words import html, plain

VIEW = Path(vilab.view.__file__).parent

# What JupyterLab's themes set.
LAB = """
body{--jp-layout-color0:#fff;--jp-layout-color1:#fff;--jp-layout-color2:#eee;--jp-ui-font-color0:#000;
--jp-ui-font-color1:rgba(0,0,0,.87);--jp-border-color2:#e0e0e0;--jp-brand-color1:#1976d2;--jp-brand-color2:#64b5f6;
--jp-ui-font-family:"Segoe UI","Helvetica Neue","Liberation Sans",Arial,system-ui,sans-serif;
--jp-code-font-family:menlo,consolas,"DejaVu Sans Mono",monospace;
margin:0;background:var(--jp-layout-color0)}
body[data-jp-theme-light="false"]{--jp-layout-color0:#111;--jp-layout-color1:#212121;--jp-layout-color2:#424242;--jp-ui-font-color0:#fff;
--jp-ui-font-color1:rgba(255,255,255,.87);--jp-border-color2:#424242}
body[data-wide]{--jp-ui-font-family:"DejaVu Sans",Verdana,sans-serif}
"""

MODEL = """
const state = __STATE__, listeners = {};
const fire = (name, ...rest) => (listeners[name] || []).slice().forEach((f) => f(...rest));
const model = {
  get: (k) => state[k],
  set: (k, v) => { if (state[k] !== v) { state[k] = v; fire("change:" + k); } },
  save_changes: () => {},
  on: (e, f) => (listeners[e] = listeners[e] || []).push(f),
  off: (e, f) => { listeners[e] = (listeners[e] || []).filter((g) => g !== f); },
  send: async (m) => {
    window.sent.push(m);
    const answer = JSON.parse(await window.kernel(JSON.stringify(m)));
    for (const [k, v] of Object.entries(answer)) { state[k] = v; fire("change:" + k); }
    fire("msg:custom", { done: m.id });
  },
};
window.sent = [];
window.model = model;
"""


def page_html(playback: Playback, theme: str = "light", lecture: bool = False, wide: bool = False) -> str:
    state = {
        "question": plain(playback.track.question), "heading": html(playback.track.question),
        "frame": playback.frame(), "lecture": lecture, "form": form(playback),
    }  # fmt: skip
    grid = isinstance(playback, GridPlayback)
    knobs = isinstance(playback, KnobPlayback)
    bench = isinstance(playback, BenchPlayback)
    own = (("memory_grid.css",) if grid else ()) + (("memory_knobs.css",) if knobs else ())
    capture = isinstance(playback, CapturePlayback)
    own += (("switch_bench.css",) if bench else ()) + (("capture.css",) if capture else ())
    styles = ("tokens.css", "stage.css", "views.css", *own)
    css = "\n".join((VIEW / name).read_text() for name in styles)
    model = MODEL.replace("__STATE__", as_json(state).replace("</", "<\\/"))
    scripts = (*(("memory_grid.js",) if grid else ()), "player.js", *(("memory_knobs.js",) if knobs else ()))
    scripts += (("switch_bench.js",) if bench else ()) + (("capture.js",) if capture else ())
    player = "\n".join((VIEW / name).read_text() for name in scripts)
    render = "renderWithKnobs" if knobs else "renderBench" if bench else "renderCapture" if capture else "render"
    for name in ("", ": renderWithKnobs", ": renderBench", ": renderCapture"):
        player = player.replace(f"export default {{ render{name} }};", "")
    light = "false" if theme == "dark" else "true"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><style>{LAB}{css}</style>'
        f'<body data-jp-theme-light="{light}"{" data-wide" if wide else ""}><div id="here"></div>'
        f'<script type="module">{player}\n{model}\n{render}({{ model, el: document.getElementById("here") }});</script>'
        "</body></html>"
    )


def as_json(value: Any) -> str:
    """Bytes as base64: in Jupyter they travel as they are."""
    return json.dumps(value, default=lambda data: base64.b64encode(data).decode())


def form(playback: Playback) -> dict[str, Any] | None:
    return playback.form() if isinstance(playback, TypedPlayback) else None


def open_player(page: Any, playback: Playback, **look: Any) -> None:
    """Show it; ``page`` is a new page of Playwright's sync API."""

    def kernel(text: str) -> str:
        playback.handle(json.loads(text))
        playback.finish()
        return as_json({"frame": playback.frame(), "form": form(playback)})

    page.expose_function("kernel", kernel)
    page.set_content(page_html(playback, **look))
    page.wait_for_selector(".vl h2:not(:empty)")


def open_quiz(page: Any, run: QuizRun) -> None:
    """A quiz on a bare page."""

    def kernel(text: str) -> str:
        run.handle(json.loads(text))
        return json.dumps({"frame": run.frame()})

    page.expose_function("kernel", kernel)
    css = "\n".join((VIEW / name).read_text() for name in ("tokens.css", "stage.css", "views.css"))
    model = MODEL.replace("__STATE__", json.dumps({"frame": run.frame()}).replace("</", "<\\/"))
    script = (VIEW / "quiz.js").read_text().replace("export default { render };", "")
    page.set_content(
        f'<!doctype html><meta charset="utf-8"><style>{LAB}{css}</style><body><div id="here"></div>'
        f'<script type="module">{script}\n{model}\nrender({{ model, el: document.getElementById("here") }});</script>'
    )
    page.wait_for_selector(".vl-card")
