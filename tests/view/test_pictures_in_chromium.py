"""The other pictures in a real browser: cursor, tables, the form, the quiz; themes, lecture mode, the widest font."""

from __future__ import annotations

from typing import Any

import pytest

from tests.view import sample_runs
from tests.view.harness import open_player, open_quiz
from tests.view.sample_critical import results
from tests.view.test_policies import FOUND
from tests.view.test_typed_quiz_job import quiz, typed
from vilab.course.paging_runs import PAGE_A, tour
from vilab.view.critical import CriticalTrack
from vilab.view.playback import Playback
from vilab.view.policies import PolicyTrack
from vilab.view.run_track import RingsTrack, TranslationTrack
from vilab.view.tables_track import TablesTrack

pytestmark = pytest.mark.browser


def at(page: Any, position: int) -> None:
    page.wait_for_function(f"document.querySelector('.vl-slider').getAttribute('aria-valuenow') === '{position}'")


def heard(page: Any, words: str) -> None:
    page.wait_for_function("(w) => document.querySelector('[aria-live]').textContent.includes(w)", arg=words)


def translation(position: int = 7) -> Playback:
    return Playback(TranslationTrack(sample_runs.translated(), "What happens to `cli`?"), position=position)


def critical(position: int = 6) -> Playback:
    return Playback(CriticalTrack(results(), "Which engine gets them right?"), position=position)


def rings(position: int = 7) -> Playback:
    return Playback(RingsTrack(sample_runs.silent_pushf(), "Does `pushf` tell the truth?"), position=position)


def tables(position: int = 9) -> Playback:
    """The stale entry under lazy: the fullest moment."""
    return Playback(TablesTrack(tour("lazy"), "Who knows that an entry has changed?", (), PAGE_A), position=position)


def dropped() -> Playback:
    return Playback(TablesTrack(tour("lazy"), "Who knows that an entry has changed?", (), PAGE_A), position=40)


def nested() -> Playback:
    return Playback(TablesTrack(tour("nested"), "Who knows that an entry has changed?", (), PAGE_A), position=9)


def policies() -> Playback:
    return Playback(PolicyTrack(FOUND, "Which is best?"), position=2)


def test_the_row_cursor_of_the_page_tables_reads_an_entry_out_and_enter_follows_it(page: Any) -> None:
    open_player(page, tables(5))
    page.evaluate("document.querySelector('.vl-stage').focus()")
    heard(page, "page 08048000: guest 00200067 P RW U A D; shadow 03200067 P RW U A D; follows")
    for _ in range(3):
        page.keyboard.press("ArrowDown")
    heard(page, "page 0804b000: guest 00203007 P RW U; shadow nothing; not yet")
    assert "0804b000" not in page.inner_text(".vl-stage")
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('.vl-stage').textContent.includes('0804b000')")


def test_tab_goes_slider_transport_stage_panels(page: Any) -> None:
    track = TranslationTrack(sample_runs.translated(), "?", ("log",))
    open_player(page, Playback(track, position=7))
    page.focus(".vl-slider")
    order = []
    for _ in range(6):
        page.keyboard.press("Tab")
        order.append(page.evaluate("document.activeElement.dataset.do || document.activeElement.className || 'row'"))
    assert order == ["back", "step", "play", "speed", "vl-stage", "now" if track.beats[0].kind == "" else "row"]
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("document.activeElement.className") == "vl-stage"


def test_the_row_cursor_walks_the_translation_and_reads_it_out(page: Any) -> None:
    open_player(page, translation())
    page.evaluate("document.querySelector('.vl-stage').focus()")
    heard(page, "pushf: callout")
    page.keyboard.press("ArrowDown")
    heard(page, "cli: in cache. In the cache: mov ss:[fdc01000],0")
    assert page.locator("g.cursor").count() == 1
    page.keyboard.press("ArrowRight")
    at(page, 8)
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.className") == "vl-slider"
    page.wait_for_function("document.querySelectorAll('g.cursor').length === 0")


def test_a_step_fills_the_next_row_of_the_table_in_all_engines(page: Any) -> None:
    open_player(page, critical(5))
    assert page.locator(".vl-crit td.w").count() == 10
    page.click("[data-do=step]")
    at(page, 6)
    assert page.locator(".vl-crit td.w").count() == 12
    assert page.inner_text("tr[aria-current] th") == "popf"


def test_enter_on_a_table_row_opens_its_register_states(page: Any) -> None:
    open_player(page, critical())
    page.evaluate("document.querySelector('.vl-stage').focus()")
    page.keyboard.press("ArrowDown")
    heard(page, "sidt [m] should give c0397000")
    page.keyboard.press("Enter")
    page.wait_for_selector(".vl-panel h3")
    assert page.inner_text(".vl-panel h3 >> nth=0") == "No VMM: sidt [m]"
    assert page.evaluate("document.activeElement.className") == "vl-stage"


def test_typing_and_running_and_an_error_in_place(page: Any) -> None:
    open_player(page, typed())
    page.focus("textarea")
    page.keyboard.press("Control+End")
    page.keyboard.type("\npusf 1 [")
    assert page.input_value("textarea") == "cli\npushf\npusf 1 ["
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(".vl-wrong:not(:empty)")
    assert page.inner_text(".vl-wrong") == "pusf is no instruction: line 2."
    assert page.get_attribute("textarea", "aria-invalid") == "true"
    page.fill("textarea", "cli")
    page.select_option("select", "svm")
    page.wait_for_function("document.querySelector('.vl-slider').getAttribute('aria-valuemax') === '7'")
    assert page.inner_text(".vl-wrong") == ""


