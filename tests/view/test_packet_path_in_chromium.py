"""A packet's way and three cards in a real browser: in every look, at every step, no words on other words."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.view.harness import open_player
from tests.view.test_switch_in_chromium import LOOKS, OUTSIDE, OVERLAPS
from vilab.course.one_packet import OnePacket
from vilab.view.packet_path_beside import Beat, BesideTrack, Way
from vilab.view.packet_path_track import PacketPathTrack
from vilab.view.playback import Playback

pytestmark = pytest.mark.browser


@cache
def packet() -> PacketPathTrack:
    return PacketPathTrack(OnePacket(), "Who has the packet, and what has the guest left its code for?")


@cache
def cards() -> BesideTrack:
    turn = [Beat("interrupt", "INTA"), *[Beat("pic", "20")] * 5, *[Beat("read", "CSR0")] * 12]
    ping = [*[Beat("write", "CSR0")] * 2, *[Beat("dma", "frame read")] * 3, Beat("frame", "out"), *turn]
    ways = [Way(kind, note, tuple(ping[: len(ping) - less])) for kind, note, less in (
        ("vlance", "AMD Am79C970A", 0), ("e1000", "Intel 82545EM", 5), ("vmxnet3", "VMware's, no chip", 9),
    )]  # fmt: skip
    return BesideTrack(lambda: ways, "Which card asks the monitor least often?")


@pytest.mark.parametrize("look", LOOKS, ids=str)
@pytest.mark.parametrize("track", [packet, cards])
def test_no_words_lie_on_others_or_leave_the_picture(page: Any, look: dict[str, Any], track: Any) -> None:
    playback = Playback(track())
    page.set_viewport_size({"width": 1440 if "lecture" in look else 960, "height": 1080})
    open_player(page, playback, **look)
    page.locator(".vl-slider").focus()
    folder = os.environ.get("VILAB_SCREENSHOTS")
    for position in range(1, playback.track.total + 1):
        page.keyboard.press("ArrowRight")
        page.wait_for_function(f"document.querySelector('.vl-slider').getAttribute('aria-valuenow') === '{position}'")
        assert page.evaluate(OVERLAPS) == [], position
        assert page.evaluate(OUTSIDE) == [], position
        if folder and position in (4, 8, 15, 25, playback.track.total):
            words = "-".join(look) or "light"
            page.screenshot(path=Path(folder) / f"{track.__name__}-{position}-{words}.png", full_page=True)
