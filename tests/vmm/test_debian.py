"""A stock Debian kernel under every engine that can run it, judged by QEMU: the same boot, the same answers.

Each engine boots once for all tests of this file; a second boot, through the command, shows that both are the same.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import subprocess
import sys
from collections import Counter
from functools import cache

import pytest

from tests import tools
from tests.vmm import debian_session
from tests.vmm.debian_session import COMMANDS, SCRIPT, SUSPENDED_AT_MS, Session

pytestmark = pytest.mark.interop
COMMAND = [sys.executable, "-m", "vilab.cli"]

MILESTONES = (
    "Linux version 6.1.", "BIOS-e820: ", "Kernel command line: console=ttyS0", "Memory: ", "SLUB: ", "NR_IRQS: ",
    "Console: colour", "printk: console [ttyS0] enabled", "Calibrating delay loop (skipped) preset value", "pid_max: ",
    "devtmpfs: initialized", "NET: Registered PF_NETLINK", "Trying to unpack rootfs image as initramfs",
    "Serial: 8250/16550 driver", "serial8250: ttyS0 at I/O 0x3f8 (irq = 4, base_baud = 115200) is a 16550A",
    "rtc_cmos rtc_cmos: setting system clock", "Freeing unused kernel image (initmem) memory",
    "Run /init as init process", "vilab: the guest is up.", "BusyBox v",
)  # fmt: skip

SAME_IN_CPUINFO = (
    "processor", "physical id", "siblings", "core id", "cpu cores", "apicid", "fdiv_bug", "f00f_bug", "coma_bug", "fpu",
    "fpu_exception", "wp", "bogomips",
)  # fmt: skip
"""What does not depend on which processor is played."""


@cache
def session(who: str) -> Session:
    guest = tools.debian()
    return debian_session.qemu(guest) if who == "qemu" else debian_session.ours(who)


def milestones(lines: list[str]) -> list[str]:
    """Those that appear, in the order in which they first do."""
    firsts = {word: next((n for n, line in enumerate(lines) if word in line), None) for word in MILESTONES}
    return sorted((word for word, n in firsts.items() if n is not None), key=lambda word: firsts[word] or 0)


def cpuinfo(answer: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in answer.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs if name.strip()}


def test_the_judge_passes_every_milestone_in_order():
    assert milestones(session("qemu").boot()) == list(MILESTONES)


@pytest.mark.parametrize("engine", ["bare", "svm", "bt"])
def test_the_boot_passes_the_same_milestones_in_the_same_order(engine):
    assert milestones(session(engine).boot()) == list(MILESTONES)


@pytest.mark.parametrize("engine", ["bare", "svm", "bt"])
def test_most_of_what_the_kernel_says_is_word_for_word_what_it_says_under_qemu(engine):
    judge = session("qemu").boot()
    same = difflib.SequenceMatcher(None, judge, session(engine).boot(), autojunk=False).get_matching_blocks()
    assert sum(block.size for block in same) >= 0.8 * len(judge)


@pytest.mark.parametrize("engine", ["bare", "svm", "bt"])
def test_commands_answer_as_under_qemu(engine):
    here, judge = session(engine).answers(), session("qemu").answers()
    for command in COMMANDS[:5]:
        assert here[command] == judge[command], command
    assert "6.1." in here[COMMANDS[0]]
    assert here[COMMANDS[2]].split() == ["2"] * 8
    assert here[COMMANDS[3]] == "3 42 deep\n"
    assert "sd_mod" in here[COMMANDS[4]]


@pytest.mark.parametrize("engine", ["bare", "svm", "bt"])
def test_cpuinfo_says_the_same_of_everything_but_the_processors_name(engine):
    here, judge = (cpuinfo(session(who).answers()["cat /proc/cpuinfo"]) for who in (engine, "qemu"))
    assert {name: here.get(name) for name in SAME_IN_CPUINFO} == {name: judge[name] for name in SAME_IN_CPUINFO}


@pytest.mark.parametrize("engine", ["bare", "svm", "bt"])
def test_the_guest_switches_itself_off(engine):
    assert session(engine).ended == "The guest has powered off."


@pytest.mark.parametrize("engine", ["svm", "bt"])
def test_the_kernel_finds_vmwares_hypervisor(engine):
    assert "Hypervisor detected: VMware" in session(engine).answers()["dmesg | grep -i hypervisor"]


@pytest.mark.parametrize("engine", ["svm", "bt"])
def test_a_second_boot_suspended_halfway_and_resumed_in_another_process_is_the_same(engine, tmp_path):
    """Serial output with its times, the file, and every counted event; this time both halves are watched."""
    once, file = session(engine), tmp_path / "debian.vm"
    watched = ["--stats", "json"]
    suspend = ["--suspend-at", str(SUSPENDED_AT_MS), "--suspend-to", str(file)]
    first, first_stats = run("run", "debian", "--engine", engine, *watched, *suspend)
    assert first_stats["ended"] == "suspended"
    assert first == once.serial[: len(first)]
    assert hashlib.sha256(file.read_bytes()).digest() == hashlib.sha256(once.saved).digest()
    second, second_stats = run("resume", str(file), *watched)
    assert first + second == once.serial
    assert second_stats["virtual_ns"] == once.statistics["virtual_ns"]
    exits = Counter(first_stats["exits"]) + Counter(second_stats["exits"])
    assert exits == Counter(once.statistics["exits"])


def run(*arguments: str) -> tuple[bytes, dict]:
    """Serial output and figures of one command."""
    done = subprocess.run([*COMMAND, *arguments], input=SCRIPT, capture_output=True, timeout=280)
    assert done.returncode == 0, done.stderr
    *_, figures = done.stdout.splitlines(keepends=True)
    serial = done.stdout[: -len(figures)]
    stats = json.loads(figures)
    if hashlib.sha256(serial).hexdigest() != stats["serial_sha256"]:
        serial = serial[:-1]  # the command has ended an unfinished line of the guest
    assert hashlib.sha256(serial).hexdigest() == stats["serial_sha256"]
    return serial, stats
