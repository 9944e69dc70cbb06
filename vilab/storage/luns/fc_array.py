"""A storage array on a Fibre Channel fabric: processors with ports, LUNs, and who may see which.

::

                 initiator     host LUN    array LUN
    masking      host 1          0   ───>    12             a host sees its own numbers, and no others
                 host 2          0   ───>    13
                 host 2          1   ───>    12             shared: one disk, one set of reservations

    active/active       every port serves every LUN
    active/passive      a LUN belongs to one processor; through a port of the other one it is NOT READY (04/03) until
                        START STOP UNIT moves it there ("trespass")

Nexus: an initiator's WWPN and the number of the target port, so RESERVE(6) through one port keeps the same host out
at the other: what multipathing has to live with.

MODEL: 04/03 (manual intervention required) and START STOP UNIT stand for what each maker's array does in its own way.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from vilab.clock import VirtualClock
from vilab.errors import AdminError
from vilab.events import Event, EventLog
from vilab.protocols import BlockDevice, ReadableBytes
from vilab.storage.luns.fc_events import LunMasked, LunTrespassed
from vilab.storage.luns.fc_fabric import Fabric
from vilab.storage.luns.fc_names import Wwn, numbered
from vilab.storage.scsi.missing import execute_without_unit
from vilab.storage.scsi.request import Response
from vilab.storage.scsi.sense import Sense, SenseKey, Status
from vilab.storage.scsi.state import LUNS_CHANGED, Identity, Nexus
from vilab.storage.scsi.target import Target, TaskFunction

STANDBY = Sense(SenseKey.NOT_READY, 0x0403)
SERVED_ANYWHERE = frozenset({0x03, 0x12, 0xA0})
"""REQUEST SENSE, INQUIRY, REPORT LUNS."""
MOST_HOST_LUN = 255
"""ESX 3 looked for LUNs 0 to 255."""

Kind = Literal["active/active", "active/passive"]


class ArrayPort(msgspec.Struct):
    """``number`` is that of the nexus; ``processor``: ``A`` or ``B``."""

    wwpn: Wwn
    number: int
    processor: str


class ArrayState(msgspec.Struct):
    """``masking``: initiator -> host LUN -> array LUN. ``owners``: array LUN -> processor, of active/passive arrays."""

    masking: dict[str, dict[int, int]] = {}
    owners: dict[int, str] = {}


class StorageArray:
    """One array: a ``Target`` with masking in front of it."""

    def __init__(
        self,
        name: str,
        wwnn: Wwn | None = None,
        kind: Kind = "active/active",
        clock: VirtualClock | None = None,
        log: EventLog | None = None,
    ) -> None:
        self.name, self.kind = name, kind
        self.wwnn = wwnn or numbered(0x060160_0000, 0x50)
        self.clock, self.log = clock or VirtualClock(), log or EventLog()
        self.target = Target(self.clock, self.log)
        self.ports: dict[Wwn, ArrayPort] = {}
        self.state = ArrayState()

    def connect(self, fabric: Fabric, wwpn: Wwn, processor: str = "A") -> ArrayPort:
        """A port of a processor into a switch."""
        port = ArrayPort(wwpn, len(self.ports) + 1, processor)
        fabric.attach(wwpn, self.wwnn, self, "target")
        self.ports[wwpn] = port
        return port

    def create_lun(self, array_lun: int, device: BlockDevice, identity: Identity, processor: str = "A") -> None:
        """A disk under a number of the array's own; nobody sees it yet. ``processor`` owns it (active/passive)."""
        self.target.add(array_lun, device, identity)
        self.state.owners[array_lun] = processor

    # --- masking ------------------------------------------------------------------------------------------------------

    def present(self, initiator: Wwn, array_lun: int, host_lun: int) -> None:
        """Show a LUN to an initiator port as ``host_lun``."""
        if array_lun not in self.target.units:
            raise AdminError(f"{self.name} has no LUN {array_lun}; there are {sorted(self.target.units)}.")
        if not 0 <= host_lun <= MOST_HOST_LUN:
            raise AdminError(f"LUN {host_lun} cannot be shown to a host: it looks for 0 to {MOST_HOST_LUN}.")
        seen = self.state.masking.setdefault(initiator, {})
        if host_lun in seen:
            raise AdminError(f"{initiator} sees a LUN {host_lun} of {self.name} already; choose another number.")
        seen[host_lun] = array_lun
        self._masked(initiator, host_lun, array_lun)

    def hide(self, initiator: Wwn, host_lun: int) -> None:
        if host_lun not in self.state.masking.get(initiator, {}):
            raise AdminError(f"{initiator} sees no LUN {host_lun} of {self.name}.")
        del self.state.masking[initiator][host_lun]
        self._masked(initiator, host_lun, None)

    def _masked(self, initiator: Wwn, host_lun: int, array_lun: int | None) -> None:
        """The initiator is told through every unit that it sees (3F/0E)."""
        for nexus in self.target.nexuses:
            if nexus.initiator == initiator:
                for shown in self.state.masking[initiator].values():
                    self.target.units[shown].state.attend(nexus, LUNS_CHANGED)
        self._say(LunMasked(self.clock.now_ns, self.name, initiator, host_lun, array_lun))

    # --- what the fabric calls ----------------------------------------------------------------------------------------

    def state_change(self, own: Wwn, about: Wwn, reachable: bool) -> None:
        pass  # sessions that end are told by ``logout``

    def login(self, own: Wwn, initiator: Wwn) -> None:
        self.target.connect(self._nexus(own, initiator))

    def logout(self, own: Wwn, initiator: Wwn) -> None:
        """I_T nexus loss: its RESERVE(6) is gone."""
        self.target.disconnect(self._nexus(own, initiator))

    def receive(self, own: Wwn, initiator: Wwn, lun: int, cdb: bytes, data_out: ReadableBytes) -> Response:
        seen = self.state.masking.get(initiator, {})
        array_lun = seen.get(lun)
        if array_lun is None or cdb[:1] == b"\xa0":
            return self._without_unit(array_lun, self._nexus(own, initiator), cdb, tuple(sorted(seen)))
        if self.kind == "active/passive" and cdb and cdb[0] not in SERVED_ANYWHERE:
            processor = self.ports[own].processor
            if self.state.owners[array_lun] != processor:
                if cdb[0] != 0x1B or len(cdb) < 6 or not cdb[4] & 1:
                    return Response(Status.CHECK_CONDITION, b"", STANDBY, STANDBY.fixed())
                self._trespass(array_lun, processor, initiator)
        return self.target.execute(self._nexus(own, initiator), array_lun, cdb, data_out)

    def _without_unit(self, array_lun: int | None, nexus: Nexus, cdb: bytes, luns: tuple[int, ...]) -> Response:
        if array_lun is not None:  # whoever reads the list need not be told that it has changed
            state = self.target.units[array_lun].state
            state.attentions = [a for a in state.attentions if a.nexus != nexus or a.code != LUNS_CHANGED]
        return execute_without_unit(cdb, luns)

    def reset_unit(self, own: Wwn, initiator: Wwn, lun: int) -> None:
        array_lun = self.state.masking.get(initiator, {}).get(lun)
        if array_lun is not None:
            self.target.manage(self._nexus(own, initiator), TaskFunction.LOGICAL_UNIT_RESET, array_lun)

    def _trespass(self, array_lun: int, processor: str, initiator: Wwn) -> None:
        before = self.state.owners[array_lun]
        self.state.owners[array_lun] = processor
        self._say(LunTrespassed(self.clock.now_ns, self.name, array_lun, before, processor, initiator))

    def _nexus(self, own: Wwn, initiator: Wwn) -> Nexus:
        return Nexus(initiator, self.ports[own].number)

    def _say(self, event: Event) -> None:
        if self.log.active:
            self.log.emit(event)
