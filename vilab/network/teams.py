"""The teams of one virtual switch, and the beacons that they share.

::

    teams = Teams("host1/vSwitch0", clock, log)
    switch = VirtualSwitch("vSwitch0", clock, log, teams)        asks for a team for each port group
    teams.switch = switch

    vmnic0 ── link ───┐
    beacons ──────────┴──> every team: refresh ──> ports of its port group that move now: RARP

``teams.announce(port)`` tells the physical switches of a machine that was started, or that has arrived by VMotion. When
cards or a policy were changed by the administrator, the ports that use another card for it are announced at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from vilab.clock import VirtualClock
from vilab.events import EventLog
from vilab.network.beacon import INTERVAL_NS, MISSED, BeaconProber
from vilab.network.ethernet import NO_ADDRESS
from vilab.network.policies import TeamingPolicy
from vilab.network.switch_port import SwitchPort
from vilab.network.teaming import Team, TeamPort
from vilab.network.uplinks import Nic, UplinkTeam
from vilab.network.virtual_switch import VirtualSwitch


class Teams:
    """A ``TeamMaker``.

    Parameters
    ----------
    name : for beacons; no other switch of the network has it.
    """

    def __init__(
        self, name: str, clock: VirtualClock, log: EventLog | None = None, beacon_interval_ns: int = INTERVAL_NS,
        beacons_missed: int = MISSED,
    ) -> None:  # fmt: skip
        self.switch: VirtualSwitch | None = None
        self._clock, self._log = clock, log
        self._before: dict[int, str | None] = {}
        """Between two teams of a port group: which card each port used."""
        self.prober = BeaconProber(name, clock, log, beacon_interval_ns, beacons_missed, self._vlans)

    def __call__(self, policy: TeamingPolicy, nics: Sequence[Nic], clock: VirtualClock) -> Team:
        team = Team(policy, nics, clock, lambda: self._ports_of(team), self.prober, self._log, self._remember)
        return team

    def _remember(self, team: Team) -> None:
        """A team ends. When the switch is done with its new configuration, its ports are looked at again."""
        if not self._before:
            self._clock.at(self._clock.now_ns, self._compare)
        self._before |= {port.number: team.uplink_of(port) for port in self._ports_of(team)}

    def _compare(self) -> None:
        before, self._before = self._before, {}
        for port in self._ports():
            if port.number in before and isinstance(port.team, Team):
                old, now = before[port.number], _team_port(port)
                if port.team.uplink_of(now) != old:
                    port.team.announce(now, old, "reconfigured")

    def announce(self, port: SwitchPort) -> None:
        """A machine's card was connected, with the address that it listens to."""
        if isinstance(port.team, Team) and port.state.effective != NO_ADDRESS:
            port.team.announce(_team_port(port))

    def _ports(self) -> Iterator[SwitchPort]:
        for port in self.switch.ports.values() if self.switch is not None else ():
            if not port.is_uplink and port.state.effective != NO_ADDRESS:
                yield port

    def _ports_of(self, team: UplinkTeam) -> Iterable[TeamPort]:
        return [_team_port(port) for port in self._ports() if port.team is team]

    def _vlans(self) -> set[int]:
        return {port.vlan for port in self._ports()}


def _team_port(port: SwitchPort) -> TeamPort:
    return TeamPort(port.number, port.state.effective, port.vlan)
