"""Beacon probing: cards of one team listen for each other's frames, and find out whom the network does not reach.

::

    every second, each card            a twentieth of a second later, for each pair
    broadcast  "vSwitch0, vmnic1" ───> heard: 0          not heard: one more in a row
                                       3 in a row: the two do not hear each other

    who hears whom, both ways          vmnic0 ─── vmnic1      vmnic2
                                       the largest group is well; who is not in it has failed

    no group is larger than all others (two cards that do not hear each other): nobody can tell who has failed.
    Shotgun: everything is sent over all of them.

    frame    | broadcast | card's MAC | 8922 | 1 | length, name of the switch | length, name of the card |
                                               version     up to 255 octets each, UTF-8

So n cards stand n - 2 failures. A beacon is for the switch only: it gets to no machine. With "IP hash" it must not be
used, because a group of links does not carry a beacon back.

MODEL: what is behind the type is VMware's own and not published; this layout is ours. The type is that of ESX 4.1; ESX
3.5 is reported to have used 0x05FF, which is no valid type. Beacons go out for every VLAN that ports are in.

Sources: ESX Server 3 Configuration Guide, "Network Failover Detection"; VMware networking blog, "Beaconing demystified"
(2008): three beacons in a row, n - 2, shotgun; VMware KB 1005577.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial

import msgspec

from vilab.clock import Timer, VirtualClock
from vilab.errors import AdminError, VilabError
from vilab.events import EventLog
from vilab.network.ethernet import BROADCAST, HEADER_BYTES, MAX_VLAN, TAG_BYTES, frame_of, tagged, type_of, vlan_of
from vilab.network.physical_events import BeaconVerdict
from vilab.network.physical_nic import PhysicalNic

BEACON = 0x8922
VERSION = 1
INTERVAL_NS = 1_000_000_000
MISSED = 3
JUDGED_AFTER = 20
"""The part of an interval that beacons have for their way. What fails in between is noticed by the next ones."""


class BeaconError(VilabError):
    """A frame of the beacons' type that is none."""


class Beacon(msgspec.Struct, frozen=True):
    switch: str
    nic: str

    def encode(self) -> bytes:
        """The data of the frame. ``AdminError`` if a name is too long."""
        names = [name.encode() for name in (self.switch, self.nic)]
        if max(map(len, names)) > 255:
            raise AdminError(f"A name in a beacon has at most 255 octets, {max(names, key=len).decode()!r} has more.")
        return bytes([VERSION]) + b"".join(bytes([len(name)]) + name for name in names)


def parse_beacon(data: bytes) -> Beacon:
    if not data or data[0] != VERSION:
        raise BeaconError("A beacon of another version.")
    names, at = [], 1
    for _ in range(2):
        length = data[at] if at < len(data) else len(data)
        name = data[at + 1 : at + 1 + length]
        if len(name) != length:
            raise BeaconError("A beacon that is cut off.")
        try:
            names.append(name.decode())
        except UnicodeDecodeError:
            raise BeaconError("A beacon whose names are no text.") from None
        at += 1 + length
    return Beacon(*names)


class Verdict(msgspec.Struct, frozen=True):
    """``failed``: not to be used. ``shotgun``: use all others at once."""

    failed: tuple[str, ...] = ()
    shotgun: bool = False


class ProberState(msgspec.Struct):
    """``silent``: sender -> who should hear it -> beacons missed in a row. ``heard``: since the last ones were sent."""

    silent: dict[str, dict[str, int]] = {}
    heard: list[tuple[str, str]] = []
    next_ns: int = 0
    judging: bool = False
    verdict: Verdict = Verdict()


