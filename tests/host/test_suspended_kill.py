"""A host that suspends and resumes a machine over and over is killed at any moment; the next one finds it as it has to
be: suspended, as it was said to be, or as after a power cut, with all that was safe on its disk."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

KILLS = int(os.environ.get("VILAB_SUSPEND_KILLS", "12"))


class Hosts:
    """One after the other, in processes. ``said``: by the last one."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.host.suspended_process", str(folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.said: list[list[str]] = []

    def start(self) -> int:
        """Its number."""
        self.said = []
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return int(self.line()[1])

    def line(self) -> list[str]:
        words = self.process.stdout.readline().split()
        assert words, "the process that makes hosts has ended"
        if words != ["gone"]:
            self.said.append(words)
        return words

    def until(self, word: str, times: int = 1) -> None:
        while times:
            times -= self.line()[0] == word

    def end(self, number: int) -> None:
        os.kill(number, signal.SIGKILL)
        while self.line() != ["gone"]:
            pass

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(20)
        self.process.stdout.close()


def check(before: list[list[str]], now: list[list[str]]) -> bool:
    """What the host that was killed has said, and the next one. Was it resumed?"""
    last, (on, has) = before[-1], now[1:3]
    written = [int(words[1]) for words in before if words[0] in ("wrote", "has")]
    resumed = on[1] == "resumed"
    match last[0]:
        case "suspended":
            assert resumed
        case "on" | "has" | "wrote":
            assert not resumed
        case word:
            assert word in ("suspending", "resuming")
    if resumed:
        assert on[2:] == last[1:]
    assert written[-1] <= int(has[1]) <= written[-1] + (last[0] in ("has", "wrote", "on"))
    return resumed


def test_a_host_is_killed_at_any_moment(tmp_path: Path) -> None:
    lot, hosts, counts = random.Random(), Hosts(tmp_path), {True: 0, False: 0}
    before: list[list[str]] = []
    try:
        for number in range(KILLS + 1):
            pid = hosts.start()
            hosts.until("has")
            if before:
                counts[check(before, hosts.said)] += 1
            hosts.until(lot.choice(["suspending", "resuming"]), lot.randint(1, 2))
            time.sleep(lot.uniform(0, 0.12 if number % 2 else 0.03))
            hosts.end(pid)
            before = hosts.said
    finally:
        hosts.close()
    print(f"resumed {counts[True]}, anew {counts[False]}")
    assert sum(counts.values()) == KILLS
