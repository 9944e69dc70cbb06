"""Fixtures that several rooms share."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterator
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

LONGEST_FIRST = (
    "tests/browser/test_lessons.py", "tests/vmm/test_scsi_disks.py", "tests/host/test_network_debian.py",
    "tests/exercises/test_nbgrader.py", "tests/vmm/test_debian.py", "tests/browser/test_keyboard.py",
    "tests/vmm/test_pcnet_linux.py", "tests/vmm/test_vmw_balloon.py", "tests/view/test_pictures_in_chromium.py",
    "notebooks/19-when-it-does-not-converge.ipynb", "tests/view/test_switch_in_chromium.py",
    "tests/browser/test_console.py", "tests/vmm/test_vmxnet3_linux.py", "tests/browser/test_demonstrations.py",
    "tests/view/test_memory_charts_in_chromium.py", "tests/host/test_network_tap.py", "tests/vmm/test_e1000_linux.py",
    "tests/course/test_converge_runs.py", "tests/migration/test_handover_orders.py", "notebooks/18-vmotion.ipynb",
    "tests/exercises/test_checkers_reclaim.py", "tests/course/test_reclaim_runs.py",
    "tests/migration/test_host_processes.py", "tests/vmm/test_differential_paging.py",
    "tests/view/test_vmotion_in_chromium.py", "tests/migration/test_vmotion_faults.py",
)  # fmt: skip
"""A worker takes a file at a time: one of these, begun late, would keep one worker busy when the others have ended."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long come first, the others in their order; within a file nothing moves."""
    place = {file: number for number, file in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: place.get(item.nodeid.partition("::")[0], len(place)))


def without_the_browsers_loop(item: pytest.Item) -> Generator[None, object, object]:
    """Playwright leaves its event loop marked as running between its calls; a test without a browser, which may run a
    loop of its own on the same worker, begins without."""
    loop = None if "chromium" in getattr(item, "fixturenames", ()) else asyncio._get_running_loop()
    if loop is None:
        return (yield)
    asyncio._set_running_loop(None)
    try:
        return (yield)
    finally:
        asyncio._set_running_loop(loop)


pytest_runtest_setup = pytest.hookimpl(wrapper=True)(without_the_browsers_loop)
pytest_runtest_call = pytest.hookimpl(wrapper=True)(without_the_browsers_loop)


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
