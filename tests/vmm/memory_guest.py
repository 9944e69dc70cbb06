"""A small guest with the teaching kernel that swaps, and a host for its balloon that checks what the driver says."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

from vilab.events import EventLog
from vilab.guests.load import load
from vilab.memory.balloon_protocol import Capability, Command, Status
from vilab.memory.pmap import Pmap
from vilab.vmm.vm import QuietConsole, VirtualMachine

ENGINES = ("bare", "bt", "svm")
SMALL_BYTES = 4 << 20
SMALL_PAGES = SMALL_BYTES >> 12
DISK_BYTES = 8 << 20
KEPT_FREE_PAGES = 32
"""``balloon.c``: so many stay free whatever the host wants."""


class FakeHost:
    """A host's end of the balloon that checks what the driver says. ``answers``: statuses for the next LOCKs."""

    def __init__(self, target: int = 0) -> None:
        self.target = target
        self.answers: list[Status] = []
        self.inside: set[int] = set()
        self.calls: Counter[int] = Counter()
        self.reset = False
        self.started = False
        self.guest_pages = 0
        self.refused: list[int] = []
        self.wrong: list[str] = []
        self.most_inside = 0

    def call(self, command: int, first: int, second: int, pmap: Pmap) -> tuple[int, int, int]:
        self.calls[command] += 1
        if command == Command.START:
            if first != Capability.BASIC:
                self.wrong.append(f"asks for capabilities {first:#x}")
            self.inside.clear()
            self.started, self.reset = True, False
            return Status.STARTED, 0xDEAD, Capability.BASIC
        if self.reset or not self.started:
            return Status.RESET, 0xDEAD, command
        if command == Command.GUEST_ID:
            return Status.OK, 0xDEAD, command
        if command == Command.GET_TARGET:
            self.guest_pages = first
            return Status.OK, self.target, command
        if command not in (Command.LOCK, Command.UNLOCK):
            self.wrong.append(f"command {command}")
            return Status.COMMAND_INVALID, 0, command
        return (self._lock(first) if command == Command.LOCK else self._unlock(first)), self.target, command

    def _lock(self, ppn: int) -> Status:
        if ppn >= SMALL_PAGES or ppn in self.inside:
            self.wrong.append(f"locks {ppn:#x}")
        if self.answers:
            answer = self.answers.pop(0)
            if answer is Status.RESET:
                self.reset = True
            if answer is not Status.OK:
                self.refused.append(ppn)
                return answer
        self.inside.add(ppn)
        self.most_inside = max(self.most_inside, len(self.inside))
        return Status.OK

    def _unlock(self, ppn: int) -> Status:
        if ppn not in self.inside:
            self.wrong.append(f"unlocks {ppn:#x}")
        self.inside.discard(ppn)
        return Status.OK


class Guest:
    """A kernel-memory of 4 MB with a disk, and a host if one is given."""

    def __init__(
        self, command_line: str, engine: str = "bare", host: FakeHost | None = None, disk_bytes: int = DISK_BYTES,
        log: EventLog | None = None, latency_ns: int | None = None,
    ) -> None:  # fmt: skip
        image = load("kernel-memory", memory_bytes=SMALL_BYTES, append=command_line)
        self.console = QuietConsole()
        self.vm = VirtualMachine(
            image, engine, SMALL_BYTES, console=self.console, log=log, ramdisk_bytes=disk_bytes
        )  # fmt: skip
        self.vm.grant.balloon = host
        if latency_ns is not None:
            assert self.vm.pc.ramdisk is not None
            self.vm.pc.ramdisk.latency_ns = latency_ns

    @property
    def output(self) -> str:
        return self.console.output.decode().replace("\r\n", "\n")

    def run(self) -> str:
        """Until it has switched itself off."""
        ended = self.vm.engine.run()
        assert ended.reason == "powered_off", self.output
        return self.output

    def run_until(self, condition: Callable[[], bool], step_ns: int = 100_000_000, most_steps: int = 600) -> None:
        """In steps of virtual time."""
        for _ in range(most_steps):
            if condition():
                return
            stop = self.vm.clock.at(self.vm.clock.now_ns + step_ns, self.vm.engine.pause)
            ended = self.vm.engine.run()
            stop.cancel()
            assert ended is None or ended.reason == "paused", ended
        raise AssertionError(f"it has not come to that: {self.output[-2000:]}")

    def counters(self) -> dict[str, int]:
        """What ``memory`` has printed last, a whole block of it."""
        return counters(self.output)


def counters(output: str) -> dict[str, int]:
    block = output[: output.rindex("ticks_a_second")].rpartition("memory_pages")[2]
    return {"memory_pages": SMALL_PAGES} | {
        name: int(value) for name, value in re.findall(r"^(\w+) (\d+)$", block, re.MULTILINE)
    }
