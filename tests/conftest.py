"""Fixtures that several rooms share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests import tools

if TYPE_CHECKING:
    from playwright.sync_api import Browser

settings.register_profile("vilab", deadline=None)
settings.load_profile("vilab")  # machines are shared: how long an example takes says nothing

CHROMIUM_FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """A real browser, one for each worker: Playwright cannot be started twice in one process."""
    tools.require_module("playwright", "the PyPI package playwright (extra: test)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=tools.chromium(playwright), args=list(CHROMIUM_FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def memtest86_image() -> Path:
    """Stock memtest86+; skips where the Debian package has not been fetched."""
    return tools.memtest86()


@pytest.fixture(scope="session")
def gnumach_image() -> Path:
    """Stock GNU Mach; skips where the Debian package has not been fetched."""
    return tools.gnumach()
