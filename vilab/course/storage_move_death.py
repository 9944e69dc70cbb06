"""The host dies in the middle of a Storage VMotion, and another one powers the machine on.

::

    esx1   the same move again, event by event, to the moment that was chosen; then its power goes
    esx2   powers on [san1] web ──refused: it has moved, or it is not there──> powers on [nfs1] web
                    │ runs                                                         │ runs
                    └── files that the guest had synced: are they there, byte for byte? what is left of the other copy?

Nothing is told here: the second host asks what lies in the folders, and the guest's own files are the judge.
"""

from __future__ import annotations

import msgspec
import numpy as np

from vilab.course.storage_move_lab import (
    DESTINATION,
    FILES_WRITTEN,
    NEW_BYTES,
    OLD_BYTES,
    OLD_FILES,
    OPTIONS,
    PROMPT,
    SECOND,
    SOURCE,
    StorageMove,
    StorageSite,
    names_in,
)
from vilab.errors import AdminError
from vilab.guests.tinyfs import read_content, read_volume
from vilab.host.hosted_vm import HostedVm
from vilab.host.registered import power_on_file
from vilab.migration.storage_copy import CopyOptions
from vilab.migration.storage_vmotion import MethodName
from vilab.protocols import BlockDevice
from vilab.storage.disks.disk_chain import open_chain
from vilab.vmm.vm import QuietConsole

TRIES, PAUSE_S, SETTLE_S = 12, 10, 40


class Found(msgspec.Struct, frozen=True):
    """What esx2 has found. ``at``: the datastore where the machine runs, or nothing. ``refused``: sentences, in order.

    ``synced``: files that the guest had synced before; ``right``: those that are there, byte for byte; ``in_copy``:
    those that the disk at the destination held at that moment. ``waited_ns``:
    until the dead host's locks were free. ``other``: what is left in the other folder a minute later.
    """

    at: str
    refused: tuple[str, ...]
    synced: int
    right: int
    in_copy: int
    waited_ns: int
    other: tuple[str, ...]

    def describe(self) -> str:
        if not self.at:
            return "esx2 cannot power web on: " + " ".join(self.refused)
        words = [f"esx2 has powered on [{self.at}] web, {self.waited_ns / SECOND:.0f} s after the power went."]
        words += [f"Before that it was told: {each}" for each in self.refused]
        words.append(f"Of {self.synced} files that the guest had synced, {self.right} are there, byte for byte.")
        if self.at == SOURCE:
            words.append(f"The disk in [{DESTINATION}] web, as it lay there, had {self.in_copy} of them.")
        there = SOURCE if self.at == DESTINATION else DESTINATION
        left = ", ".join(self.other) if self.other else "nothing"
        words.append(f"Left in [{there}] web a while later: {left}.")
        return "\n".join(words)


def filling(size_bytes: int, seed: int) -> bytes:
    """What the guest's ``fill`` writes."""
    at = np.arange(seed, seed + size_bytes, dtype=np.uint32)
    return (at * np.uint32(2_654_435_761) >> np.uint32(8)).astype(np.uint8).tobytes()


def synced_files(said: str) -> dict[str, bytes]:
    """What has to be there, by what the guest's console has said: files whose ``sync`` has come back."""
    lines = said.split(PROMPT)
    files = {f"old{number}": filling(OLD_BYTES, number) for number in range(OLD_FILES)}
    done: dict[str, bytes] = {}
    for line in lines[:-1]:
        words = line.split()
        if words[:1] == ["fill"] and words[1].startswith("new"):
            done[words[1]] = filling(NEW_BYTES, int(words[3]))
        elif words[:1] == ["sync"]:
            files |= done
    return files


def die_after(method: MethodName, events: int, writes: int = FILES_WRITTEN, options: CopyOptions = OPTIONS) -> Found:
    """The same move, until so many of its events have happened; then the power goes."""
    move = StorageMove(method, writes, options, cut_after=events)
    try:
        if not move.dead:
            raise AdminError(f"The move has had {len(move.events)} events, and the host was to die after {events}.")
        return _look_after(move)
    finally:
        move.close()


def _look_after(move: StorageMove) -> Found:
    site, wanted = move.site, synced_files(move.console.said)
    began_ns, refused = site.clock.now_ns, list[str]()
    in_copy = _right(_in_copy(site), wanted)
    console = QuietConsole()
    for at in (SOURCE, DESTINATION):
        vm = _power_on(site, at, console, refused)
        if vm is not None:
            break
    waited_ns = site.clock.now_ns - began_ns
    if vm is None:
        return Found("", tuple(refused), len(wanted), 0, in_copy, waited_ns, ())
    site.until(lambda: console.said.endswith(PROMPT), "web has booted")
    assert vm.disks is not None
    right = _right(_files_on(vm.disks.devices()["scsi0:0"]), wanted)
    site.esx2.wait(SETTLE_S * SECOND)
    other = names_in(site.esx2, DESTINATION if at == SOURCE else SOURCE)
    return Found(at, tuple(refused), len(wanted), right, in_copy, waited_ns, other)


def _files_on(disk: BlockDevice) -> dict[str, bytes]:
    return {each.name: read_content(disk, each) for each in read_volume(disk).files}


def _right(there: dict[str, bytes], wanted: dict[str, bytes]) -> int:
    return sum(there.get(name) == content for name, content in wanted.items())


def _in_copy(site: StorageSite) -> dict[str, bytes]:
    """What somebody would find who takes the disk at the destination as it lies there."""
    mounted, _, place = site.esx2.storage.place(f"[{DESTINATION}] web/web.vmdk")
    try:
        with open_chain(place, files=mounted.files) as chain:
            return _files_on(chain)
    except (AdminError, OSError):
        return {}


def _power_on(site: StorageSite, datastore: str, console: QuietConsole, refused: list[str]) -> HostedVm | None:
    """``None``: refused. Who finds a dead host's lock asks again until it is free."""
    error = ""
    for _ in range(TRIES):
        try:
            return power_on_file(site.esx2, f"[{datastore}] web/web.vmx", console=console)
        except AdminError as sentence:
            error = str(sentence)
            if "has been moved" in error or "web.vmx" not in names_in(site.esx2, datastore):
                break
            site.esx2.wait(PAUSE_S * SECOND)
    refused.append(error)
    return None
