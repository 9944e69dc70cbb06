"""May this machine move from here to there? Every precondition of VMotion, each a function; what is unmet, a sentence.

::

    not_running          it runs, and its snapshots or its folder are not being moved about
    same_host            there are two hosts
    name_taken           nobody has its name there
    busy                 at most two migrations a host at a time (VI3)
    vmotion_ports        both hosts have a VMkernel port for VMotion, in one network
    no_shared_files      its files are on a datastore: their locks say whose it is
    datastores           the destination has the same datastores, by identity, under the same names
    disk_backings        no disk forgets what is written, none is a LUN in physical mode, every mapped LUN is seen
    port_groups          the same port groups, with the same VLAN, and nothing forbidden that the guest relies on
    card_backings        no connected card is in a network that ends at the host
    engine               the destination has its engine
    cpu                  the processor there can do all that the guest has been shown
    memory_reservation   machine memory for its reservation, disk space for its swap file

Nothing is touched: hosts and machine are described (``descriptions``), and the descriptions compared. Memory and RAM
disk are the machine's own state and go with it. Source: VMware, Basic System Administration (VI3), "Migration with
VMotion requirements"; VI SDK 2.5, faults of ``QueryVMotionCompatibility``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from vilab.errors import AdminError
from vilab.memory.admission import PowerOn, Room, admit
from vilab.memory.client import MB_PAGES
from vilab.migration.compatibility_files import datastores, disk_backings, no_shared_files
from vilab.migration.compatibility_networks import card_backings, port_groups, vmotion_ports
from vilab.migration.descriptions import HostDescription, VmDescription
from vilab.migration.options import MOST_MIGRATIONS

Precondition = Callable[[VmDescription, HostDescription, HostDescription], Iterator[str]]


class Unmet(msgspec.Struct, frozen=True):
    """``precondition``: the function's name."""

    precondition: str
    sentence: str


def check(vm: VmDescription, source: HostDescription, destination: HostDescription) -> list[str]:
    """Why the machine cannot move, in sentences; empty: it may."""
    return [each.sentence for each in unmet(vm, source, destination)]


def unmet(vm: VmDescription, source: HostDescription, destination: HostDescription) -> list[Unmet]:
    """The same, with the names of the preconditions."""
    return [
        Unmet(precondition.__name__, sentence)
        for precondition in PRECONDITIONS
        for sentence in precondition(vm, source, destination)
    ]


def not_running(vm: VmDescription, source: HostDescription, destination: HostDescription) -> Iterator[str]:
    if vm.why_off:
        yield (
            f"{vm.name} does not run on {source.name} ({vm.why_off.rstrip('.')}), so that there is nothing to move: "
            f"power it on on {destination.name}."
        )
    if vm.merging:
        yield (
            f"Snapshots of {vm.name} are being merged on {source.name}, or its folder is being moved or cloned, and "
            f"{destination.name} could not go on with that: wait until it has been done."
        )


def same_host(vm: VmDescription, source: HostDescription, destination: HostDescription) -> Iterator[str]:
    if source.name == destination.name:
        yield f"{vm.name} runs on {source.name}, and {destination.name} is the same host: choose another one."


def name_taken(vm: VmDescription, source: HostDescription, destination: HostDescription) -> Iterator[str]:
    if vm.name in destination.machines and source.name != destination.name:
        yield (
            f"{destination.name} has a virtual machine {vm.name} already, and the one of {source.name} has the same "
            "name: give one of them another."
        )


def busy(vm: VmDescription, source: HostDescription, destination: HostDescription) -> Iterator[str]:
    for host, other in ((source, destination), (destination, source)):
        if host.migrations >= MOST_MIGRATIONS:
            yield (
                f"{host.name} takes part in {host.migrations} migrations, and {MOST_MIGRATIONS} at a time is the most: "
                f"move {vm.name} between it and {other.name} when one of them is over."
            )


def engine(vm: VmDescription, source: HostDescription, destination: HostDescription) -> Iterator[str]:
    if vm.engine not in destination.engines:
        yield (
            f"{vm.name} runs in the engine {vm.engine} on {source.name}, and {destination.name} has "
            f"{', '.join(destination.engines) or 'none'}: power it on with one that both have."
        )


def cpu(vm: VmDescription, source: HostDescription, destination: HostDescription) -> Iterator[str]:
    there = destination.cpu
    if vm.cpu.vendor != there.vendor:
        yield (
            f"{vm.name} runs on a processor of {vm.cpu.vendor} on {source.name}, and {destination.name} has one of "
            f"{there.vendor}: choose a host with a processor of the same vendor."
        )
    missing = there.missing(vm.cpu)
    if missing:
        yield (
            f"The guest of {vm.name} was shown {' and '.join(missing)} on {source.name}, which the processor of "
            f"{destination.name} does not have: power it off, hide {'it' if len(missing) == 1 else 'them'} from the "
            "machine, and power it on again."
        )
    if vm.cpu.tsc_khz and vm.cpu.tsc_khz != there.tsc_khz:
        yield (
            f"The time-stamp counter of {vm.name} counts {vm.cpu.tsc_khz} in a millisecond on {source.name}, the one "
            f"of {destination.name} {there.tsc_khz}: its guest's time would run at another rate. Power it off to move "
            "it."
        )


def memory_reservation(vm: VmDescription, source: HostDescription, destination: HostDescription) -> Iterator[str]:
    """What ``Host.power_on`` there would say. MODEL: nothing for VMotion itself is reserved."""
    request = PowerOn(
        vm.name, vm.config.size_mb * MB_PAGES, vm.config.min_pages, vm.config.max_pages, vm.overhead_pages
    )
    room = Room(destination.unreserved_pages, f"of {destination.name}", destination.swap_room_pages)
    try:
        admit(request, room)
    except AdminError as error:
        short = str(error).removeprefix(f"{vm.name} cannot be powered on: ")
        yield f"{vm.name} of {source.name} has no room on {destination.name}: {short}"


PRECONDITIONS: tuple[Precondition, ...] = (
    not_running, same_host, name_taken, busy, vmotion_ports, no_shared_files, datastores, disk_backings, port_groups,
    card_backings, engine, cpu, memory_reservation,
)  # fmt: skip
