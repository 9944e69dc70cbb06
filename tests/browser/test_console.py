"""The serial console of lesson 07 in a real Chromium: the guest boots while the page stays alive, and answers."""

from __future__ import annotations

import pytest

from tests.browser.lesson import wait_for
from tests.notebooks.rules import LESSONS, name

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

BOOT_SECONDS = 400
DARK = "JupyterLab Dark"


@pytest.fixture
def lesson(open_lesson):
    lesson = open_lesson(next(name(path) for path in LESSONS if path.name.startswith("07")))
    lesson.run_all()
    return lesson


def test_a_guest_boots_answers_and_is_looked_back_at(lesson, screenshots):
    root = lesson.page.locator(".vl-live")
    screen, line = root.locator(".vl-screen"), root.locator("input")

    def state() -> str:
        return root.get_attribute("data-state") or ""

    assert state() == "off"
    assert line.is_disabled()
    root.locator("[data-do=start]").click()
    wait_for(lambda: screen.inner_text().strip(), 60, "The guest writes something")
    root.screenshot(path=screenshots / "07-console-booting.png")
    wait_for(lambda: state() == "waiting", BOOT_SECONDS, "The guest waits for a line")
    linux = "vilab#" in screen.inner_text()
    line.fill("uname -a; dmesg | grep -i hypervisor" if linux else "isprime 49")
    line.press("Enter")
    wait_for(lambda: ("i686 GNU/Linux" if linux else "isPrime(49) = 0") in screen.inner_text(), 60, "an answer")
    wait_for(lambda: state() == "waiting", 60, "The guest waits again")
    assert not linux or screen.inner_text().count("Hypervisor detected: VMware") == 2  # at boot, and in dmesg
    assert "most often" in root.locator(".vl-say").inner_text()
    assert root.locator(".vl-panel").count() == 2
    assert root.locator(".vl-panel tbody tr").count() >= 8
    # Keys that mean something to Lab are the guest's while they are typed to it.
    cells = lesson.page.locator(".jp-Notebook .jp-Cell").count()
    line.press_sequentially("abdx")
    assert line.input_value() == "abdx"
    assert lesson.page.locator(".jp-Notebook .jp-Cell").count() == cells
    root.screenshot(path=screenshots / "07-console-light.png")
    lesson.theme(DARK)
    root.screenshot(path=screenshots / "07-console-dark.png")
    assert not lesson.complaints
