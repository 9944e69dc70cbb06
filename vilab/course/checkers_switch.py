"""Exercise 16a: who gets a frame, and in what form. The judge: a virtual switch with the same ports and frames.

::

    forward(ports, arrived, frame) ──> {port: frame}      arrived: the port where it came in; ports by number

    right: for every frame the same ports as the switch, and on each the same octets
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from vilab.clock import VirtualClock
from vilab.course.exercise_student import call
from vilab.course.feedback import Feedback, WrongAnswer, columns, right
from vilab.events import EventLog
from vilab.network.ethernet import BROADCAST, frame_of, tagged, text_of, vlan_of
from vilab.network.failover import choose
from vilab.network.network_events import FrameDropped
from vilab.network.policies import Overrides, SecurityOverride
from vilab.network.switch_port import SwitchPort
from vilab.network.teaming import Team
from vilab.network.teams import Teams
from vilab.network.virtual_switch import VirtualSwitch
from vilab.network.vlan_tagging import TRUNK

EXPERIMENTAL = 0x88B5
STRANGER = bytes.fromhex("001ae307d8fe")
UPLINKS = ("vmnic0", "vmnic1")

Forward = Callable[[Mapping[int, "Port"], int, bytes], object]


class Port(msgspec.Struct, frozen=True):
    """What the switch knows of a port.

    ``vlan``: of its port group, 0, 1 to 4094 or 4095; an uplink's is 4095. ``address``: that its card listens to,
    ``None`` for an uplink. ``sees_all``: its driver has asked for every frame, and the policy accepts that.
    ``leaves_by``: the uplink that its frames take, ``None`` for an uplink.
    """

    number: int
    is_uplink: bool
    vlan: int
    address: bytes | None = None
    sees_all: bool = False
    leaves_by: int | None = None


class Case(msgspec.Struct, frozen=True):
    """``got``: by port, as the switch has handed it out. ``why``: what the switch says of a frame that nobody gets."""

    arrived: int
    frame: bytes
    got: dict[int, bytes]
    why: str


class _Card:
    """Keeps what it gets, at a port or as an uplink."""

    def __init__(self, name: str) -> None:
        self.name, self.link_up = name, True
        self.on_receive: Callable[[bytes], None] = lambda frame: None
        self.got: list[bytes] = []

    def receive(self, frame: bytes) -> None:
        self.got.append(frame)

    transmit = receive

    def link_changed(self, up: bool) -> None: ...

    def wants_multicast(self, destination: bytes) -> bool:
        return False


class Judge:
    """A switch of some ports, made by chance, and what it does with frames."""

    def __init__(self, seed: int, vlans: Sequence[int] = (0, 10, 20, TRUNK)) -> None:
        self._lot = random.Random(seed)
        clock, log = VirtualClock(), EventLog(keep=True)
        teams = Teams("judge", clock)
        self._log, self.switch = log, VirtualSwitch("vSwitch0", clock, log, teams)
        teams.switch = self.switch
        self._cards: dict[int, _Card] = {}
        for name in UPLINKS:
            card = _Card(name)
            self._cards[self.switch.add_uplink(card).number] = card
        for vlan in vlans:
            self.switch.add_port_group(f"VLAN {vlan}", vlan)
            watched = Overrides(security=SecurityOverride(promiscuous=True))
            self.switch.add_port_group(f"VLAN {vlan}, watched", vlan, watched)
        for n in range(self._lot.randrange(5, 8)):
            self._connect(n, self._lot.choice(vlans))
        self.ports = {number: self._port(port) for number, port in self.switch.ports.items()}

    def _connect(self, n: int, vlan: int) -> None:
        watched = self._lot.random() < 0.15
        asks = watched or self._lot.random() < 0.3
        address = bytes.fromhex("005056a1") + bytes((self._lot.randrange(256), n))
        port = self.switch.connect(f"VLAN {vlan}{', watched' if watched else ''}", f"vm{n}", address=address)
        card = self._cards[port.number] = _Card(f"vm{n}")
        port.plug(card)
        port.listen(address, asks)

    def _port(self, port: SwitchPort) -> Port:
        if port.is_uplink:
            return Port(port.number, True, TRUNK)
        assert isinstance(port.team, Team)
        cards = {card.name: number for number, card in self._cards.items()}
        leaves_by = cards[choose(port.team.state.places, port.number) or ""]
        return Port(port.number, False, port.vlan, port.state.effective, port.sees_all, leaves_by)

    def case(self) -> Case:
        """A frame at some port, and who gets it."""
        lot = self._lot
        arrived = lot.choice([*self.ports, *(n for n, p in self.ports.items() if p.is_uplink)])
        own = self.ports[arrived]
        machines = [p for p in self.ports.values() if p.address is not None]
        destination = lot.choice([BROADCAST, BROADCAST, STRANGER, *(p.address for p in machines if p.address)])
        source = own.address or lot.choice([STRANGER, STRANGER, *(p.address for p in machines if p.address)])
        if own.is_uplink and source == STRANGER:
            source = STRANGER[:5] + b"\1"
        frame = frame_of(destination, source, EXPERIMENTAL, lot.randbytes(50))
        usual = own.vlan == TRUNK
        if lot.random() < (0.8 if usual else 0.15):
            frame = tagged(frame, lot.choice((10, 20, 30)), lot.choice((0, 0, 5)))
        return self.send(arrived, frame)

    def send(self, arrived: int, frame: bytes) -> Case:
        """What the switch does with it."""
        self._log.events.clear()
        for card in self._cards.values():
            card.got.clear()
        self.switch.ports[arrived].transmit(frame)
        got = {number: card.got[0] for number, card in self._cards.items() if card.got}
        dropped = self._log.of(FrameDropped)
        return Case(arrived, frame, got, dropped[-1].reason if dropped and not got else "")


def check_forward(forward: Forward, seeds: Sequence[int] = (1, 2, 3, 4), frames: int = 60) -> Feedback:
    """``forward(ports, arrived, frame)``: by port number, the frame as it leaves there."""
    for seed in seeds:
        judge = Judge(seed)
        for _ in range(frames):
            _compare(forward, judge, judge.case())
    return right(f"{len(seeds) * frames} frames on {len(seeds)} switches, to the same ports and octet by octet.")


def _compare(forward: Forward, judge: Judge, case: Case) -> None:
    words = f"forward(ports, {case.arrived}, {_frame(case.frame)})"
    found = call(forward, dict(judge.ports), case.arrived, case.frame, said=words)
    if not isinstance(found, Mapping):
        raise WrongAnswer(f"{words} gave {found!r:.60}; a dict is wanted, port number to frame.")
    given: dict[Any, Any] = dict(found)
    if set(given) != set(case.got):
        said = f" ({case.why})" if case.why else ""
        raise WrongAnswer(
            f"{words} gave {_numbers(given)}; the switch hands it to {_numbers(case.got)}{said}.",
            _shown(judge, case, given),
        )
    for number, frame in case.got.items():
        if given[number] != frame:
            raise WrongAnswer(
                f"{words}: on port {number} it should be {_frame(frame)}, not {_frame(given[number])}.",
                _shown(judge, case, given),
            )


def _numbers(ports: Mapping[Any, object]) -> str:
    return "no port" if not ports else f"port{'s' * (len(ports) > 1)} {', '.join(map(str, sorted(ports, key=str)))}"


def _frame(frame: object) -> str:
    if not isinstance(frame, bytes):
        return f"{frame!r:.40}"
    vlan = vlan_of(frame)
    what = "untagged" if vlan is None else f"tag {frame[12:16].hex()}, VLAN {vlan}"
    to = "everybody" if frame[:6] == BROADCAST else text_of(frame[:6])
    return f"<{len(frame)} octets, {what}, to {to} from {text_of(frame[6:12])}>"


def _shown(judge: Judge, case: Case, given: Mapping[Any, object]) -> tuple[str, ...]:
    """The ports, and what each of them gets."""
    rows = [("port", "vlan", "address", "sees all", "leaves by", "the switch", "yours")]
    for number, port in judge.ports.items():
        here = "here it came in" if number == case.arrived else "a copy" if number in case.got else "-"
        rows.append((
            f"{number}{' uplink' if port.is_uplink else ''}", str(port.vlan),
            text_of(port.address) if port.address else "-", "yes" if port.sees_all else "",
            str(port.leaves_by or "-"), here, "a copy" if number in given else "-",
        ))  # fmt: skip
    return columns(rows)
