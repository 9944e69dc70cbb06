"""A machine is powered on from its file step by step, by a host that has other things to do meanwhile.

::

    step ──> its files are held by a host that may be dead: ``held`` says by whom, and when to ask again
    step ──> the same
    step ──> the machine runs; or ``AdminError``: it cannot be powered on, nothing is open and the file is as it was

``registered.power_on_file`` does that with waiting in between. A machine that is suspended goes on from its state, but
stands still until its configuration does not say any more that it is suspended (``suspended``).
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import msgspec

from vilab.errors import AdminError
from vilab.events import EventLog
from vilab.host import suspension, vmx
from vilab.host.host import Host
from vilab.host.hosted_vm import HostedVm
from vilab.host.suspended import resume_file
from vilab.host.vm_disks import VmDisks
from vilab.host.vm_home import VmHome
from vilab.host.vm_move import read_config
from vilab.host.vmx_disks import adapters_of
from vilab.host.vmx_network import CardSettings, cards_of, write_addresses
from vilab.host.vmx_settings import VmSettings, apply_settings, settings_of, swap_path
from vilab.memory.client import MemoryConfig
from vilab.protocols import Console
from vilab.storage.still_held import StillHeld
from vilab.vmm.choices import usual_for
from vilab.vmm.runner import Chosen, RunOptions, choose
from vilab.vmm.scsi_disks import CONTROLLERS

MOST_RAMDISK_MB = 1024
ENGINE = "svm"
"""For machines whose files name none."""


def memory_config(settings: VmSettings) -> MemoryConfig:
    """What the memory manager has to know. A limit above the configured size is none."""
    limit_mb = settings.limit_mb
    if limit_mb is not None and limit_mb >= settings.memsize_mb:
        limit_mb = None
    return MemoryConfig(settings.memsize_mb, settings.reservation_mb, limit_mb, settings.shares)


class PoweringOn:
    """Parameters
    ----------
    where : ``[datastore1] web/web.vmx``, or a file of this computer.
    discard_suspended : start it anew, if it is suspended; its state is lost.
    """

    def __init__(
        self, host: Host, where: Path | str, console: Console | None = None, log: EventLog | None = None,
        discard_suspended: bool = False,
    ) -> None:  # fmt: skip
        self.host, self.where = host, where
        self._discard = discard_suspended
        self.held: StillHeld | None = None
        """Why it has not been done yet."""
        self._console, self._log = console, log
        self._home: VmHome | None = None
        self._hosted: HostedVm | None = None
        self._swap: PurePosixPath | None = None
        self._cards: tuple[CardSettings, ...] = ()

    def step(self) -> HostedVm | None:
        """``None``: not yet, see ``held``. Raises ``AdminError``: it is refused."""
        try:
            with self.host.storage.stepwise():
                if self._hosted is None:
                    self._begin()
                return self._write_down()
        except StillHeld as held:
            self.held = held
            return None

    def _begin(self) -> None:
        host = self.host
        home = self._home = VmHome(host.storage, self.where)
        config = read_config(home)
        settings = settings_of(config)
        if settings.vcpus != 1:
            raise AdminError(
                f"{home.where}: numvcpus is {settings.vcpus}; a virtual machine has one processor here so far."
            )
        cards = cards_of(config, settings.display_name)
        suspended = None if self._discard else suspension.suspension_of(config)
        chosen = _chosen(home, config, settings) if suspended is None else None
        ramdisk_bytes = _ramdisk_mb(config, home.where) << 20
        self._swap = _swap_of(home, settings)
        swap_path = None if self._swap is None else Path(self._swap)
        self._cards = cards
        disks = VmDisks(home, host.storage.clock, host.log)
        try:
            if suspension.said(home.read()) != suspension.said(config):
                raise AdminError(f"{home.where} was suspended or resumed while it was powered on. Try again.")
            if suspended is not None:
                self._hosted = resume_file(
                    host, disks, suspended, settings.display_name, memory_config(settings), cards,
                    console=self._console, log=self._log, swap_path=swap_path,
                )  # fmt: skip
            elif chosen is not None:
                engine = settings.engine or ENGINE
                self._hosted = host.power_on(
                    settings.display_name, chosen.image, memory_config(settings), engine=engine,
                    engine_options=usual_for(chosen.image.kind, engine, {}), console=self._console, log=self._log,
                    ramdisk_bytes=ramdisk_bytes, swap_path=swap_path, disks=disks, cards=cards,
                )  # fmt: skip
        except BaseException:
            disks.close()
            raise
        assert self._hosted is not None
        self._hosted.stunned = any(suspension.said(config))

    def _write_down(self) -> HostedVm:
        """Where its swap file is, its cards' addresses, and that it is not suspended. The machine runs already, but
        for one that was suspended."""
        hosted, home = self._hosted, self._home
        assert hosted is not None
        assert home is not None
        if self.host.vms.get(hosted.name) is not hosted:
            raise AdminError(f"{hosted.name} was powered on, and is off again: {hosted.stopped}")
        try:
            config = home.read()
            state_file = suspension.forget(config)
            new = write_addresses(config, self._cards) or bool(state_file)
            if self._swap is not None:
                apply_settings(config, msgspec.structs.replace(settings_of(config), swap_name=self._swap.name))
            if new or self._swap is not None:
                suspension.write_config(home, config)
        except StillHeld:
            raise
        except BaseException:
            self.host.power_off(hosted)
            raise
        hosted.stunned = False
        suspension.clear(home, state_file)
        return hosted

    def give_up(self) -> None:
        """Nobody asks any more."""
        hosted = self._hosted
        if hosted is not None and self.host.vms.get(hosted.name) is hosted:
            self.host.power_off(hosted)


def _chosen(home: VmHome, config: vmx.Vmx, settings: VmSettings) -> Chosen:
    """What it starts with."""
    if settings.image is None:
        raise AdminError(
            f"{home.where} does not say what to run: set vilab.image to a bundled program, debian or a path."
        )
    adapters = adapters_of(config)
    return choose(
        RunOptions(
            settings.image, settings.engine or ENGINE, settings.memsize_mb << 20, config.get("vilab.append") or "",
            disks=tuple(Path(disk.file_name) for adapter in adapters for disk in adapter.disks),
            controller=adapters[0].controller if adapters else CONTROLLERS[0],
            cards=tuple(card.kind for card in cards_of(config, settings.display_name)),
        )
    )  # fmt: skip


def _swap_of(home: VmHome, settings: VmSettings) -> PurePosixPath | None:
    local = home.local_path()
    return None if local is None else swap_path(settings, PurePosixPath(local.as_posix()))


def _ramdisk_mb(config: vmx.Vmx, where: str) -> int:
    said = config.get("vilab.ramdiskMB") or "0"
    if not said.isdecimal() or int(said) > MOST_RAMDISK_MB:
        raise AdminError(f"{where}: vilab.ramdiskMB is {said!r}; it has to be a number from 0 to {MOST_RAMDISK_MB}.")
    return int(said)
