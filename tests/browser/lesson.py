"""One lesson in a real browser: what a student does, as methods; what the page complains about, as a list."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Locator, Page

from tests.browser.lab import Lab

RUN_SECONDS = 300
ANSWER_SECONDS = 60

IS_READY = """() => {
    const panel = window.jupyterapp.shell.currentWidget;
    if (!panel?.content?.model || !panel.context.isReady || panel.isHidden) return false;
    const kernel = panel.sessionContext.session?.kernel;
    return panel.content.widgets.length === panel.content.model.cells.length && panel.content.widgets.length > 0
        && kernel?.connectionStatus === 'connected' && kernel.status === 'idle';
}"""

CELLS = """() => window.jupyterapp.shell.currentWidget.content.widgets
    .filter(cell => cell.model.type === 'code' && cell.model.sharedModel.getSource().trim())
    .map(cell => [cell.model.executionCount, cell.model.executionState])"""
"""Of each code cell: its number or null, ``idle`` or ``running``."""

ERRORS = """() => window.jupyterapp.shell.currentWidget.content.widgets
    .filter(cell => cell.model.type === 'code')
    .flatMap(cell => cell.model.outputs.toJSON())
    .filter(output => output.output_type === 'error')
    .map(output => `${output.ename}: ${output.evalue}`)"""

QUIET = re.compile(r"favicon\.ico|ResizeObserver loop")
"""Complaints that every browser makes about any Lab."""


def wait_for(true: Callable[[], Any], seconds: float, what: str) -> Any:
    """The first true value; a sentence when there is none in time."""
    deadline = time.monotonic() + seconds
    while not (value := true()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.05)
    return value


class Lesson:
    """A notebook that is open in the page.

    Parameters
    ----------
    page : a fresh page of the browser.
    lab : the server.
    notebook : path in the work copy.
    """

    def __init__(self, page: Page, lab: Lab, notebook: str) -> None:
        self.page = page
        self.complaints: list[str] = []
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))
        page.goto(lab.page(notebook))
        page.wait_for_function("window.jupyterapp && window.jupyterapp.restored.then(() => true)", timeout=60_000)
        page.wait_for_function(IS_READY, timeout=60_000)

    def _hear(self, message: Any) -> None:
        if message.type == "error" and not QUIET.search(f"{message.text} {message.location}"):
            self.complaints.append(f"console: {message.text} ({message.location.get('url', '')})")

    def command(self, name: str, **arguments: Any) -> None:
        """What a menu entry of Lab does."""
        self.page.evaluate("([name, given]) => window.jupyterapp.commands.execute(name, given)", [name, arguments])

    def run_all(self) -> None:
        """Clear what is stored, run every cell, wait until the last one is done; an error in a cell ends the test."""
        self.command("notebook:clear-all-cell-outputs")
        cells = self.page.evaluate(CELLS)
        assert cells, "The notebook has no code."
        assert all(count is None for count, _ in cells), cells
        # Not awaited: the promise ends with the last cell, and how far it is can be seen in the cells.
        self.page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells') }")
        try:
            wait_for(self._is_done, RUN_SECONDS, "Running all cells")
        finally:
            errors = self.page.evaluate(ERRORS)
            assert not errors, "\n".join(errors)

    def _is_done(self) -> bool:
        all_run = all(count is not None and state == "idle" for count, state in self.page.evaluate(CELLS))
        return all_run or bool(self.page.evaluate(ERRORS))

    def views(self) -> list[View]:
        """The players of the lesson, from top to bottom."""
        found = self.page.locator(".jp-Notebook .vl:has([role=slider])")
        return [View(self, found.nth(index)) for index in range(found.count())]

    def theme(self, name: str) -> None:
        """``JupyterLab Light`` or ``JupyterLab Dark``."""
        self.command("apputils:change-theme", theme=name)
        light = "true" if "Light" in name else "false"
        self.page.wait_for_selector(f"body[data-jp-theme-light={light}]", state="attached")


def soon(true: Callable[[], Any], seconds: float) -> None:
    """Wait for so long at most: either is right."""
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.02)


class View:
    """One player: a question, a picture, a slider, Back, Step and Play."""

    def __init__(self, lesson: Lesson, root: Locator) -> None:
        self.lesson = lesson
        self.page = lesson.page
        self.root = root
        self.slider = root.locator("[role=slider]")

    # What can be seen

    @property
    def question(self) -> str:
        return self.root.get_attribute("aria-label") or ""

    @property
    def position(self) -> int:
        return int(self.slider.get_attribute("aria-valuenow") or -1)

    @property
    def total(self) -> int:
        return int(self.slider.get_attribute("aria-valuemax") or -1)

    @property
    def text_twin(self) -> str:
        return self.root.locator(".vl-say").inner_text()

    @property
    def is_lecture(self) -> bool:
        return self.root.get_attribute("data-vl-mode") == "lecture"

    @property
    def asks(self) -> bool:
        """Is a prediction open, not yet revealed?"""
        return self.button("Reveal").count() > 0

    def drawing(self) -> str:
        """The picture as markup: SVG or table, whichever the view has."""
        return self.root.locator(".vl-stage").inner_html()

    def button(self, name: str) -> Locator:
        return self.root.locator(f"button[aria-label^='{name}']")

    # What can be done

    def click(self, name: str) -> None:
        """A click on a button, and the moment that follows it."""
        before = self._moment()
        self.button(name).click()
        wait_for(lambda: self._moment() != before, ANSWER_SECONDS, f"{name} in {self.question!r} changes the view")

    def step(self) -> None:
        """One step on, past whatever is asked on the way."""
        start = self.position
        self.click("Step")
        for _ in range(4):
            # A question is drawn in pieces, and in the middle of that Step is Reveal already and nothing is chosen.
            soon(lambda: self.asks or self.position > start, 2)
            if self.asks:
                self.press("1")
                self.click("Reveal")
                soon(lambda: self.position > start, 0.5)
            if self.position > start:
                return
            if not self.asks:
                self.click("Step")
        raise AssertionError(f"Step in {self.question!r} stays at {start}")

    def seek(self, key: str) -> None:
        """Home or End on the slider."""
        goal = 0 if key == "Home" else self.total
        self.press(key)
        wait_for(lambda: self.position == goal, ANSWER_SECONDS, f"{key} in {self.question!r} leads to {goal}")

    def press(self, key: str) -> None:
        """A key while the slider of this view has the focus."""
        self.slider.focus()
        self.page.keyboard.press(key)

    def screenshot(self, path: Path) -> None:
        self.root.scroll_into_view_if_needed()
        path.parent.mkdir(parents=True, exist_ok=True)
        self.root.screenshot(path=path, animations="disabled")

    def _moment(self) -> tuple[int, bool, str, str]:
        return self.position, self.asks, self.drawing(), self.root.locator(".vl-slot").inner_html()