def test_the_quiz_by_keys(page: Any) -> None:
    run = quiz()
    open_quiz(page, run)
    page.focus("[role=radio] >> nth=0")
    page.keyboard.press("2")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(".vl-opt.right")
    assert "Because of b." in page.inner_text(".vl-card")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.querySelector('.vl-card').innerText.includes('Two?')")
    page.click("text=e")
    page.click("text=Reveal")
    page.wait_for_selector(".vl-opt.mine")


@pytest.mark.parametrize("make", [rings, translation, critical, tables, dropped, nested, policies])
@pytest.mark.parametrize("width", [848, 960])
def test_no_word_stands_on_another_in_the_widest_font(page: Any, make: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    open_player(page, make(), wide=True)
    overlapping = page.evaluate("""() => {
      const boxes = [...document.querySelectorAll('.vl-stage text, .vl-stage td, .vl-stage th')]
        .filter((node) => node.textContent.trim() && node.getClientRects().length)
        .map((node) => [node.textContent, node.getBoundingClientRect()]);
      const found = [];
      for (let i = 0; i < boxes.length; i++) for (let j = i + 1; j < boxes.length; j++) {
        const [a, b] = [boxes[i][1], boxes[j][1]];
        const x = Math.min(a.right, b.right) - Math.max(a.left, b.left);
        const y = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        if (x > 1 && y > 4) found.push(boxes[i][0] + ' | ' + boxes[j][0]);
      }
      return found;
    }""")
    assert overlapping == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("make", [rings, translation, critical, tables, dropped, nested, policies])
@pytest.mark.parametrize(("lecture", "width", "budget"), [(False, 960, 720), (True, 1440, 1080)])
def test_question_to_text_twin_fit_the_height_budget(
    page: Any, make: Any, lecture: bool, width: int, budget: int
) -> None:
    page.set_viewport_size({"width": width, "height": 1080})
    open_player(page, make(), lecture=lecture)
    say = page.locator(".vl-say").bounding_box()
    assert say["y"] + say["height"] <= budget
    assert page.locator(".vl-panels:visible").count() == (0 if lecture or make is not rings else 1)


def test_lecture_mode_scales_text_and_stage_alike(page: Any) -> None:
    page.set_viewport_size({"width": 1440, "height": 1000})
    open_player(page, rings(), lecture=True)
    sizes = page.evaluate("""() => {
      const lane = document.querySelector('.vl-stage text.l');
      const scale = lane.ownerSVGElement.getBoundingClientRect().width / 912;
      return [parseFloat(getComputedStyle(lane).fontSize) * scale,
              parseFloat(getComputedStyle(document.querySelector('.vl-say')).fontSize)];
    }""")
    assert sizes[1] == pytest.approx(24)
    assert sizes[0] == pytest.approx(sizes[1], rel=0.03)


LOW_CONTRAST = """() => {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const over = (top, low) => [0, 1, 2].map((i) => top[i] * top[3] / 255 + low[i] * (1 - top[3] / 255));
  const linear = (v) => (v / 255 <= .03928 ? v / 255 / 12.92 : ((v / 255 + .055) / 1.055) ** 2.4);
  const light = (c) => .2126 * linear(c[0]) + .7152 * linear(c[1]) + .0722 * linear(c[2]);
  const ground = (node) =>
    (node ? over(rgba(getComputedStyle(node).backgroundColor), ground(node.parentElement)) : [255, 255, 255]);
  const found = [];
  const judge = (node, colour, below) => {
    const [a, b] = [light(over(rgba(colour), below)), light(below)];
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < 4.5) found.push(node.textContent.slice(0, 30) + ' ' + ratio.toFixed(2));
  };
  for (const node of document.querySelectorAll('.vl p, .vl td, .vl th, .vl h2, .vl h3, .vl button'))
    if (node.textContent.trim() && node.getClientRects().length && node.getAttribute('aria-disabled') !== 'true')
      judge(node, getComputedStyle(node).color, ground(node));
  for (const node of document.querySelectorAll('.vl-stage text')) {
    const box = node.getBoundingClientRect();
    const under = [...node.ownerSVGElement.querySelectorAll('rect, .to-vmm')].filter((shape) => {
      const b = shape.getBoundingClientRect();
      return getComputedStyle(shape).fill !== 'none' && b.left <= box.left + 2 && b.right >= box.right - 2
        && b.top <= box.top + 4 && b.bottom >= box.bottom - 4;
    });
    const below = under.length
      ? rgba(getComputedStyle(under[under.length - 1]).fill) : ground(node.ownerSVGElement.parentElement);
    judge(node, getComputedStyle(node).fill, below);
  }
  return found;
}"""
"""Texts whose computed colour has less than 4.5 against what they stand on."""


@pytest.mark.parametrize("make", [rings, translation, critical, tables, dropped, nested, policies])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_words_have_their_contrast_on_what_they_stand_on(page: Any, make: Any, theme: str) -> None:
    open_player(page, make(), theme=theme)
    assert page.evaluate(LOW_CONTRAST) == []
