"""The runs of lesson 10: hosts that take memory back from guests that would rather keep it.

::

    working   3,300 of 16 MB's pages in a program that goes on using them
    finished  the same program has ended: its pages are free in the guest, and the host cannot know
    cramped   a program larger than the guest: the guest pages by itself, to a disk of its own

Every guest prints its kernel's counters once a second (``memory 1``): ``counters`` reads them off its console, so what
they say is the guest's own word. The rest of a run is a ``MemoryTrack``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import resources

import msgspec

from vilab.course.feedback import columns
from vilab.errors import AdminError
from vilab.events import EventLog
from vilab.guests.load import load
from vilab.host.host import SVM_MONITOR_BYTES, Host
from vilab.host.hosted_vm import HostedVm
from vilab.memory.client import MB_PAGES, MemoryConfig
from vilab.memory.page_state import PageState
from vilab.view.memory_track import MemoryTrack

SECOND = 1_000_000_000
QUANTUM_NS = 50_000_000
HZ = 8
COUNTERS = 20
"""So many has the kernel; a block in which another program's words stand is left out."""
WORKING = "together checksum 3300 0 128 4 {seed} 0 + memory 1"
FINISHED = "together memory 1 + checksum 3300 1 4 1 {seed} 0"
CRAMPED = "together checksum 3900 0 128 4 {seed} 0 + memory 1"
PRESSURE_MB = {2: 3.0} | {step: 3.0 + 0.375 * (step - 2) for step in range(3, 20)}
"""At the beginning of which step the vmkernel wants how much: so little more that balloons can keep up."""


def start(
    host: Host, name: str, program: str, size_mb: int = 16, *, disk_mb: int = 16, boot: str = "",
    config: MemoryConfig | None = None, log: EventLog | None = None,
) -> HostedVm:  # fmt: skip
    """The teaching kernel with balloon and swap, running a program. Its ticks are 125 ms."""
    config = config or MemoryConfig(size_mb)
    append = f"hz={HZ} {boot} init={program}"
    image = load("kernel-memory", memory_bytes=config.size_mb << 20, append=append)
    return host.power_on(name, image, config, ramdisk_bytes=disk_mb << 20, log=log)


# A host that takes memory back ------------------------------------------------------------------------------------


def pressed(
    programs: Mapping[str, str], *, ballooning: bool = True, guests_mb: int = 32, log: EventLog | None = None,
    pressure_mb: Mapping[int, float] = PRESSURE_MB, step_ns: int = SECOND,
) -> MemoryTrack:  # fmt: skip
    """A host with these guests, which have run for three seconds, and a vmkernel that wants more and more.

    ``guests_mb``: what is left of the machine when each guest's monitor has its part.
    """
    monitors_mb = -(-len(programs) * SVM_MONITOR_BYTES // (1 << 20))
    host = Host(guests_mb + monitors_mb, quantum_ns=QUANTUM_NS, log=log)
    host.memory.reclaimer.ballooning = ballooning
    for seed, (name, program) in enumerate(programs.items(), 1):
        start(host, name, program.format(seed=seed))
    host.run_for(3 * SECOND)

    def press(mb: float) -> object:
        return lambda track: track.set_pressure(round(mb * MB_PAGES))

    return MemoryTrack(host, step_ns, {step: press(mb) for step, mb in pressure_mb.items()})  # type: ignore[misc]


def touch_ballooned(track: MemoryTrack, name: str) -> int:
    """What no guest should do: use a page that is in its balloon. Done in the guest's place; gives the page."""
    pmap = track.host.vms[name].client.pmap
    found = [ppn for ppn in range(pmap.pages) if pmap.state_of(ppn) is PageState.BALLOONED]
    if not found:
        raise AdminError(f"{name} has no page in its balloon.")
    track.act(f"{name} touches page {found[0]:05x}, which is in its balloon", lambda _: pmap.resolve(found[0], False))
    return found[0]


# The guest's own word ---------------------------------------------------------------------------------------------


def blocks(hosted: HostedVm) -> list[dict[str, int]]:
    """Its counters, once for each time that it has printed all of them."""
    found: list[dict[str, int]] = []
    now: dict[str, int] = {}
    for name, value in re.findall(r"([a-z_]+) (\d+)$", hosted.console.said, re.MULTILINE):
        now[name] = int(value)
        if name == "ticks_a_second":
            if len(now) >= COUNTERS:
                found.append(now)
            now = {}
    return found


def counters(hosted: HostedVm) -> dict[str, int]:
    """What it has printed last."""
    return blocks(hosted)[-1]


def counters_text(track: MemoryTrack, name: str, wanted: Sequence[str], every: int = 3) -> str:
    """The guest's counters through the run, and the host's count of the balloon beside them."""
    hosted = track.host.vms[name]
    rows = [(f"{name}: second", *(each.replace("_pages", "") for each in wanted), "host: balloon")]
    printed = {round(block["ticks"] / block["ticks_a_second"]): block for block in blocks(hosted)}
    for frame in track.frames[::every]:
        second = round((frame.at_ns - hosted.started_ns) / SECOND)
        vm = frame.vm(name)
        if second - 1 in printed and vm is not None:
            block = printed[second - 1]
            rows.append((str(second), *(f"{block[each]:,}" for each in wanted), f"{vm.ballooned:,}"))
    return "\n".join(columns(rows))


def rounds(hosted: HostedVm) -> int:
    """How many times ``checksum`` has gone through its pages and found them right."""
    return len(re.findall(r"round \d+ ok", hosted.console.said))


# The driver's source ----------------------------------------------------------------------------------------------


def source(file: str, function: str) -> str:
    """One function of the teaching kernel, as it stands in its file."""
    text = resources.files("vilab.guests").joinpath("kernel", file).read_text(encoding="utf-8")
    found = re.search(rf"^(?:/\*[^\n]*\*/\n)?[^\n]*\b{function}\([^\n]*\)\n\{{.*?^\}}", text, re.MULTILINE | re.DOTALL)
    if found is None:
        raise AdminError(f"There is no function {function} in {file}.")
    return found[0]


def limited(track: MemoryTrack, name: str, limit_mb: int | None) -> str:
    """Set a machine's limit."""
    client = track.host.vms[name].client
    config = msgspec.structs.replace(client.config, limit_mb=limit_mb)
    words = f"{name}'s limit → {limit_mb or config.size_mb} MB"
    return track.act(words, lambda host: host.memory.configure(client, config))
