"""The runs of lessons 8 and 9: guests on one host, and what happens to them at which step.

::

    lesson 8   64 MB, three guests of 24 MB                     lesson 9   96 MB, three guests of 16 MB
    step  1    vm1 on                                           step  1    vm2 and vm3 cloned from vm1
          2    vm2 and vm3 on: 72 MB are promised                     2-6  the scanner looks for equal pages
          4    vm1 only reads 1,500 pages                             ...  every guest rewrites 16 pages
          6    vm2 writes 1,500 pages; the program ends               10   vm3 off
          10   vm2 writes 1,000 pages: another program                12   vm1 off
          12   vm3 writes 3,000 pages
          15   vm1 off
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from vilab.errors import AdminError
from vilab.guests.load import load
from vilab.host.host import Host
from vilab.host.hosted_vm import HostedVm
from vilab.memory.client import MemoryConfig
from vilab.memory.memory_events import PageShared, SharingBroken
from vilab.memory.page_state import PageState
from vilab.memory.scanner import Rate, ScanLimits
from vilab.view.memory_grid import size
from vilab.view.memory_says import seconds
from vilab.view.memory_track import MemoryTrack
from vilab.vmm import translation_path
from vilab.vmm.vm import QuietConsole, VirtualMachine
from vilab.x86 import paging as pg

MILLISECOND_NS, HALF_SECOND_NS, SECOND_NS = 1_000_000, 500_000_000, 1_000_000_000
QUANTUM_NS = 50_000_000
RAMDISK_BYTES = 8 << 20
GUEST_MB, MACHINE_MB = 24, 64
"""Of lesson 8."""
NO_SCAN = ScanLimits(system=Rate(0))
PROGRAM_GVA, HEAP_GVA = 0x0804_8000, 0x0804_D000
"""Where programs of the teaching kernel begin; a page of the memory that one has asked for."""

Plan = Mapping[int, Callable[[MemoryTrack], object]]


def new_host(memory_mb: int, scan: ScanLimits = NO_SCAN) -> Host:
    """A machine without guests. ``scan``: how fast equal pages are looked for."""
    host = Host(memory_mb, quantum_ns=QUANTUM_NS)
    host.memory.scanner.limits = scan
    return host


def power_on(host: Host, name: str, size_mb: int, typed: str = "", reservation_mb: int = 0) -> HostedVm:
    """The teaching kernel with a RAM disk. ``typed`` is what its shell hears first."""
    image = load("kernel-memory", memory_bytes=size_mb << 20, append="hz=10")
    config = MemoryConfig(size_mb, reservation_mb=reservation_mb)
    vm = host.power_on(name, image, config, ramdisk_bytes=RAMDISK_BYTES)
    if typed:
        vm.console.type(typed)
    return vm


def try_power_on(host: Host, name: str, size_mb: int, reservation_mb: int = 0) -> str:
    """What the administrator is told."""
    try:
        power_on(host, name, size_mb, reservation_mb=reservation_mb)
    except AdminError as refused:
        return f"refused: {refused}"
    return f"{name} is on; {host.memory.unreserved_pages() >> 8} MB of the machine are not promised to anybody."


def on(size_mb: int, *names: str) -> Callable[[MemoryTrack], object]:
    """For a plan: these guests are switched on."""

    def all_of_them(host: Host) -> None:
        for name in names:
            power_on(host, name, size_mb)

    return lambda track: track.act(f"{', '.join(names)} on", all_of_them)


def types(name: str, line: str) -> Callable[[MemoryTrack], object]:
    """For a plan: somebody types a line at this guest's shell."""
    return lambda track: track.act(f"{name}: {line}", lambda host: host.vms[name].console.type(line))


# Lesson 8 --------------------------------------------------------------------------------------------------------

UNTIL_TOUCHED: Plan = {
    1: on(GUEST_MB, "vm1"), 2: on(GUEST_MB, "vm2", "vm3"), 4: types("vm1", "zeros 1500 0 10"),
    6: types("vm2", "checksum 1500 2 16 5 2"), 10: types("vm2", "checksum 1000 1 16 5 3"),
    12: types("vm3", "checksum 3000 0 16 10 4"), 15: lambda track: track.power_off("vm1"),
}  # fmt: skip
UNTIL_TOUCHED_STEPS = 15


def until_touched() -> MemoryTrack:
    """Three guests that have more than the machine has, and use little of it. No sharing, nothing is taken back."""
    return MemoryTrack(new_host(MACHINE_MB), HALF_SECOND_NS, UNTIL_TOUCHED)


