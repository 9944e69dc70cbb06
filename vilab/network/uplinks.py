"""What a virtual switch needs from physical cards and from the team that chooses between them.

::

    port ──frame──> team.uplink_for ──> vmnic1 ──transmit──> wire
    wire ──> vmnic0.on_receive ──> switch ──> each port whose  team.accepts(vmnic0, ...)

An uplink is a port too, a trunk: ``UplinkInterface`` is what is plugged into it on the outside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from vilab.clock import VirtualClock
from vilab.network.policies import TeamingPolicy


class Nic(Protocol):
    """A physical network card, ``vmnic0``. It calls ``on_receive`` with each frame from the wire."""

    name: str
    on_receive: Callable[[bytes], None]

    @property
    def link_up(self) -> bool: ...

    def transmit(self, frame: bytes) -> None: ...


class UplinkTeam(Protocol):
    """The physical cards of one port group."""

    def uplink_for(self, port_id: int, frame: bytes) -> Nic | None:
        """Which card carries this frame of this port. ``None``: none can."""
        ...

    def accepts(self, nic: Nic, port_id: int, frame: bytes) -> bool:
        """Does the port take this frame from this card? One that comes in over several is delivered once."""
        ...

    def stop(self) -> None:
        """The switch has another team in its place, or none: nothing of it stays on the clock."""
        ...


@runtime_checkable
class TeamWithState(Protocol):
    """A team that remembers something: which card each port used, which have failed."""

    def save_state(self) -> bytes: ...

    def load_state(self, state: bytes) -> None: ...


TeamMaker = Callable[[TeamingPolicy, Sequence[Nic], VirtualClock], UplinkTeam]


class UplinkInterface:
    """A ``NetworkInterface``: what the switch sends out over an uplink is the card's to transmit."""

    def __init__(self, nic: Nic) -> None:
        self.nic = nic
        self.receive = nic.transmit

    def link_changed(self, up: bool) -> None:
        """The card knows its own link."""

    def wants_multicast(self, destination: bytes) -> bool:
        return True


class GroupTeam(NamedTuple):
    policy: TeamingPolicy
    nics: tuple[Nic, ...]
    team: UplinkTeam | None


class GroupTeams:
    """The teams of a switch's port groups, by name; none while the switch has no uplinks."""

    def __init__(self, make: TeamMaker, clock: VirtualClock) -> None:
        self._make, self._clock = make, clock
        self._teams: dict[str, GroupTeam] = {}

    def of(self, group: str) -> UplinkTeam | None:
        return self._teams[group].team

    def apply(self, policies: Mapping[str, TeamingPolicy], nics: tuple[Nic, ...]) -> None:
        """A team goes on as it is unless its policy or its cards are others: it knows which of them have failed."""
        old, self._teams = self._teams, {}
        for name, policy in policies.items():
            if name in old and (old[name].policy, old[name].nics) == (policy, nics):
                self._teams[name] = old.pop(name)
        for gone in old.values():
            if gone.team is not None:
                gone.team.stop()
        for name, policy in policies.items():
            if name not in self._teams:
                team = self._make(policy, nics, self._clock) if nics else None
                self._teams[name] = GroupTeam(policy, nics, team)

    def save_state(self) -> dict[str, bytes]:
        """By port group; of teams that remember something."""
        return {name: team.save_state() for name, team in self._with_state().items()}

    def load_state(self, state: Mapping[str, bytes]) -> None:
        for name, team in self._with_state().items():
            if name in state:
                team.load_state(state[name])

    def _with_state(self) -> dict[str, TeamWithState]:
        teams: dict[str, object] = {name: it.team for name, it in self._teams.items()}
        return {name: team for name, team in teams.items() if isinstance(team, TeamWithState)}
