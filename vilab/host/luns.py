"""The LUNs that a host sees: adapters, the paths behind them, and which of those lead to the same disk.

::

    vmhba0   image files            vmhba0:0:0  ─────────────────> naa.6000c29...     local disk
    vmhba1   Fibre Channel          vmhba1:0:3  ──┐
    vmhba2   Fibre Channel          vmhba2:0:3  ──┴──────────────> naa.6000c29...     two paths, one LUN
    vmhba40  software iSCSI         vmhba40:0:0 ─────────────────> naa.6000c29...

A rescan asks every adapter. LUNs of before stay the same objects; a new path to one of them joins it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Protocol

from vilab.clock import VirtualClock
from vilab.errors import AdminError
from vilab.events import EventLog
from vilab.host.local_disks import LocalAdapter
from vilab.host.software_initiator import SoftwareInitiator
from vilab.host.storage_time import pass_time
from vilab.storage.block import BlockError, ReservationConflict
from vilab.storage.luns.paths import EVALUATION_NS, MultipathLun, Path, Policy
from vilab.storage.scsi.lun_identity import LunIdentity, ask_name, identify

CONFLICTS, CONFLICT_NS = 20, 50_000_000
"""So often a LUN that another host has reserved is asked again for its size, and how long after."""


class Adapter(Protocol):
    """``LocalAdapter``, ``SoftwareInitiator``, ``vilab.storage.luns.fc_hba.HostBusAdapter``."""

    @property
    def name(self) -> str: ...

    def rescan(self) -> Sequence[Path]: ...


class HostLuns:
    """``luns``: by name (``naa. ...``).

    Parameters
    ----------
    iqn : the software initiator's name.
    """

    def __init__(self, host: str, iqn: str, clock: VirtualClock, log: EventLog) -> None:
        self.clock, self.log = clock, log
        self.local = LocalAdapter("vmhba0", host, clock, log)
        self.iscsi = SoftwareInitiator("vmhba40", iqn, clock, log)
        self.adapters: list[Adapter] = [self.local, self.iscsi]
        self.luns: dict[str, MultipathLun] = {}
        self.policy: Policy = "fixed"
        self._known: dict[str, Path] = {}
        self._timer = clock.at(clock.now_ns + EVALUATION_NS, self._evaluate)

    def add_adapter(self, adapter: Adapter) -> None:
        """Plug in a host bus adapter; the next rescan asks it."""
        if any(each.name == adapter.name for each in self.adapters):
            raise AdminError(f"There is an adapter {adapter.name} already.")
        self.adapters.append(adapter)

    def find(self, name: str) -> MultipathLun:
        """A LUN by its name, the beginning of it, or the name of a path."""
        found = [lun for lun in self.luns.values() if lun.identity.name.startswith(name or "-") or name in lun.states]
        if len(found) != 1:
            known = ", ".join(self.luns) or "none"
            raise AdminError(f"{name!r} names {'no LUN' if not found else 'several LUNs'} here; there are {known}.")
        return found[0]

    def rescan(self) -> list[str]:
        """Look for paths and LUNs. What could not be looked at, in sentences."""
        problems: list[str] = []
        ways: dict[str, list[Path]] = {}
        for adapter in self.adapters:
            for path in adapter.rescan():
                if path.name in self._known:
                    continue
                try:
                    ways.setdefault(ask_name(path.submit), []).append(path)
                except BlockError as error:
                    problems.append(f"{path.name}: {error}")
        problems += self.iscsi.problems
        for name, paths in ways.items():
            problem = self._join(name, paths)
            if problem:
                problems.append(problem)
        for lun in self.luns.values():
            lun.check()
        return problems

    def _join(self, name: str, paths: list[Path]) -> str:
        lun = self.luns.get(name)
        if lun is None:
            identity, problem = self._identity(name, paths)
            if identity is None:
                return problem
            lun = self.luns[name] = MultipathLun(paths, identity, self.policy, None, self.clock, self.log)
        else:
            for path in paths:
                lun.add(path)
        self._known |= {path.name: path for path in paths}
        return ""

    def _identity(self, name: str, paths: list[Path]) -> tuple[LunIdentity | None, str]:
        """By any path: passive ones do not tell how large the disk is; nor does a reserved one, for a moment."""
        problem = ""
        for _ in range(CONFLICTS):
            for path in paths:
                try:
                    return identify(path.submit), ""
                except BlockError as error:
                    problem, reserved = f"{name}: {error}", isinstance(error, ReservationConflict)
            if not reserved:
                break
            pass_time(self.clock, CONFLICT_NS)
        return None, problem

    def describe(self) -> str:
        """Every LUN with its paths, as a table."""
        return "\n".join(lun.describe() for lun in self.luns.values()) or "no LUNs"

    def _evaluate(self) -> None:
        """Every 300 s: look at the paths, go back to the preferred one."""
        for lun in self.luns.values():
            with contextlib.suppress(BlockError):  # its next user hears of it
                lun.check()
        self._timer = self.clock.at(self.clock.now_ns + EVALUATION_NS, self._evaluate)

    def close(self) -> None:
        self._timer.cancel()
        self.iscsi.close()
        self.local.close()

    def cut_power(self) -> None:
        self._timer.cancel()
        self.iscsi.cut_power()
        self.local.cut_power()
