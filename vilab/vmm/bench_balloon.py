"""How long a balloon takes: a stock Linux with ``vmw_balloon``, and a host that manages nothing but its pages.

::

    boot ──> insmod ──> 300 s pass ──> clone ──> RESET, START ──> target ──> 512 pages a call ──> target 0 ──> back
                                                                  └─────────── what is measured ────────────┘

The driver does not inflate while ``jiffies`` is negative, which in Linux are the first 300 s. They pass at once: the
guest is held up for so long, as a virtual machine is that was suspended, and its kernel makes up for the ticks. (Ticks
that it has to take one by one, as with ``nohz=off highres=off``, are 75,000 interrupts.)
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from vilab.addresses import PAGE_SHIFT, Mpn, Ppn
from vilab.errors import GuestStopped, VmmBug
from vilab.events import EventLog
from vilab.guests import debian, debian_root
from vilab.guests.image import LoadedImage
from vilab.machine.memory import MachineMemory
from vilab.memory.balloon import CAN_DO, BalloonServer
from vilab.memory.balloon_protocol import Capability
from vilab.memory.frame_table import FrameTable
from vilab.memory.grant import MemoryGrant
from vilab.memory.managed_pmap import ManagedPmap
from vilab.memory.page_state import PageState
from vilab.vmm.choices import usual_for
from vilab.vmm.runner import RunOptions, choose
from vilab.vmm.vm import MONITOR_BYTES, QuietConsole, VirtualMachine, VmState

SLACK_PAGES = 1024
"""Less than this too much in the balloon the driver leaves there, unless it is to be empty: a large page, 4 MB without
PAE."""
STEP_NS = 20_000_000
HELD_UP_NS = 301_000_000_000
MODULES = ("vmw_vmci", "vmw_balloon")
APPEND = "nosoftlockup"
"""Or the kernel would complain of the time that it did not run."""


class OneGuest:
    """A machine with one guest's pages, zero on demand, and a balloon in it: the least that a host can be."""

    def __init__(self, memory_bytes: int, offered: Capability = CAN_DO, log: EventLog | None = None) -> None:
        self.frames = FrameTable(MachineMemory(memory_bytes + MONITOR_BYTES + (1 << 20)), 1)
        self.pmap = ManagedPmap(self.frames.memory, 1, memory_bytes >> PAGE_SHIFT, self)
        self.balloon = BalloonServer(1, self.pmap.pages, offered)
        self.now_ns: Callable[[], int] = int
        self.balloon.connect(self.release, self._stop, log if log is not None else EventLog(), lambda: self.now_ns())
        monitor = self.frames.take_overhead(1, MONITOR_BYTES >> PAGE_SHIFT)
        self.grant = MemoryGrant(self.frames.memory, monitor, self.pmap, range(0), self.balloon)

    def page_needed(self, pmap: ManagedPmap, ppn: Ppn, for_write: bool) -> None:
        """``PageSupply``."""
        if pmap.state_of(ppn) is PageState.BALLOONED:
            self.balloon.popped(ppn)
        pmap.give(ppn, self.frames.take_private(pmap.vm_id, ppn), PageState.PRIVATE)

    def pages_needed(self, pmap: ManagedPmap, ppns: npt.NDArray[np.int64]) -> int:
        return 0

    def page_touched(self, pmap: ManagedPmap, ppn: Ppn) -> None:
        """``PageSupply``."""

    def peek(self, pmap: ManagedPmap, ppn: Ppn) -> bytes:
        """``PageSupply``."""
        return bytes(1 << PAGE_SHIFT)

    def release(self, pmap: ManagedPmap, ppn: Ppn, state: PageState) -> None:
        """A frame less, if the page had one."""
        if pmap.frame(ppn) is None:
            pmap.mark(ppn, state)
        else:
            mpn: Mpn = pmap.take_away(ppn, state)
            self.frames.leave(mpn)

    def _stop(self, sentence: str) -> None:
        raise GuestStopped(sentence)


class Talk(QuietConsole):
    """Types lines at a guest's shell and hears what it answers. The guest only runs while it is spoken to."""

    def __init__(self, prompt: bytes = debian_root.PROMPT) -> None:
        super().__init__()
        self.prompt = prompt

    def until_prompt(self, vm: VirtualMachine) -> str:
        """Run until the guest asks for a line; all that it has said before."""
        while self.prompt not in self.output:
            ended = vm.engine.run(vm.engine.now_ns() + STEP_NS)
            if ended is not None:
                raise GuestStopped(f"The guest was to be asked something: {ended.sentence}")
        said, _, rest = bytes(self.output).partition(self.prompt)
        self.output[:] = rest
        return said.decode("latin-1").replace("\r", "").replace(debian_root.ASKS_CURSOR.decode(), "")

    def ask(self, vm: VirtualMachine, line: str) -> str:
        """What the guest answers, without the echo of the question."""
        self.type(line)
        return self.until_prompt(vm).partition("\n")[2]


