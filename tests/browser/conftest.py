"""A Lab for each worker, a page for each test."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.lab import Lab, running_lab

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.browser.lesson import Lesson

LAPTOP = {"width": 1280, "height": 900}


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with running_lab(tmp_path_factory.mktemp("lab")) as running:
        yield running


@contextmanager
def opening(chromium: Browser, lab: Lab) -> Iterator[Callable[[str], Lesson]]:
    from tests.browser.lesson import Lesson

    context = chromium.new_context(viewport=LAPTOP, reduced_motion="reduce")  # type: ignore[arg-type]
    context.set_default_timeout(30_000)
    yield lambda notebook: Lesson(context.new_page(), lab, notebook)
    context.close()
    lab.end_kernels()


@pytest.fixture
def open_lesson(chromium: Browser, lab: Lab) -> Iterator[Callable[[str], Lesson]]:
    """Call it with a notebook's path in the work copy; page and kernel end with the test."""
    with opening(chromium, lab) as call:
        yield call


@pytest.fixture
def screenshots(tmp_path: Path) -> Path:
    """``$VILAB_SCREENSHOTS`` to keep them, else a folder of the test's own."""
    chosen = os.environ.get("VILAB_SCREENSHOTS")
    return Path(chosen) if chosen else tmp_path
