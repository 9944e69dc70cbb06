"""Snapshots of a machine that runs: its disks, its memory, its devices, at one moment.

::

    web.vmsd                   the tree of snapshots           ``vilab.storage.disks.vm_snapshots``
    web-Snapshot1.vmsn         vCPU, devices, memory           ``state_parts``

    take      between two instructions of the guest: nothing of it notices, but that its writes go to redo logs now
    revert    the machine of then, with the memory of then, on new redo logs above the disks of then
    delete    at one go, or a step a quantum while the guest runs and writes (``begin_delete``, ``begin_consolidate``)

Source: VMware, Basic System Administration (ESX 3), "Using Snapshots". MODEL: taking and merging cost no virtual time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from vilab.errors import AdminError
from vilab.host.hosted_vm import HostedVm
from vilab.host.hosted_vm import Snapshot as MachineState
from vilab.host.state_parts import from_parts, to_parts
from vilab.host.vm_disks import VmDisks
from vilab.storage.disks import vmsn
from vilab.storage.disks.vm_snapshots import VmSnapshots
from vilab.storage.disks.vmsd import Snapshot, SnapshotList

if TYPE_CHECKING:
    from vilab.host.host import Host

US = 1_000_000


class MachineSnapshots:
    """``Host.snapshots(vm)``: what can be done to the snapshots of a machine that is on.

    Raises
    ------
    AdminError : every method; nothing has changed then, and the machine runs on.
    """

    def __init__(self, host: Host, hosted: HostedVm) -> None:
        self.host, self.hosted = host, hosted

    def _disks(self) -> VmDisks:
        disks = self.hosted.disks
        if disks is None or disks.snapshots is None or not self.hosted.runs:
            raise AdminError(
                f"{self.hosted.name} is off, or was not powered on from a file: it has no snapshots to work on. "
                f"{self.hosted.stopped}".strip()
            )
        return disks

    def _of_disks(self) -> VmSnapshots:
        snapshots = self._disks().snapshots
        assert snapshots is not None
        return snapshots

    @property
    def list(self) -> SnapshotList:
        """``describe()`` shows it as a tree."""
        return self._of_disks().list

    def take(self, name: str, description: str = "", memory: bool = True) -> Snapshot:
        """Keep what there is now. Without ``memory`` only the disks, as a power cut would leave them."""
        disks = self._disks()
        if disks.independent:
            raise AdminError(
                f"No snapshot of {self.hosted.name} was taken: {' and '.join(disks.independent)} would not be in it "
                "(independent, in another folder, or a physical raw device mapping), and what the running guest "
                "believes of it would not fit. Power the machine off first."
            )
        parts = to_parts(self.hosted.snapshot()) if memory else None
        return self._of_disks().take(name, description, parts, self._now_us())

    def _now_us(self) -> int:
        """MODEL: a host with virtual time has its own calendar; snapshots bear the date of this computer."""
        return time.time_ns() // 1000

    def revert(self, uid: int) -> None:
        """Back to a snapshot; what was written since the last one is gone. One without memory: the machine is off
        then."""
        disks, snapshots = self._disks(), self._of_disks()
        found = snapshots.list.find(uid)
        state: MachineState | None = None
        if found.state_file:  # looked at before anything is changed
            state = self._state(vmsn.read(snapshots.folder / found.state_file, uid, snapshots.files))
        snapshots.revert(uid)
        if state is None:
            self.hosted.stop(f"{self.hosted.name} was reverted to {found.name!r}, which has no memory: it is off.")
            self.host.power_off(self.hosted)
            return
        self.host.replace(self.hosted, msgspec.structs.replace(state, home=disks.home.where))

    def _state(self, parts: dict[str, bytes]) -> MachineState:
        try:
            return from_parts(parts, self.hosted.name, self.hosted.config)
        except AdminError as error:
            raise AdminError(f"{self.hosted.name} was not reverted: {error}") from None

    def delete(self, uid: int, subtree: bool = False) -> None:
        """Forget one (or all that came from it, too) and merge what is not needed any more, at one go."""
        self._of_disks().delete(uid, subtree)

    def delete_all(self) -> None:
        self._of_disks().delete_all()

    def consolidate(self) -> None:
        """Merge what an operation that was cut short has left."""
        self._of_disks().consolidate()

    def begin_delete(self, uid: int | None, subtree: bool = False) -> None:
        """The same while the machine runs: a piece after each quantum. ``None``: all of them."""
        snapshots = self._of_disks()
        self._begin(snapshots.delete_steps(uid, subtree=subtree or uid is None))

    def begin_consolidate(self) -> None:
        self._begin(self._of_disks().consolidate_steps())

    def _begin(self, steps: Iterator[int]) -> None:
        if self.hosted.merge is not None:
            raise AdminError(f"The snapshots of {self.hosted.name} are being merged; wait until that has been done.")
        self.hosted.merge = steps
        self.hosted.merge_step()

    @property
    def merging(self) -> bool:
        """Is there more to do?"""
        return self.hosted.merge is not None
