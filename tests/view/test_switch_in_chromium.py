"""A virtual switch and a capture in a real browser: controls by pointer and keys, words beside each other."""

from __future__ import annotations

from typing import Any

import pytest

from tests.view.harness import open_player
from vilab.course.switch_runs import LOADS, SHAPED, conversation, office
from vilab.view.capture import CapturePlayback, CaptureTrack
from vilab.view.memory_knobs import KnobPlayback
from vilab.view.playback import Playback
from vilab.view.switch_balance import BalanceTrack
from vilab.view.switch_bench import BenchPlayback
from vilab.view.switch_failover import FailoverTrack
from vilab.view.switch_shaping import ShapingTrack
from vilab.view.switch_track import SwitchTrack

pytestmark = pytest.mark.browser

OVERLAPS = """() => {
    const boxes = [...document.querySelectorAll(".vl-stage text")].filter((t) => t.textContent.trim())
        .map((t) => [t.textContent, t.getBoundingClientRect()]);
    const hits = [];
    for (let i = 0; i < boxes.length; i++) for (let j = i + 1; j < boxes.length; j++) {
        const [a, b] = [boxes[i][1], boxes[j][1]];
        if (a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 5 && b.top < a.bottom - 5)
            hits.push(`${boxes[i][0]} / ${boxes[j][0]}`);
    }
    return hits;
}"""
OUTSIDE = """() => {
    const stage = document.querySelector(".vl-stage").getBoundingClientRect();
    return [...document.querySelectorAll(".vl-stage text")].filter((t) => t.textContent.trim())
        .map((t) => [t.textContent, t.getBoundingClientRect()])
        .filter(([, b]) => b.left < stage.left - 1 || b.right > stage.right + 1).map(([words]) => words);
}"""
LOOKS = ({}, {"theme": "dark"}, {"wide": True}, {"lecture": True})


def at(page: Any, position: int) -> None:
    page.wait_for_function(f"document.querySelector('.vl-slider').getAttribute('aria-valuenow') === '{position}'")


def bench() -> BenchPlayback:
    wired = office()
    wired.send("web1", "broadcast")
    return BenchPlayback(wired, "Who can talk to whom?")


def spied() -> BenchPlayback:
    wired = office(3)
    wired.send("spy", "listen")
    wired.set("vlan", "db1", "4095:10")
    wired.set("vlan", "web2", "0")
    wired.set("cable", "vmnic0", "wrong")
    wired.set("cable", "vmnic1", "out")
    wired.send("web1", "ping", "gw")
    return BenchPlayback(wired, "Who can talk to whom?", asks=False)


@pytest.mark.parametrize("look", LOOKS, ids=str)
def test_no_word_lies_upon_another_and_none_is_cut_off(page: Any, look: dict[str, Any]) -> None:
    players = {
        "conversation": Playback(SwitchTrack(conversation().recorder.steps, "Who hears it?")), "spied": spied(),
        "balance": Playback(BalanceTrack(LOADS, "Which?")), "failover": Playback(FailoverTrack("How long?")),
        "shaping": KnobPlayback(ShapingTrack("What becomes of it?", SHAPED)),
        "capture": CapturePlayback(CaptureTrack(conversation().captures["vmnic0"], "vmnic0", "?"), b""),
    }  # fmt: skip
    for name, playback in players.items():
        own = page.context.browser.new_page(viewport={"width": 1440 if "lecture" in look else 960, "height": 1080})
        open_player(own, playback, **look)
        for position in range(playback.track.total + 1):
            own.keyboard.press("Home") if position == 0 else None
            own.focus(".vl-slider")
            if position:
                own.keyboard.press("ArrowRight")
            at(own, position)
            assert own.evaluate(OVERLAPS) == [], (name, position)
            assert own.evaluate(OUTSIDE) == [], (name, position)
        own.close()


def test_wire_send_and_watch(page: Any) -> None:
    playback = bench()
    open_player(page, playback)
    page.select_option("[data-what=vlan][data-name=db1]", "10")
    page.wait_for_function("document.querySelector('.vl-say').textContent.includes('db1 is connected')")
    page.select_option("[data-send=how]", "ping")
    page.select_option("[data-send=whom]", "db1")
    page.click(".sw-send button")
    page.wait_for_selector("[data-choice]")  # it plays up to the question
    page.keyboard.press("Escape")
    at(page, playback.track.total if playback.position == playback.track.total else playback.position)
    page.focus(".vl-slider")
    page.keyboard.press("End")
    page.wait_for_function("document.querySelector('.vl-say').textContent.includes('has its answer')")


def test_steps_go_past_the_question(page: Any) -> None:
    playback = bench()
    open_player(page, playback)
    page.click("[data-do=step]")
    at(page, 1)
    page.click("[data-do=step]")
    page.wait_for_selector("[data-choice]")
    page.focus(".vl-slider")
    page.keyboard.press("3")
    page.click("[data-do=step]")
    page.wait_for_selector(".vl-opt.right")
    page.click("[data-do=step]")
    at(page, 2)


def test_policies_and_cables_by_keys_and_in_the_picture(page: Any) -> None:
    playback = bench()
    open_player(page, playback)
    page.focus("[data-what=policy][data-name=promiscuous]")
    page.keyboard.press("Space")
    page.wait_for_function("document.querySelector('.vl-say').textContent.includes('Promiscuous mode: accept')")
    assert playback.bench.lab.switch.policies.security.promiscuous
    page.click("[data-act=cable][data-name=vmnic1]")
    page.wait_for_function("document.querySelector('.vl-stage').textContent.includes('no link')")
    assert playback.bench.lab.cable("vmnic1") == "out"
    page.click("[data-act=vlan][data-name=web1]")
    page.wait_for_function("document.querySelector('[data-what=vlan][data-name=web1]').value === '20'")
    assert playback.bench.lab.ports["web1"].vlan == 20


def test_a_field_can_be_pressed_and_walked_to_and_the_file_is_a_link(page: Any) -> None:
    lab = conversation()
    playback = CapturePlayback(CaptureTrack(lab.captures["vmnic0"], "vmnic0", "What is in it?"), lab.pcap("vmnic0"))
    open_player(page, playback)
    shown = "[...document.querySelectorAll('[data-row].cursor')].map((row) => row.dataset.row).join()"
    page.click("[data-row='2'] text >> nth=-1")
    assert page.evaluate(shown) == "2"
    page.keyboard.press("ArrowDown")
    assert page.evaluate(shown) == "3"
    link = page.locator(".cap-save a")
    assert link.get_attribute("download") == "vmnic0.pcap"
    with page.expect_download() as download:
        link.click()
    assert download.value.path().read_bytes() == lab.pcap("vmnic0")