def all_at_once(pages: int = 4500) -> MemoryTrack:
    """The same three guests, and each writes so many pages. The host has no balloons: it can only page out."""
    plan: Plan = {
        1: on(GUEST_MB, "vm1", "vm2", "vm3"),
        **{at: types(f"vm{at - 1}", f"checksum {pages} 0 16 10 {at - 1}") for at in (2, 3, 4)},
    }
    host = new_host(MACHINE_MB)
    host.memory.reclaimer.ballooning = False
    return MemoryTrack(host, SECOND_NS, plan)


def in_program(vm: VirtualMachine, run_ms: Callable[[], object], ready: Callable[[], bool]) -> None:
    """Let it run, a millisecond at a time, until it is in the middle of a program (CPL 3) and ``ready``."""
    for _ in range(2_000):
        run_ms()
        if vm.engine.vcpu.cpl == 3 and ready():
            return
    raise AdminError("The guest has run for 2 s and was never found in a program: look at what was typed.")


def caught_in_program(size_mb: int = GUEST_MB, pages: int = 1500, frames: int = 900) -> Host:
    """A host with two guests whose programs fill memory at the same time; vm1 is in its own, and has so many frames."""
    host = new_host(MACHINE_MB)
    vm = power_on(host, "vm1", size_mb, f"checksum {pages} 0 16 10 1")
    power_on(host, "vm2", size_mb, f"checksum {pages} 0 16 10 2")
    pmap = vm.client.pmap
    in_program(vm.vm, lambda: host.run_for(MILLISECOND_NS), lambda: pmap.count(PageState.PRIVATE) >= frames)
    return host


def alone_in_program(size_mb: int = GUEST_MB, pages: int = 1500) -> VirtualMachine:
    """The same guest on a machine of its own, without a VMM, in the middle of the same program."""
    keys = QuietConsole()
    keys.type(f"checksum {pages} 0 16 10 1")
    image = load("kernel-memory", memory_bytes=size_mb << 20, append="hz=10")
    vm = VirtualMachine(image, "bare", size_mb << 20, console=keys, ramdisk_bytes=RAMDISK_BYTES)
    in_program(
        vm, lambda: vm.engine.run(vm.clock.now_ns + MILLISECOND_NS),
        lambda: translation_path.path(vm, HEAP_GVA).gpa is not None,
    )  # fmt: skip
    return vm


def way(vm: VirtualMachine, gva: int) -> str:
    """An address through every table, an entry a line."""
    return translation_path.path(vm, gva).describe()


def mapped(vm: VirtualMachine) -> list[int]:
    """Every page of the guest's current program that its tables map, as gva."""
    found = []
    root = vm.engine.vcpu.cr3 & pg.FRAME_MASK
    for index in range(0xC0000000 >> 22):
        pde = vm.pmap.read_u32(root + 4 * index)
        if pde & pg.PRESENT:
            table = pde & pg.FRAME_MASK
            found += [
                index << 22 | at << 12 for at in range(pg.ENTRIES) if vm.pmap.read_u32(table + 4 * at) & pg.PRESENT
            ]
    return found


def three_numbers(vm: HostedVm, gvas: Sequence[int]) -> str:
    """gva, ppn and mpn of some pages, a line each."""
    lines = ["gva        ppn     mpn     state"]
    for gva in gvas:
        found = translation_path.path(vm.vm, gva)
        if found.gpa is None:
            lines.append(f"{gva:08x}   -       -       the guest's tables have nothing")
            continue
        ppn = found.gpa >> 12
        mpn = vm.client.pmap.frame(ppn)
        state = vm.client.pmap.state_of(ppn).name.lower()
        lines.append(f"{gva:08x}   {ppn:05x}   {'-    ' if mpn is None else f'{mpn:05x}'}   {state}")
    return "\n".join(lines)


def mpn_of(vm: HostedVm, gva: int) -> int:
    """The machine frame behind an address of the guest's current program."""
    found = translation_path.path(vm.vm, gva)
    if found.mpn is None:
        raise AdminError(f"There is no frame behind {gva:08x} of {vm.name} now.")
    return found.mpn


# Lesson 9 --------------------------------------------------------------------------------------------------------

SHARING_MB, SHARED_GUEST_MB = 96, 16
LESSON_SCAN = ScanLimits(system=Rate(4000))
CACHED, WRITTEN = 500, 300
TWINS: Plan = {
    1: lambda track: track.act("vm2, vm3 cloned from vm1", _clone_twice),
    10: lambda track: track.power_off("vm3"),
    12: lambda track: track.power_off("vm1"),
}
TWINS_STEPS = 13


def pages_a_second(pages: int) -> ScanLimits:
    """For the scanner, of all guests together."""
    return ScanLimits(system=Rate(pages))


def _clone_twice(host: Host) -> None:
    snapshot = host.vms["vm1"].snapshot()
    for name in ("vm2", "vm3"):
        host.resume(snapshot, name)