class Booted(msgspec.Struct, frozen=True):
    """A Debian guest at its prompt with the balloon driver loaded, later than its first 300 s. Any engine goes on
    with it."""

    image: LoadedImage
    memory_bytes: int
    state: VmState


@dataclass
class BalloonedGuest:
    """A guest that goes on from there on a machine of its own."""

    vm: VirtualMachine
    host: OneGuest
    talk: Talk

    def ask(self, line: str) -> str:
        return self.talk.ask(self.vm, line)

    def run_until(self, done: Callable[[], bool], most_s: int = 30) -> bool:
        """False: so many seconds of virtual time have passed, and it is not done."""
        end_ns = self.vm.engine.now_ns() + most_s * 1_000_000_000
        while not done() and self.vm.engine.now_ns() < end_ns:
            self.vm.engine.run(self.vm.engine.now_ns() + STEP_NS)
        return done()

    def reach(self, target_pages: int, most_s: int = 30) -> bool:
        """Set a target, and run until the driver has done what it does about it."""
        balloon = self.host.balloon
        slack = SLACK_PAGES if 0 < target_pages < balloon.locked_pages else 1
        balloon.set_target(target_pages)
        return self.run_until(lambda: target_pages <= balloon.locked_pages < target_pages + slack, most_s)


def boot(memory_bytes: int) -> Booted:
    """Boot under AMD-V, the quickest. Raises ``AdminError`` if the Debian guest is not there."""
    # For bt, so that the guest stays out of the monitor's window wherever it goes on.
    chosen = choose(RunOptions(debian.NAME, "bt", memory_bytes, append=APPEND))
    host, talk = OneGuest(memory_bytes), Talk()
    vm = VirtualMachine(chosen.image, "svm", memory_bytes, console=talk, grant=host.grant)
    try:
        talk.until_prompt(vm)
        for line in ("dmesg -n 1; stty cols 250", "true", *(f"insmod /modules/{name}.ko" for name in MODULES)):
            talk.ask(vm, line)
        hold_up(vm, HELD_UP_NS)
        vm.engine.run(vm.engine.now_ns() + 3_000_000_000)
        if not host.balloon.active:
            raise VmmBug("The guest's balloon driver was loaded, and has not started.")
        return Booted(chosen.image, memory_bytes, vm.save_state())
    finally:
        vm.close()


def clone(
    booted: Booted, engine: str = "svm", offered: Capability = CAN_DO, log: EventLog | None = None
) -> BalloonedGuest:
    """Its driver is told RESET by the new host, and starts again."""
    host, talk = OneGuest(booted.memory_bytes, offered, log), Talk()
    options = usual_for(booted.image.kind, engine, {})
    vm = VirtualMachine(
        booted.image, engine, booted.memory_bytes, console=talk, log=log, grant=host.grant, engine_options=options,
    )  # fmt: skip
    vm.load_state(booted.state)
    host.now_ns = vm.engine.now_ns
    return BalloonedGuest(vm, host, talk)


def hold_up(vm: VirtualMachine, ns: int) -> None:
    """Virtual time passes, and the guest does not run."""
    vm.engine.offset_ns += ns
    vm.engine.sync_clock()


def measure(megabytes: int = 100, memory_mb: int = 192) -> dict[str, Any]:
    """Seconds of wall time from the target to the last page, and back to an empty balloon, and the counts behind them.

    Raises
    ------
    AdminError : the Debian guest is not there. VmmBug : the balloon does not fill.
    """
    guest = clone(boot(memory_mb << 20))
    pages = megabytes * 256
    try:
        state = guest.host.balloon.state
        if not guest.run_until(lambda: guest.host.balloon.active):
            raise VmmBug("The guest's balloon driver does not start again.")
        figures: dict[str, Any] = {"unit": "s", "pages": pages}
        for name, target in (("inflate", pages), ("deflate", 0)):
            calls, virtual_ns = state.calls, guest.vm.engine.now_ns()
            start, cpu = time.perf_counter(), time.process_time()
            if not guest.reach(target):
                raise VmmBug(f"The balloon has {state.locked_pages} pages where it should have {target}.")
            figures[name] = {
                "wall_s": round(time.perf_counter() - start, 4),
                "cpu_s": round(time.process_time() - cpu, 4),
                "virtual_s": round((guest.vm.engine.now_ns() - virtual_ns) / 1e9, 3),
                "calls": state.calls - calls,
            }
        figures["guest_pages"] = state.guest_pages
        figures["value"] = figures["inflate"]["wall_s"]
        return figures
    finally:
        guest.vm.close()
