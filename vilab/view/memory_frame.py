"""A host's memory at one moment, as a value: what a picture is drawn from, and what a run keeps of itself.

::

    Host ──capture──> MemoryFrame    free pages, state, tax, the frame table
                        └─ VmFrame   for each virtual machine: its pages by state, target, balloon, ...
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from vilab.events import Event
from vilab.host.host import Host
from vilab.host.hosted_vm import HostedVm
from vilab.memory import sampling
from vilab.memory.client import MemoryConfig
from vilab.memory.free_states import FreeState
from vilab.memory.page_state import PageState
from vilab.memory.sharing import SharingCounts

Array = npt.NDArray[Any]


class Packed(msgspec.Struct, frozen=True):
    """An array as a value: a frame keeps a million pages in some ten kilobytes."""

    kind: str
    data: bytes

    @classmethod
    def of(cls, array: Array) -> Packed:
        return cls(array.dtype.str, zlib.compress(array.tobytes(), 1))

    def array(self) -> Array:
        return np.frombuffer(zlib.decompress(self.data), np.dtype(self.kind))


class VmFrame(msgspec.Struct, frozen=True):
    """One virtual machine at one moment. Everything is in pages but what says otherwise.

    ``counts``: pages by ``PageState``, in its order. ``swapped_out``, ``swapped_in``, ``double_paged``: since it was
    powered on. ``zero``: those of its SHARED pages that are all zeros. ``states``: a ``PageState`` a byte, by ppn.
    ``shared_on``: of its SHARED pages, in order, the frames.
    """

    vm_id: int
    name: str
    config: MemoryConfig
    pages: int
    overhead: int
    counts: tuple[int, ...]
    charged: int
    target: int
    active: int
    balloon_target: int
    can_balloon: bool
    swapped_out: int
    swapped_in: int
    double_paged: int
    blocked: bool
    stopped: str
    zero: int
    states: Packed
    shared_on: Packed

    def count(self, state: PageState) -> int:
        return self.counts[state]

    @property
    def untouched(self) -> int:
        return self.counts[PageState.UNTOUCHED]

    @property
    def private(self) -> int:
        return self.counts[PageState.PRIVATE]

    @property
    def shared(self) -> int:
        return self.counts[PageState.SHARED]

    @property
    def ballooned(self) -> int:
        return self.counts[PageState.BALLOONED]

    @property
    def swapped(self) -> int:
        return self.counts[PageState.SWAPPED]


class MemoryFrame(msgspec.Struct, frozen=True):
    """The host's memory at one moment.

    ``total_pages``: what the vmkernel has not kept for itself; percentages of free memory are of it.
    ``machine_pages``: all. ``use``, ``owner``, ``who``: the frame table; ``zero_frame``: the shared page of zeros, -1
    for none. ``events``: of the memory manager since the frame before; ``actions``: what was done by hand since then,
    in words, and what was refused.
    """

    number: int
    at_ns: int
    machine_pages: int
    total_pages: int
    free_pages: int
    state: FreeState
    tax: float
    pressure_pages: int
    vms: tuple[VmFrame, ...]
    sharing: SharingCounts
    use: Packed
    owner: Packed
    who: Packed
    zero_frame: int = -1
    events: tuple[Event, ...] = ()
    actions: tuple[str, ...] = ()

    @property
    def free_percent(self) -> float:
        return 100 * self.free_pages / self.total_pages

    def vm(self, name: str) -> VmFrame | None:
        return next((vm for vm in self.vms if vm.name == name), None)

    def vm_of(self, vm_id: int) -> VmFrame | None:
        return next((vm for vm in self.vms if vm.vm_id == vm_id), None)

    def sharers(self, mpn: int) -> list[tuple[str, int]]:
        """(name, ppn) of every page on a shared frame."""
        found = []
        for vm in self.vms:
            ppns = np.flatnonzero(vm.states.array() == PageState.SHARED)[vm.shared_on.array() == mpn]
            found += [(vm.name, int(ppn)) for ppn in ppns]
        return found


def capture(host: Host, number: int, events: Sequence[Event], actions: Sequence[str]) -> MemoryFrame:
    """The host as it is now, moment ``number`` of a run."""
    memory = host.memory
    table, zero = memory.frames, memory.sharing.zero_frame()
    return MemoryFrame(
        number, host.now_ns, table.frames, memory.total_pages, memory.free_pages, memory.reclaimer.state,
        memory.reclaimer.tax, memory.kept_pages, tuple(_capture_vm(host, vm, zero) for vm in host.vms.values()),
        memory.sharing.counts(), Packed.of(table.use), Packed.of(table.owner), Packed.of(table.who), zero,
        tuple(events), tuple(actions),
    )  # fmt: skip


def _capture_vm(host: Host, hosted: HostedVm, zero: int) -> VmFrame:
    client, pmap = hosted.client, hosted.client.pmap
    states = pmap.states
    shared_on = np.array(pmap.mpn_of, np.int32)[states == PageState.SHARED]
    return VmFrame(
        client.vm_id, hosted.name, client.config, pmap.pages, len(client.overhead),
        tuple(np.bincount(states, minlength=len(PageState)).tolist()),
        host.memory.charged_pages(client), client.target_pages, sampling.active_pages(client.sampler),
        client.balloon.target_pages, client.can_balloon(), client.swapped_out, client.swapped_in,
        client.double_paged, client.blocked, hosted.stopped,
        int(np.count_nonzero(shared_on == zero)), Packed.of(states), Packed.of(shared_on),
    )  # fmt: skip


def curve(frames: Sequence[MemoryFrame], value: Callable[[MemoryFrame], float]) -> tuple[list[float], list[float]]:
    """Seconds and a value at each recorded moment, for a chart."""
    return [frame.at_ns / 1e9 for frame in frames], [value(frame) for frame in frames]
