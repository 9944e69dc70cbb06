"""Checkpoints for going back: the state record, and with it what a run has cached.

A ``VmState`` is enough to go on elsewhere, with empty caches. To go *back* in a lesson, the caches must come along:
otherwise the second pass would translate again what the first had translated long before, and log other events. So a
checkpoint holds the state record, the translations and shadow tables, and the machine memory that both lie in. Memory
is kept as the pages that differ from the first checkpoint's.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import numpy as np

from vilab.addresses import PAGE_BYTES
from vilab.machine.memory import Bytes

if TYPE_CHECKING:
    from vilab.vmm.vm import VirtualMachine, VmState


class Checkpoint:
    """One moment of a run; made by ``Checkpoints.take``."""

    def __init__(
        self, state: VmState, caches: bytes, events: int, pages: dict[int, bytes], tape: tuple[int, int]
    ) -> None:
        self.state = state
        self.caches = caches
        self.events = events
        self.pages = pages
        self.tape = tape


class Checkpoints:
    """The checkpoints of one virtual machine.

    The first one is taken on construction; the machine is brought to its state record first, with empty caches, so
    that a run from it is the same the second time.
    """

    def __init__(self, vm: VirtualMachine) -> None:
        self._vm = vm
        vm.tape.record()
        self._used = vm.machine_memory.size_bytes
        vm.load_state(vm.save_state())
        self._base: Bytes = vm.machine_memory.bytes[: self._used].copy()

    def take(self) -> Checkpoint:
        """The machine as it is now, between two steps."""
        vm = self._vm
        now = vm.machine_memory.bytes[: self._used].reshape(-1, PAGE_BYTES)
        base = self._base.reshape(-1, PAGE_BYTES)
        changed = np.nonzero((now.view(np.uint64) != base.view(np.uint64)).any(axis=1))[0]
        pages = {int(page): now[page].tobytes() for page in changed}
        state = vm.save_state(memory=False)
        caches: dict[str, Any] = vm.engine.save_caches()
        saved = pickle.dumps(caches, pickle.HIGHEST_PROTOCOL)
        return Checkpoint(state, saved, len(vm.log.events), pages, vm.tape.position)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Be that moment again, event log included."""
        vm = self._vm
        active, vm.log.active = vm.log.active, False
        vm.load_state(checkpoint.state, memory=False)
        memory = vm.machine_memory.bytes[: self._used]
        memory[:] = self._base
        for page, data in checkpoint.pages.items():
            vm.machine_memory.write(page * PAGE_BYTES, data)
        vm.engine.load_caches(pickle.loads(checkpoint.caches))
        vm.tape.position = checkpoint.tape
        vm.cpu.forget_code()
        vm.cpu.flush_tlb()
        vm.log.active = active
        del vm.log.events[checkpoint.events :]
