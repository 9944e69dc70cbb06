"""Exercise 16b: a switch's configuration, judged by what reaches whom, with all uplinks well and with each one failed.

::

    configure(switch) ──> {machine: port group}      switch: a real one, with vmnic0, vmnic1, vmnic2

    who has to reach whom        web1 web2 gw | db1 db2 vault | router with both         pings
    who must not hear whom       web and db                                              captures of every port
    who watches                  ids, and nobody else                                    captures
    nobody lies                  forged sources are dropped                              captures
    which way                    web by vmnic0, db by vmnic1, while they are well        captures of the uplinks
    with any one uplink failed   cable pulled; in a wrong VLAN                           pings, 5 s later
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from vilab.course.exercise_student import call
from vilab.course.feedback import Feedback, WrongAnswer, right
from vilab.network.ethernet import BROADCAST, is_group, vlan_of
from vilab.network.packets import BROADCAST_IP
from vilab.network.virtual_switch import VirtualSwitch
from vilab.view.switch_lab import SwitchLab, Wanted
from vilab.view.switch_says import say
from vilab.view.words import plain

SECOND_NS = 1_000_000_000
UPLINKS = ("vmnic0", "vmnic1", "vmnic2")
MACHINES = (
    Wanted("web1", "00:50:56:a1:3c:07", "10.0.0.7", 10),
    Wanted("web2", "00:50:56:a1:3c:19", "10.0.0.19", 10, curious=True),
    Wanted("db1", "00:50:56:a1:44:02", "10.0.0.2", 20),
    Wanted("db2", "00:50:56:a1:44:04", "10.0.0.4", 20),
    Wanted("router", "00:50:56:a1:52:0e", "10.0.0.1", 4095, tag=10),
    Wanted("ids", "00:50:56:a1:66:13", "10.0.0.66", 10, curious=True),
)
OUTSIDE = (
    Wanted("gw", "00:1a:e3:07:d8:fe", "10.0.0.254", 10),
    Wanted("vault", "00:1a:e3:07:d9:14", "10.0.0.250", 20),
)
WEB, DB = ("web1", "web2", "ids", "gw"), ("db1", "db2", "vault")
TALK = (("web1", "web2"), ("web1", "gw"), ("web2", "gw"), ("db1", "db2"), ("db1", "vault"), ("db2", "vault"))
FAULTS = ("all is well", *(f"{name} {how}" for name in UPLINKS for how in ("out", "wrong")))
WORDS = {"out": "has no cable", "wrong": "is in a wrong VLAN on the physical switch"}

Configure = Callable[[VirtualSwitch], object]


class _Lab:
    """A lab that the student has configured, and what is found out about it."""

    def __init__(self, configure: Configure) -> None:
        def asked(switch: VirtualSwitch) -> Mapping[str, str]:
            found = call(configure, switch, said="configure(switch)")
            return _groups(switch, found)

        self.lab = SwitchLab(MACHINES, OUTSIDE, len(UPLINKS), configure=asked)
        self.situation = "all is well"

    def fail(self, fault: str) -> None:
        name, _, how = fault.partition(" ")
        self.situation = f"{name} {WORDS[how]}"
        self.lab.set_cable(name, how)
        self.lab.run(5 * SECOND_NS)

    def ping(self, who: str, whom: str) -> bool:
        peer = self.lab.station(who).peer
        for each in (who, whom):
            state = self.lab.station(each).peer.state
            state.neighbours.clear()
            state.waiting.clear()
        before = len(peer.replies)
        self._fresh()
        peer.ping(self.lab.station(whom).ip, before + 1)
        self.lab.run()
        return len(peer.replies) > before

    def must_reach(self, who: str, whom: str) -> None:
        if not self.ping(who, whom):
            raise WrongAnswer(f"{self._when()}, {who} pings {whom} and hears nothing.", self._trace())

    def _fresh(self) -> None:
        for kept in self.lab.captures.values():
            kept.clear()
        self.lab.recorder.begin()

    def frames(self, name: str) -> Iterator[bytes]:
        yield from (packet.frame for packet in self.lab.captures[name])

    def mac(self, name: str) -> bytes:
        return self.lab.station(name).own_mac

    def wrong(self, sentence: str) -> WrongAnswer:
        return WrongAnswer(f"{self._when()}, {sentence}", self._trace())

    def _when(self) -> str:
        return "When all is well" if self.situation == "all is well" else f"When {self.situation}"

    def _trace(self) -> tuple[str, ...]:
        steps = [step for step in self.lab.recorder.steps[1:] if step.kind != "set"]
        return tuple(f"{(s.at_ns - steps[0].at_ns) / 1000:8.1f} µs  {plain(say(s))}" for s in steps[:8])


def _groups(switch: VirtualSwitch, found: object) -> Mapping[str, str]:
    if not isinstance(found, Mapping):
        raise WrongAnswer(f"configure(switch) gave {found!r:.60}; a dict is wanted, machine to port group.")
    for machine in MACHINES:
        if machine.name not in found:
            raise WrongAnswer(f"configure(switch) does not say which port group {machine.name} is connected to.")
        if found[machine.name] not in switch.groups:
            names = ", ".join(switch.groups) or "none"
            raise WrongAnswer(
                f"{machine.name} shall be in port group {found[machine.name]!r:.40}; the switch has {names}."
            )
    return found


def check_configure(configure: Configure, part: str = "apart") -> Feedback:
    """``configure(switch)``. ``part``: ``apart`` (who hears whom, one lab), ``failures`` (a lab for each)."""
    if part == "apart":
        lab = _Lab(configure)
        _talk(lab)
        _apart(lab)
        _watched(lab)
        _honest(lab)
        return right("Who has to talk talks, web and db hear nothing of each other, only ids watches, and nobody lies.")
    _ways(_Lab(configure))
    for fault in FAULTS[1:]:
        lab = _Lab(configure)
        lab.fail(fault)
        _talk(lab)
        _apart(lab)
    return right(f"Web leaves by vmnic0, db by vmnic1, and all goes on after each of {len(FAULTS) - 1} failures.")


def _talk(lab: _Lab) -> None:
    for who, whom in TALK:
        lab.must_reach(who, whom)
    router = lab.lab.station("router")
    for tag, whom in ((10, "web1"), (20, "db1")):
        router.tag = tag
        if not lab.ping("router", whom):
            raise lab.wrong(f"router tags its frames with VLAN {tag}, pings {whom} and hears nothing.")


def _apart(lab: _Lab) -> None:
    for group, others in ((WEB, DB), (DB, WEB)):
        for who in (name for name in group if name in lab.lab.ports):
            lab.lab.station("router").tag = 10 if group is WEB else 20
            lab._fresh()
            lab.lab.station(who).peer.announce()
            lab.lab.run()
            for other in (name for name in others if name in lab.lab.ports):
                if any(frame[6:12] == lab.mac(who) for frame in lab.frames(other)):
                    raise lab.wrong(f"{who} broadcasts, and {other} gets a copy.")


def _watched(lab: _Lab) -> None:
    for who, whom in (("web1", "gw"), ("db1", "db2")):
        lab.ping(who, whom)
        pair = {lab.mac(who), lab.mac(whom)}
        for watcher in ("web2", "ids"):
            seen = [f for f in lab.frames(watcher) if not is_group(f[:6]) and {f[:6], f[6:12]} == pair]
            if seen and watcher == "web2":
                raise lab.wrong(
                    f"web2's driver asks for every frame, and sees what {who} and {whom} say to each other."
                )
            if watcher == "ids" and bool(seen) != (who == "web1"):
                raise lab.wrong(f"ids sees {len(seen)} frames of the conversation between {who} and {whom}.")


def _honest(lab: _Lab) -> None:
    for liar, victim in (("web2", "gw"), ("db2", "vault")):
        lab._fresh()
        lab.lab.station(liar).send_as(lab.mac(victim), BROADCAST, BROADCAST_IP)
        lab.lab.run()
        for name in (*lab.lab.ports, *lab.lab.wires):
            if name != liar and any(f[6:12] == lab.mac(victim) for f in lab.frames(name)):
                raise lab.wrong(f"{liar} sends in the name of {victim}, and the frame gets to {name}.")


def _ways(lab: _Lab) -> None:
    for who, whom, way in (
        ("web1", "gw", "vmnic0"),
        ("web2", "gw", "vmnic0"),
        ("db1", "vault", "vmnic1"),
        ("db2", "vault", "vmnic1"),
    ):
        lab.must_reach(who, whom)
        for uplink in UPLINKS:
            own = [f for f in lab.frames(uplink) if f[6:12] == lab.mac(who) and not is_group(f[:6])]
            if bool(own) != (uplink == way):
                where = "does not leave" if uplink == way else "leaves"
                raise lab.wrong(f"what {who} sends to {whom} {where} by {uplink}; it should take {way}.")
            assert all(vlan_of(f) for f in own)
