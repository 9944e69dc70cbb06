"""A suspended machine is a file beside its configuration: ``web.vmss``. Who powers the machine on goes on from there.

::

                                        after a power cut at this point, the next power-on
    disks flushed, state taken          starts it anew, disks as after a power cut
    .vilab-web.vmss   written, synced   the same; this file is removed
    web.vmss          renamed           the same; this file is removed
    web.vmx           says so           goes on from web.vmss: it is suspended
    powered off                         the same
    ── another power-on, on any host that sees the datastore ────────────────────────────
    locked, read, checked, loaded       goes on from web.vmss
    web.vmx           says it no more   starts it anew, disks as they were: no instruction was executed since
    web.vmss          removed           the same
    it runs                             the same, disks as after a power cut

The one step that counts is the replacement of ``web.vmx``, to ``checkpoint.vmState = "web.vmss"`` (as ESX has it) and
back. ``vilab.suspension.number`` says which suspension it is: another machine's file, or an older one, is refused. A
state is refused, too, whose disks were written to since, which their content identifiers tell (``VmDisks.seal``), or
that this host's processor or the configuration does not fit. Everything stays as it is then: the machine can be resumed
elsewhere, or powered on without its state.

MODEL: who gives the disks' content another meaning without their CIDs (a program that opens ``web-flat.vmdk`` itself)
is not noticed. What was typed at the serial line and not read yet is not in the file.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import msgspec

from vilab.errors import AdminError
from vilab.events import EventLog
from vilab.host.cpu_features import CpuFeatures, host_features, vm_features
from vilab.host.host import Host
from vilab.host.hosted_disk import HostedDisk
from vilab.host.hosted_vm import HostedVm, Snapshot
from vilab.host.state_parts import from_parts, to_parts
from vilab.host.suspension import NUMBER_KEY, Suspension, pending_path, say, withdraw, write_config
from vilab.host.vm_disks import VmDisks
from vilab.host.vm_home import VmHome
from vilab.host.vm_move import read_record
from vilab.host.vmx_network import CardSettings
from vilab.memory.client import MemoryConfig
from vilab.protocols import Console
from vilab.storage.disks import vmsn
from vilab.storage.still_held import StillHeld
from vilab.vmm.vm import ENGINES


class Suspended(msgspec.Struct, frozen=True):
    """What has to be there where the machine goes on. ``host``: where it was suspended. ``cids``: content identifiers
    of its disks, by node. ``disconnected``: numbers of cards that the administrator has disconnected."""

    host: str
    engine: str
    cpu: CpuFeatures
    cids: dict[str, int | None]
    cards: tuple[CardSettings, ...]
    disconnected: tuple[int, ...] = ()


# --- suspend ----------------------------------------------------------------------------------------------------------


def suspend_file(host: Host, hosted: HostedVm) -> str:
    """Suspend a machine that was powered on from a file; ``power_on_file`` goes on with it. Where its state is:
    ``[datastore1] web/web.vmss``.

    The machine is off then, its memory and its files are free.

    Raises
    ------
    AdminError : it cannot be suspended, or its datastore is full or does not answer. It runs on, unless it was off, and
        nothing else has changed.
    """
    disks = _suspendable(host, hosted)
    home, name = disks.home, hosted.name
    path, number = home.folder / f"{home.name}.vmss", secrets.randbits(32)
    try:
        parts = to_parts(host.capture(hosted))
        parts["suspended"] = msgspec.msgpack.encode(_describe(host, hosted, disks))
        _put_in_place(disks, path, number, parts)
    except BaseException as error:
        if not disks.lost:
            withdraw(home)
        if not isinstance(error, AdminError | OSError):
            raise
        raise _not_suspended(name, f"{str(error).rstrip('.')}.{'' if disks.lost else ' It runs on.'}") from None
    hosted.stopped = f"{name} was suspended on {host.name} to {path.name}: power it on to go on."
    host.power_off(hosted)
    return f"{home.where.removesuffix('.vmx')}.vmss"


def _suspendable(host: Host, hosted: HostedVm) -> VmDisks:
    """Its disks; ``AdminError`` where it cannot be suspended now."""
    name, disks = hosted.name, hosted.disks
    if host.vms.get(name) is not hosted or not hosted.runs:
        raise _not_suspended(name, f"it does not run on {host.name}. {hosted.stopped}".strip())
    if disks is None or disks.snapshots is None:
        raise _not_suspended(name, "it was not powered on from a file, so that there is no folder for its state.")
    if hosted.stunned or name in host.departures or hosted.client.pmap.supply is not host.memory:
        raise _not_suspended(name, "it is being moved to another host; wait until that has been done.")
    if disks.snapshots.held:
        raise _not_suspended(name, disks.snapshots.held)
    if hosted.merge is not None:
        raise _not_suspended(
            name, "its snapshots are being merged, or its folder is being moved; wait until that has been done."
        )
    if read_record(disks.home) is not None:
        raise _not_suspended(
            name, "what an earlier move of its folder has left could not be removed yet; power it off and on again."
        )
    for node, device in disks.devices().items():
        if not isinstance(device, HostedDisk):
            raise _not_suspended(
                name,
                f"{node} is a LUN in physical compatibility mode, and nobody could tell whether that was written to "
                "before it goes on. Shut the guest down and power it off instead.",
            )
    return disks


def _not_suspended(name: str, why: str) -> AdminError:
    return AdminError(f"{name} was not suspended: {why.removeprefix(f'{name} was not suspended: ')}")


def _describe(host: Host, hosted: HostedVm, disks: VmDisks) -> Suspended:
    ports = hosted.cables.ports
    return Suspended(
        host.name, hosted.vm.engine.name, vm_features(hosted.vm), disks.seal(), hosted.cables.settings,
        tuple(sorted(number for number, port in ports.items() if not port.state.connected)),
    )  # fmt: skip


def _put_in_place(disks: VmDisks, path: Path, number: int, parts: dict[str, bytes]) -> None:
    home, files, pending = disks.home, disks.home.files, pending_path(disks.home)
    files.remove(pending)
    vmsn.write(pending, number, parts, files, vmsn.SUSPENDED)
    _check_held(disks)
    files.rename(pending, path)
    config = home.read()
    say(config, Suspension(path.name, number))
    _check_held(disks)
    write_config(home, config)


def _check_held(disks: VmDisks) -> None:
    if disks.lost:
        raise AdminError(disks.lost)


# --- resume -----------------------------------------------------------------------------------------------------------


def resume_file(
    host: Host, disks: VmDisks, suspension: Suspension, name: str, memory: MemoryConfig,
    cards: tuple[CardSettings, ...], *, console: Console | None = None, log: EventLog | None = None,
    swap_path: Path | None = None,
) -> HostedVm:  # fmt: skip
    """The machine, as it was. It is suspended still, until the configuration does not say so any more: before that, it
    must not run.

    Parameters
    ----------
    disks : the machine's, locked and open. They are closed where this fails.
    name, memory, cards : as the configuration has them now.

    Raises
    ------
    AdminError : the state is damaged, another machine's, or does not fit; or the host refuses. It stays as it is.
    """
    home = disks.home
    try:
        state, suspended = _read(disks.home, suspension, name, memory)
        for why in _unfit(suspended, host, disks, cards):
            raise _not_resumed(home, suspension, why)
        state = msgspec.structs.replace(state, home=home.where, cids=suspended.cids, cards=cards)
        hosted = _load(host, state, suspension, disks, console, log, swap_path)
    except BaseException:
        disks.close()
        raise
    for number in suspended.disconnected:
        if number in hosted.cables.ports:
            hosted.cables.set_link(number, False)
    return hosted


def _not_resumed(home: VmHome, suspension: Suspension, why: str) -> AdminError:
    return AdminError(
        f"{home.where} was not resumed from {suspension.file_name}: {why.rstrip('.')}. To give up what it was doing, "
        "power it on and discard its suspended state."
    )


def _read(home: VmHome, suspension: Suspension, name: str, memory: MemoryConfig) -> tuple[Snapshot, Suspended]:
    if suspension.number is None:
        raise _not_resumed(
            home, suspension, f"{NUMBER_KEY} does not say which suspension it is, so that vilab has not written it"
        )
    path = home.folder / suspension.file_name
    try:
        if not home.files.exists(path):
            raise AdminError("that file is not there")
        parts = vmsn.read(path, suspension.number, home.files, vmsn.SUSPENDED)
        suspended = msgspec.msgpack.decode(parts.get("suspended", b""), type=Suspended)
        return from_parts(parts, name, memory), suspended
    except StillHeld:
        raise
    except (AdminError, OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _not_resumed(home, suspension, str(error)) from None


def _unfit(suspended: Suspended, host: Host, disks: VmDisks, cards: tuple[CardSettings, ...]) -> Iterator[str]:
    """What is otherwise than it was, in sentences."""
    found = disks.seal()
    for node in sorted({*found, *suspended.cids}):
        if (node in found) != (node in suspended.cids):
            yield f"its disks are not those of then: {node} is {'new' if node in found else 'not there any more'}"
        elif found[node] is None or found[node] != suspended.cids[node]:
            yield f"its disk {node} was written to since, and its memory no longer fits it"
    if [_hardware(card) for card in cards] != [_hardware(card) for card in suspended.cards]:
        yield "its network cards, or their addresses, are not those of then"
    if suspended.engine not in ENGINES:
        yield f"it runs in the engine {suspended.engine}, and {host.name} has {', '.join(ENGINES)}"
    wanted, here = suspended.cpu, host_features(host.costs)
    if wanted.vendor != here.vendor:
        yield f"it ran on a processor of {wanted.vendor} on {suspended.host}, and {host.name} has one of {here.vendor}"
    if missing := here.missing(wanted):
        yield (
            f"its guest was shown {' and '.join(missing)} on {suspended.host}, which the processor of {host.name} does "
            "not have"
        )
    if wanted.tsc_khz and wanted.tsc_khz != here.tsc_khz:
        yield (
            f"its time-stamp counter counted {wanted.tsc_khz} in a millisecond on {suspended.host}, the one of "
            f"{host.name} counts {here.tsc_khz}"
        )


def _hardware(card: CardSettings) -> tuple[int, str, bytes, bool]:
    return card.number, card.kind, card.address, card.connected


def _load(
    host: Host, state: Snapshot, suspension: Suspension, disks: VmDisks, console: Console | None, log: EventLog | None,
    swap_path: Path | None,
) -> HostedVm:  # fmt: skip
    try:
        return host.resume(state, console=console, log=log, disks=disks, swap_path=swap_path)
    except StillHeld:
        raise
    except AdminError as error:  # what is in its way may be the host
        raise AdminError(f"{disks.home.where} was not resumed from {suspension.file_name}: {error}") from None
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise _not_resumed(disks.home, suspension, f"the state does not fit this vilab ({error})") from None