def busy_guest(host: Host, name: str = "vm1", cached: int = CACHED, written: int = WRITTEN) -> HostedVm:
    """A guest that has read some files into its cache, and keeps rewriting 16 pages of its own every two seconds."""
    vm = power_on(host, name, SHARED_GUEST_MB, f"filecache 1500 {cached} 1")
    run_until_said(host, name, "ticks of")
    if written:
        host.vms[name].console.type(f"checksum {written} 0 32 20 1")
        run_until_said(host, name, "round 1 ok")
    return vm


def run_until_said(host: Host, name: str, words: str, most_s: int = 60) -> None:
    """Let time pass until the guest has printed this."""
    console, until = host.vms[name].console, host.now_ns + most_s * SECOND_NS
    while words not in console.said and host.now_ns < until:
        host.run_for(HALF_SECOND_NS // 5)
    if words not in console.said:
        raise AdminError(f"{name} has not printed {words!r} within {most_s} s. Its last words: {console.said[-80:]!r}.")


def twins(scan: ScanLimits = LESSON_SCAN) -> MemoryTrack:
    """A guest that has worked for a while; then there are three of it."""
    host = new_host(SHARING_MB, scan)
    busy_guest(host)
    return MemoryTrack(host, SECOND_NS, TWINS)


def story(track: MemoryTrack, name: str, ppn: int) -> str:
    """What happened to one page, an event a line."""
    lines = []
    for frame in track.frames:
        names = {vm.vm_id: vm.name for vm in frame.vms}
        for event in frame.events:
            if not isinstance(event, PageShared | SharingBroken) or event.ppn != ppn or names.get(event.vm) != name:
                continue
            if isinstance(event, PageShared):
                what = f"equal to another: frame {event.from_mpn:05x} is free, {event.sharers} pages on {event.mpn:05x}"
            elif event.mpn == event.from_mpn:
                what = f"a store; nobody else is on frame {event.mpn:05x} any more, so it is its own"
            else:
                what = f"a store: a copy in frame {event.mpn:05x}, {event.sharers} stay on {event.from_mpn:05x}"
            lines.append(f"{seconds(event.at_ns)}  {what}".replace("\xa0", " "))
    return "\n".join(lines) if lines else f"Nothing happened to page {ppn:05x} of {name}."


def most_eventful(track: MemoryTrack, name: str) -> int:
    """The ppn of this guest to which most happened."""
    counts: dict[int, int] = {}
    for frame in track.frames:
        ids = [vm.vm_id for vm in frame.vms if vm.name == name]
        for event in frame.events:
            if isinstance(event, PageShared | SharingBroken) and event.vm in ids:
                counts[event.ppn] = counts.get(event.ppn, 0) + 1
    return min(counts, key=lambda ppn: (-counts[ppn], ppn), default=0)


def scan_times(rates: Mapping[str, ScanLimits], most_s: int = 1800, part: float = 0.9) -> str:
    """How long until that part of what could be shared was found, on the same three guests at each rate.

    MODEL: the guests stand still meanwhile.
    """
    first = new_host(SHARING_MB)
    snapshot = busy_guest(first, written=0).snapshot()
    lines = [f"{'scan rate':24}{'found after 10 s':>18}{f'{part:.0%} found after':>18}"]
    for name, limits in rates.items():
        host = new_host(SHARING_MB, limits)
        for guest in ("vm1", "vm2", "vm3"):
            host.resume(snapshot, guest)
        could, sharing = _could_be_saved(host), host.memory.sharing
        saved: list[int] = []
        while len(saved) < 2 * most_s and (not saved or saved[-1] < part * could or len(saved) < 20):
            host.memory.scanner.ran(HALF_SECOND_NS)
            saved.append(sharing.counts().saved_frames)
        needed = next(
            (f"{(at + 1) / 2:.1f} s" for at, each in enumerate(saved) if each >= part * could), f"> {most_s} s"
        )
        lines.append(f"{name:24}{saved[19] / could:>18.0%}{needed:>18}")
        host.close()
    first.close()
    return "\n".join(lines)


def _could_be_saved(host: Host) -> int:
    """Frames that are equal to another one now."""
    contents = [
        vm.client.pmap.page(ppn)
        for vm in host.vms.values()
        for ppn in range(vm.client.pmap.pages)
        if vm.client.pmap.state_of(ppn) in (PageState.PRIVATE, PageState.SHARED)
    ]
    return len(contents) - len(set(contents))


def summary(track: MemoryTrack) -> str:
    """Configured, touched and paid for, a line a guest."""
    frame = track.frame
    lines = [f"{'':6}{'configured':>12}{'touched':>12}{'monitor':>12}"]
    for vm in frame.vms:
        lines.append(
            f"{vm.name:6}{size(vm.pages):>12}{size(vm.pages - vm.untouched - vm.ballooned):>12}{size(vm.overhead):>12}"
        )
    return "\n".join(lines)
