"""Lesson 7: a guest that boots in slices is the guest that boots in one go, and what is counted adds up."""

from __future__ import annotations

import msgspec
import pytest

from tests import tools
from vilab.course import live_views
from vilab.course.live_guest import DEBIAN, ENGINES, TEACHING, LiveGuest, kind_here, readable
from vilab.course.runs import boot
from vilab.view.console import OFF, LiveConsole

TYPED = "isprime 49\nexit\n"


@pytest.mark.parametrize("engine", ENGINES)
def test_a_boot_in_slices_writes_what_a_boot_in_one_go_writes(engine: str):
    sliced = LiveGuest(TEACHING, engine).finish(TYPED)
    whole = LiveGuest(msgspec.structs.replace(TEACHING, slice_ns=10**12), engine).finish(TYPED)
    assert len(whole.moments) == 1 < len(sliced.moments)
    assert sliced.serial == whole.serial == readable(boot(engine, typed=TYPED).serial.encode())
    assert sliced.ending == whole.ending
    assert sliced.exits["in"] == whole.exits["in"]
    assert sliced.virtual_ns == whole.virtual_ns


def test_the_moments_of_two_runs_are_the_same_and_add_up():
    one, other = LiveGuest(TEACHING).finish(TYPED), LiveGuest(TEACHING).finish(TYPED)
    assert one.moments == other.moments
    assert one.hottest() == other.hottest()
    for reason, count in one.exits.items():
        assert sum(moment.exits.get(reason, 0) for moment in one.moments) == count


def test_at_its_prompt_the_clock_stands_still():
    guest = LiveGuest(TEACHING).finish()
    before = guest.virtual_ns
    guest.advance(0.05)
    assert guest.waiting
    assert guest.virtual_ns == before
    guest.finish("isprime 35\n")
    assert "isPrime(35) = 0" in guest.serial
    assert guest.virtual_ns > before


def test_the_samples_are_shares_of_fragments_with_their_code():
    hot = LiveGuest(TEACHING).finish().hottest(1000)
    assert sum(each.share for each in hot) == pytest.approx(1)
    assert any("; ".join(each.code).startswith("movzx ecx, byte ptr [esp + 4]; mov dx, 0x3fd") for each in hot)


def test_terminal_questions_and_backspaces_are_not_shown():
    assert readable(b"vilab# \x1b[6nls\r\nx\x08y") == "vilab# ls\ny"


def test_a_console_is_off_until_somebody_switches_it_on():
    console = LiveConsole(lambda engine: LiveGuest(TEACHING, engine), "Boot?", ENGINES)
    assert console.describe() == OFF
    assert console.state == "off"
    console.type("isprime 49")
    assert console.state == "off"
    console.start()
    console.finish()
    assert console.state == "waiting"
    assert "shell>" in console.frame["screen"]
    console.type("isprime 49")
    console.finish()
    assert "isPrime(49) = 0" in console.frame["screen"]
    console.type("exit")
    assert "most often" in console.finish()
    assert console.state == "ended"
    console.start("svm")
    console.finish()
    assert "under svm" in console.describe()
    console.start("nonsense")
    assert "nonsense" in console.describe()


def test_looking_back_without_a_boot_boots_the_teaching_kernel():
    console = live_views.console("Boot?")
    guest = live_views.booted(console)
    assert guest.kind == TEACHING
    assert "together" in live_views.exits_text(guest)
    view = live_views.through_time(guest, "What leaves?")
    view.step()
    options = sorted(guest.exits, key=lambda reason: -guest.exits[reason])[:4]
    right = sorted(options).index(options[0]) + 1
    assert "right:" in view.answer(right)
    live = LiveConsole(lambda engine: LiveGuest(TEACHING, engine), "Boot?", ENGINES)
    live.start("svm")
    live.finish()
    assert live_views.booted(live) is live.guest


def test_a_guest_can_tell_what_it_runs_on():
    lines = live_views.asks(("bare", "bt", "svm")).splitlines()
    assert lines[1].split()[-3:] == ["0", "1", "1"]
    assert lines[2].split()[-3:] == ["nothing", "'VMwareVMware'", "'VMwareVMware'"]
    assert lines[3].split()[-5:] == ["nobody", "version", "6", "version", "6"]


def test_without_linux_the_page_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setenv("VILAB_GUESTS", str(tmp_path))
    kind = kind_here()
    assert kind.name == TEACHING.name
    assert "vilab guests fetch debian" in kind.note
    console = live_views.console("Boot?")
    assert "vilab guests fetch debian" in console.frame["note"]
    assert console.describe() == OFF


def test_linux_is_what_boots_where_it_is():
    tools.debian()
    kind = kind_here()
    assert kind == DEBIAN
    guest = LiveGuest(kind)
    while not guest.lines("Hypervisor detected"):
        guest.advance(0.5)
        assert guest.virtual_ns < 400_000_000
    assert guest.lines("Hypervisor detected") == ["[    0.000000] Hypervisor detected: VMware"]
    guest.close()