class BeaconProber:
    """All beacons of one virtual switch.

    Parameters
    ----------
    name : what no other switch of the network has; ``host1/vSwitch0``.
    vlans : in which ports are; asked each time. 0: untagged.
    watchers : are called when any pair begins or ceases to hear each other.
    """

    def __init__(
        self, name: str, clock: VirtualClock, log: EventLog | None = None, interval_ns: int = INTERVAL_NS,
        missed: int = MISSED, vlans: Callable[[], Collection[int]] = lambda: (0,),
    ) -> None:  # fmt: skip
        self.name, self.interval_ns, self.missed = name, interval_ns, missed
        self._clock, self._log, self._vlans = clock, log, vlans
        self._nics: dict[str, PhysicalNic] = {}
        self._wanted: dict[int, Sequence[PhysicalNic]] = {}
        self.watchers: list[Callable[[], None]] = []
        self.state = ProberState()
        self._timer: Timer | None = None

    @property
    def detection_ns(self) -> int:
        """How long after a failure, at most, everybody knows of it."""
        return self.missed * self.interval_ns

    def watch(self, who: object, nics: Sequence[PhysicalNic]) -> None:
        """``who`` wants to know about these cards from now on, or with none about nothing any more."""
        self._wanted.pop(id(who), None)
        if nics:
            self._wanted[id(who)] = nics
        for nic in self._nics.values():
            nic.intercept = None
        self._nics = {nic.name: nic for wanted in self._wanted.values() for nic in wanted}
        for nic in self._nics.values():
            nic.intercept = partial(self._intercept, nic.name)
        if not self._nics:
            self._forget()
        elif self._timer is None:
            self.state.next_ns, self.state.judging = self._clock.now_ns, False
            self._expect()

    def verdict(self, names: Collection[str]) -> Verdict:
        """On some of the cards. One without a link is neither well nor failed here."""
        up = [name for name in names if name in self._nics and self._nics[name].link_up]
        groups: list[set[str]] = []
        for name in up:
            mine = [group for group in groups if any(self._hear(name, other) for other in group)]
            groups = [group for group in groups if group not in mine]
            groups.append({name}.union(*mine))
        largest = max(map(len, groups), default=0)
        well = [group for group in groups if len(group) == largest]
        failed = tuple(name for name in up if not any(name in group for group in well))
        return Verdict(failed, len(well) > 1)

    def _hear(self, one: str, other: str) -> bool:
        """Each the other."""
        silent = self.state.silent
        return max(silent.get(one, {}).get(other, 0), silent.get(other, {}).get(one, 0)) < self.missed

    def _intercept(self, hearer: str, frame: bytes) -> bool:
        """A card has received a frame. True: it is a beacon, and gets no further."""
        if type_of(frame) != BEACON:
            return False
        data = frame[HEADER_BYTES + (0 if vlan_of(frame) is None else TAG_BYTES) :]
        try:
            beacon = parse_beacon(data)
        except BeaconError:
            return True
        pair = beacon.nic, hearer
        ours = beacon.switch == self.name and beacon.nic in self._nics and beacon.nic != hearer
        if ours and pair not in self.state.heard:
            self.state.heard.append(pair)
        return True

    # --- on the clock -------------------------------------------------------------------------------------------------

    def _expect(self) -> None:
        self._timer = self._clock.at(self.state.next_ns, self._tick)

    def _forget(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        state, now_ns = self.state, self._clock.now_ns
        wait_ns = self.interval_ns // JUDGED_AFTER
        leapt = now_ns - state.next_ns > wait_ns
        state.next_ns = now_ns + (self.interval_ns - wait_ns if state.judging else wait_ns)
        state.judging = not state.judging
        self._expect()
        if state.judging:
            self._send()
        elif not leapt:  # a clock that leaps leaves beacons no time on the wires
            self._judge()

    def _send(self) -> None:
        self.state.heard.clear()
        for nic in self._nics.values():
            if nic.link_up:
                frame = frame_of(BROADCAST, nic.mac, BEACON, Beacon(self.name, nic.name).encode())
                for vlan in sorted(self._vlans()) or (0,):
                    nic.transmit(tagged(frame, vlan) if 1 <= vlan <= MAX_VLAN else frame)

    def _judge(self) -> None:
        silent, heard = self.state.silent, set(self.state.heard)
        up = [name for name, nic in self._nics.items() if nic.link_up]
        counted = {
            one: {
                other: 0 if (one, other) in heard else min(silent.get(one, {}).get(other, 0) + 1, self.missed)
                for other in up if other != one
            }
            for one in up
        }  # fmt: skip
        changed = _deaf(silent, self.missed) != _deaf(counted, self.missed)
        self.state.silent = counted
        if not changed:
            return
        verdict = self.verdict(list(self._nics))
        if verdict != self.state.verdict and self._log is not None and self._log.active:
            self._log.emit(BeaconVerdict(self._clock.now_ns, verdict.failed, verdict.shotgun))
        self.state.verdict = verdict
        for watcher in self.watchers:
            watcher()

    # --- state --------------------------------------------------------------------------------------------------------

    def save_state(self) -> bytes:
        return msgspec.msgpack.encode(self.state)

    def load_state(self, state: bytes) -> None:
        self._forget()
        self.state = msgspec.msgpack.decode(state, type=ProberState)
        if self._nics:
            self._expect()


def _deaf(silent: dict[str, dict[str, int]], missed: int) -> set[tuple[str, str]]:
    return {(one, other) for one, others in silent.items() for other, count in others.items() if count >= missed}
