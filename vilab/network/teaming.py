"""A team of physical cards: over which one a frame of a port leaves, and from which one a port takes frames.

::

    out   port, frame ─ balancing ─> number ─ failover.choose ─> vmnic1

          port_id    the port's number                 ip_hash   addresses of the packet
          mac_hash   the frame's source address        explicit  0: the first card that is well

    in    a broadcast comes in over every card of the team: a port takes it from the card that its own frames use
          ip_hash: from every card that is in use; the group of links on the physical switch sends one copy only
          a unicast frame comes in where a physical switch believes the machine to be: from every card of the team

    moves    when a port's frames leave over another card, RARP says so to the physical switches (``notify``); not with
             ip_hash, where they have learned the group

For ``DUPLICATE_NS`` after a change the card that a port used before counts too, so that nothing is lost that was on its
way. Wherever more than one card counts, a frame that a port has got from one of them is not taken from another one.

MODEL: that window, and that duplicates are known by their contents: the last ``REMEMBERED`` frames of a port and card.
Sources: ESX Server 3 Configuration Guide, "Failover and Load Balancing"; Virtual Networking Concepts, "NIC Teaming".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

from vilab.clock import VirtualClock
from vilab.events import EventLog
from vilab.network.balancing import ip_hash, mac_hash
from vilab.network.beacon import BeaconProber, Verdict
from vilab.network.ethernet import is_group
from vilab.network.failover import Places, choose, places_of
from vilab.network.notify import notify_frame
from vilab.network.physical_events import SwitchesNotified, UplinkMoved
from vilab.network.physical_nic import PhysicalNic
from vilab.network.policies import TeamingPolicy
from vilab.network.uplinks import Nic

DUPLICATE_NS = 10_000_000
REMEMBERED = 64


class TeamPort(msgspec.Struct, frozen=True):
    """A connected port: its number, the address that it listens to, its VLAN (0 none, 4095 the guest's affair)."""

    number: int
    mac: bytes
    vlan: int = 0


class Taken(msgspec.Struct, frozen=True):
    """A frame that a port has got from a card."""

    at_ns: int
    frame: bytes


class TeamState(msgspec.Struct):
    """``before``: who was in use until the last change; ``unsettled_ns``: until when that matters.

    ``macs``: source of the last frame, by port. ``taken``: by port and card.
    """

    places: list[str | None]
    before: list[str | None] = []
    unsettled_ns: int = 0
    shotgun: bool = False
    macs: dict[int, bytes] = {}
    taken: dict[int, dict[str, list[Taken]]] = {}


class Team:
    """The ``UplinkTeam`` of a port group.

    Parameters
    ----------
    nics : that the switch has; those that the policy does not name are not used. A ``PhysicalNic`` tells the team of
        its link; what another one's is, the team sees when it is about to use it.
    ports : that use this team now.
    prober : for detection by beacons. stopped : is called before the team ends.
    """

    def __init__(
        self, policy: TeamingPolicy, nics: Sequence[Nic], clock: VirtualClock,
        ports: Callable[[], Iterable[TeamPort]] = tuple, prober: BeaconProber | None = None,
        log: EventLog | None = None, stopped: Callable[[Team], None] = lambda team: None,
    ) -> None:  # fmt: skip
        self.policy = policy
        self._stopped = stopped
        order = policy.active + policy.standby
        self.nics = {nic.name: nic for nic in nics if nic.name in order}
        self._clock, self._ports, self._log = clock, ports, log
        self._prober = prober if policy.detection == "beacon" else None
        self._cards = [nic for nic in self.nics.values() if isinstance(nic, PhysicalNic)]
        for card in self._cards:
            card.watchers.append(self._link_changed)
        if self._prober is not None:
            self._prober.watch(self, self._cards)
            self._prober.watchers.append(self._beacons_changed)
        verdict = self._verdict()
        self.state = TeamState(places_of(policy, None, self._well(verdict)), shotgun=verdict.shotgun)

    @property
    def in_use(self) -> tuple[str, ...]:
        """Names of the cards that carry frames now."""
        return tuple(name for name in self.state.places if name is not None)

    # --- frames -------------------------------------------------------------------------------------------------------

    def uplink_for(self, port_id: int, frame: bytes) -> Nic | None:
        """The card that the frame leaves over. Shotgun: the others get their copies from here."""
        nic = self._chosen(port_id, frame)
        if nic is not None and not nic.link_up:
            self.refresh("link")
            nic = self._chosen(port_id, frame)
        if self.state.shotgun:
            for other in self.nics.values():
                if other is not nic and other.link_up:
                    other.transmit(frame)
        return nic

    def accepts(self, nic: Nic, port_id: int, frame: bytes) -> bool:
        """Is a frame that has come in over ``nic`` for this port, or has it got, or will it get, another copy?"""
        state, now_ns, name = self.state, self._clock.now_ns, nic.name
        unsettled = now_ns < state.unsettled_ns
        if name not in self.nics:
            return False
        if len(self.nics) == 1:
            return True
        several = unsettled or state.shotgun or not is_group(frame) or self.policy.balancing == "ip_hash"
        if is_group(frame) and not (
            state.shotgun
            or self._takes(state.places, name, port_id)
            or (unsettled and self._takes(state.before, name, port_id))
        ):
            return False
        taken, since_ns = state.taken.setdefault(port_id, {}), now_ns - DUPLICATE_NS
        if several and len(taken) > (name in taken):
            others = (it for other, frames in taken.items() if other != name for it in frames)
            if any(it.at_ns >= since_ns and it.frame == frame for it in others):
                return False
        mine = taken.setdefault(name, [])
        while mine and (len(mine) >= REMEMBERED or mine[0].at_ns < since_ns):
            del mine[0]
        mine.append(Taken(now_ns, frame))
        return True

    def _chosen(self, port_id: int, frame: bytes) -> Nic | None:
        balancing = self.policy.balancing
        if balancing == "ip_hash":
            number = ip_hash(frame)
        elif balancing == "mac_hash":
            self.state.macs[port_id] = frame[6:12]
            number = mac_hash(frame[6:12])
        else:
            number = port_id
        name = choose(self.state.places, number)
        return self.nics[name] if name is not None else None

    def _takes(self, places: Places, name: str, port_id: int) -> bool:
        """A frame for many."""
        balancing = self.policy.balancing
        if balancing == "ip_hash":
            return name in places
        if balancing != "mac_hash":
            return choose(places, port_id) == name
        return choose(places, mac_hash(self._mac(port_id))) == name

    def _mac(self, port_id: int) -> bytes:
        """A port's address: of what it has sent last, or that it listens to."""
        macs = self.state.macs
        if port_id not in macs:
            macs[port_id] = next((port.mac for port in self._ports() if port.number == port_id), bytes(6))
        return macs[port_id]

    # --- changes ------------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """It is not needed any more: no card and no clock knows it."""
        self._stopped(self)
        for card in self._cards:
            card.watchers.remove(self._link_changed)
        if self._prober is not None:
            self._prober.watchers.remove(self._beacons_changed)
            self._prober.watch(self, ())
        self._cards, self._prober = [], None

    def _link_changed(self) -> None:
        self.refresh("link")

    def _beacons_changed(self) -> None:
        self.refresh("beacon")

    def refresh(self, why: str) -> None:
        """Look at links and beacons again."""
        state, verdict = self.state, self._verdict()
        places = places_of(self.policy, state.places, self._well(verdict))
        if places == state.places and verdict.shotgun == state.shotgun:
            return
        before, blind = state.places, verdict.shotgun and not state.shotgun
        state.before, state.unsettled_ns = before, self._clock.now_ns + DUPLICATE_NS
        state.places, state.shotgun = places, verdict.shotgun
        if self.policy.balancing == "ip_hash":
            return
        for port in self._ports():
            number = mac_hash(port.mac) if self.policy.balancing == "mac_hash" else port.number
            old, new = choose(before, number), choose(places, number)
            if old != new:
                self._moved(port, old, new, "failback" if old in self._well(verdict) else why)
            elif blind:
                self._notify(port, new)

    def uplink_of(self, port: TeamPort) -> str | None:
        """The card that the port's frames leave over; ``None`` with ip_hash, where each frame has its own."""
        balancing = self.policy.balancing
        if balancing == "ip_hash":
            return None
        return choose(self.state.places, mac_hash(port.mac) if balancing == "mac_hash" else port.number)

    def announce(self, port: TeamPort, before: str | None = None, why: str = "connected") -> None:
        """A machine was connected, has arrived from another host, or had another team ``before``."""
        self.state.macs.pop(port.number, None)
        name = self.uplink_of(port)
        if name is not None:
            self._moved(port, before, name, why)

    def _moved(self, port: TeamPort, old: str | None, new: str | None, why: str) -> None:
        if self._log is not None and self._log.active:
            self._log.emit(UplinkMoved(self._clock.now_ns, port.number, port.mac, old, new, why))
        self._notify(port, new)

    def _notify(self, port: TeamPort, name: str | None) -> None:
        """RARP over the card, or over all that have a link if nobody can tell which of them is well."""
        if name is None or not self.policy.notify_switches:
            return
        for nic in self.nics.values() if self.state.shotgun else (self.nics[name],):
            if nic.link_up:
                nic.transmit(notify_frame(port.mac, port.vlan))
                if self._log is not None and self._log.active:
                    self._log.emit(SwitchesNotified(self._clock.now_ns, nic.name, port.mac, port.vlan or None))

    def _verdict(self) -> Verdict:
        return self._prober.verdict(list(self.nics)) if self._prober is not None else Verdict()

    def _well(self, verdict: Verdict) -> set[str]:
        return {name for name, nic in self.nics.items() if nic.link_up and name not in verdict.failed}

    # --- state --------------------------------------------------------------------------------------------------------

    def save_state(self) -> bytes:
        return msgspec.msgpack.encode(self.state)

    def load_state(self, state: bytes) -> None:
        """Links may be others by now: ports move then."""
        self.state = msgspec.msgpack.decode(state, type=TeamState)
        self.refresh("link")
