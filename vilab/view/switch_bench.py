"""A virtual switch to be wired by hand: port groups, cables, policies; then somebody sends, and frames are seen.

::

    page --- {"do": "bench", "what": "vlan", "name": "web1", "to": "20"} ---> lab.set_vlan: the real switch
    page --- {"do": "bench", "what": "send", "who": "web1", "how": "ping", "whom": "db1"} ---> the real host
    page <-- frame(), with frame["bench"]: what stands in each control      every act is recorded from the beginning

Nothing is prepared: what is shown after a click is what the parts of ``vilab.network`` have done since.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from vilab.errors import AdminError
from vilab.network.ethernet import BROADCAST
from vilab.network.packets import BROADCAST_IP
from vilab.network.policies import SecurityPolicy, TeamingPolicy
from vilab.network.vlan_tagging import TRUNK
from vilab.view.playback import Playback
from vilab.view.predict import Prediction
from vilab.view.switch_frame import SwitchStep
from vilab.view.switch_lab import CABLES, QUIET_NS, SwitchLab
from vilab.view.switch_says import listed
from vilab.view.switch_track import SwitchTrack
from vilab.view.words import duration

SECOND_NS = 1_000_000_000
VLANS = {
    "0": "none (EST)",
    "10": "10 (VST)",
    "20": "20 (VST)",
    f"{TRUNK}": "all (VGT)",
    f"{TRUNK}:10": "all, guest tags 10",
}
CABLE_WORDS = {"in": "cable in", "out": "cable pulled", "wrong": "port in VLAN 99"}
POLICIES = {"promiscuous": "promiscuous mode", "mac_changes": "MAC changes", "forged_transmits": "forged transmits"}
BALANCING = {"port_id": "port ID", "mac_hash": "MAC hash", "ip_hash": "IP hash", "explicit": "failover order"}
DETECTION = {"link": "link state", "beacon": "beacons"}
VERBS = {
    "ping": "pings", "broadcast": "broadcasts", "forge": "sends in the name of", "tag": "tags a frame with VLAN 20",
    "mac": "sets another MAC, or its own again", "listen": "listens to everything, or to itself again",
}  # fmt: skip
ALONE = ("broadcast", "tag", "mac", "listen")
OTHER_MAC = bytes.fromhex("025056a10301")


class Bench:
    """A lab, and what a person does to it. ``steps``: of the last act."""

    def __init__(self, lab: SwitchLab) -> None:
        self.lab = lab
        names = list(lab.stations)
        self.sending = {"who": names[0], "how": "ping", "whom": names[1]}

    @property
    def steps(self) -> list[SwitchStep]:
        return self.lab.recorder.steps

    # --- what an administrator of the host does -----------------------------------------------------------------------

    def set(self, what: str, name: str, to: str) -> None:
        """``vlan``, ``cable``, ``policy``, ``team``, ``detection`` or ``failback``. Raises ``AdminError``."""
        act = {
            "vlan": self._vlan, "cable": self._cable, "policy": self._policy, "team": self._team,
            "detection": self._detection, "failback": self._failback,
        }.get(what)  # fmt: skip
        if act is None:
            raise AdminError(f"There is nothing to be set that is called {what!r}.")
        self._recorded(lambda: act(name, to), SECOND_NS * 5 if self._beacons else QUIET_NS)

    @property
    def _beacons(self) -> bool:
        return self.lab.switch.policies.teaming.detection == "beacon"

    def _recorded(self, act: Callable[[], str], for_ns: int) -> None:
        recorder = self.lab.recorder
        before = recorder.steps
        recorder.begin("Before")
        try:
            words = act()
        except AdminError:
            recorder.steps = before
            raise
        at = len(recorder.steps)
        recorder.note(words)
        recorder.steps.insert(1, recorder.steps.pop(at))
        recorder.steps[0] = msgspec.structs.replace(recorder.steps[0], words=f"Next: {words}")
        self.lab.run(for_ns)

    def _vlan(self, name: str, to: str) -> str:
        if to not in VLANS:
            raise AdminError(f"{to!r} is no choice here: {', '.join(VLANS)} are.")
        vlan, _, tag = to.partition(":")
        return self.lab.set_vlan(name, int(vlan), int(tag) if tag else None)

    def _cable(self, name: str, to: str) -> str:
        return self.lab.set_cable(name, to)

    def _policies(self, **parts: SecurityPolicy | TeamingPolicy) -> None:
        self.lab.set_policies(msgspec.structs.replace(self.lab.switch.policies, **parts))

    def _policy(self, name: str, to: str) -> str:
        if name not in POLICIES:
            raise AdminError(f"There is no security policy {name!r}; there are {', '.join(POLICIES)}.")
        allowed = to in ("accept", "true", "True")
        self._policies(security=msgspec.structs.replace(self.lab.switch.policies.security, **{name: allowed}))
        return f"{POLICIES[name][0].upper()}{POLICIES[name][1:]}: {'accept' if allowed else 'reject'}"

    def _teaming(self, **what: Any) -> None:
        self._policies(teaming=msgspec.structs.replace(self.lab.switch.policies.teaming, **what))

    def _team(self, _: str, to: str) -> str:
        if to not in BALANCING:
            raise AdminError(f"{to!r} is no load balancing policy: {', '.join(BALANCING)} are.")
        self._teaming(balancing=to)
        return f"Load balancing by {BALANCING[to]}"

    def _detection(self, _: str, to: str) -> str:
        if to not in DETECTION:
            raise AdminError(f"{to!r} is no way to detect a failure: {', '.join(DETECTION)} are.")
        self._teaming(detection=to)
        return f"Failures are detected by {DETECTION[to]}"

    def _failback(self, _: str, to: str) -> str:
        self._teaming(failback=to == "yes")
        return f"Failback: {'yes' if to == 'yes' else 'no'}"

    # --- what a guest does --------------------------------------------------------------------------------------------

    def send(self, who: str, how: str, whom: str = "") -> None:
        """``who`` does something, to or in the name of ``whom``. Raises ``AdminError``."""
        station = self.lab.station(who)
        if how not in VERBS:
            raise AdminError(f"{how!r} is nothing that a guest can do here: {', '.join(VERBS)} are.")
        if how not in ALONE:
            self.lab.station(whom)
            if who == whom:
                raise AdminError(f"{who} cannot do that with itself: choose somebody else.")
        self.sending = {"who": who, "how": how, "whom": whom or self.sending["whom"]}
        if how in ("mac", "listen"):
            self._recorded(lambda: self._change(who, how), QUIET_NS)
            return
        recorder = self.lab.recorder
        recorder.begin(f"{who} {VERBS[how]}{'' if how in ALONE else ' ' + whom}")
        if how == "ping":
            self._ping(who, whom)
            return
        if how == "broadcast":
            station.peer.announce()
        elif how == "forge":
            station.send_as(self.lab.station(whom).mac, BROADCAST, BROADCAST_IP)
        else:
            station.send_tagged(20, BROADCAST_IP)
        self.lab.run()

    def _ping(self, who: str, whom: str) -> None:
        """With ARP caches emptied, so that the whole conversation is seen."""
        for each in (who, whom):
            state = self.lab.station(each).peer.state
            state.neighbours.clear()
            state.waiting.clear()
        peer = self.lab.station(who).peer
        before, begun_ns = len(peer.replies), self.lab.clock.now_ns
        peer.ping(self.lab.station(whom).ip, len(peer.replies) + 1)
        self.lab.run()
        heard = [s.at_ns for s in self.steps if any(c.place == who for c in s.copies)]
        if len(peer.replies) > before:
            self.lab.recorder.note(
                f"**{who} has its answer** from {whom}, {duration(heard[-1] - begun_ns)} after it asked"
            )
        else:
            self.lab.recorder.note(f"**No answer**: {who} has waited for {whom} in vain")

    def _change(self, who: str, how: str) -> str:
        station = self.lab.station(who)
        if who not in self.lab.ports:
            raise AdminError(f"{who} is outside: its card is not on this switch.")
        if how == "listen":
            station.listen_to_all(not station.curious)
            return f"{who}'s driver asks its card for {'every frame' if station.curious else 'its own frames only'}"
        station.set_address(OTHER_MAC if station.mac == station.own_mac else station.own_mac)
        return f"{who}'s driver sets the address {station.mac.hex(':')}"

    # --- what stands in the controls ----------------------------------------------------------------------------------

    def controls(self) -> dict[str, Any]:
        lab, teaming = self.lab, self.lab.switch.policies.teaming
        security = msgspec.structs.asdict(lab.switch.policies.security)
        tags = {name: lab.stations[name].tag for name in lab.wanted}
        vlans = {name: f"{lab.ports[name].vlan}{'' if tags[name] is None else f':{tags[name]}'}" for name in lab.wanted}
        return {
            "machines": [[name, vlans[name]] for name in lab.wanted], "vlans": [*map(list, VLANS.items())],
            "uplinks": [[name, lab.cable(name)] for name in lab.wires], "cables": [*map(list, CABLE_WORDS.items())],
            "policies": [[name, words, security[name]] for name, words in POLICIES.items()],
            "team": teaming.balancing, "teams": [*map(list, BALANCING.items())],
            "detection": teaming.detection, "detections": [*map(list, DETECTION.items())],
            "failback": "yes" if teaming.failback else "no", "send": self.sending,
            "verbs": [*map(list, VERBS.items())], "alone": list(ALONE), "who": list(lab.stations),
        }  # fmt: skip


def who_hears(steps: list[SwitchStep], position: int) -> Prediction | None:
    """Before a broadcast reaches the switch: how many machines get a copy?"""
    step = steps[position]
    inside = step.scene.machine(step.origin) is not None
    if step.kind != "sends" or not inside or step.frame[:6] != BROADCAST or position + 1 >= len(steps):
        return None

    def heard() -> list[str]:
        names = {m.name for m in step.scene.machines}
        return [c.place for c in steps[position + 1].copies if c.place in names]

    def why() -> str:
        found, after = heard(), steps[position + 1]
        if after.kind == "drops":
            return f"Nobody: {after.reason}."
        others = sorted({reason for _, reason in after.refused})
        return f"{listed(found) if found else 'Nobody'}. The others: {', '.join(others) or 'none'}."

    return Prediction(
        f"{step.origin} sends to everybody. How many other machines of this host get a copy?",
        ("None.", "One.", "Two.", "Three or more."), lambda: min(len(heard()), 3), why,
    )  # fmt: skip


class BenchPlayback(Playback):
    """A playback whose page may also wire and send."""

    def __init__(self, bench: Bench, question: str, asks: bool = True) -> None:
        self.bench, self._asks, self._question = bench, asks, question
        super().__init__(SwitchTrack(bench.steps, question, clickable=True), self._ask)

    def _ask(self, position: int) -> Prediction | None:
        track = self.track
        assert isinstance(track, SwitchTrack)
        return who_hears(track.steps, position) if self._asks and position == 1 else None

    def handle(self, message: Mapping[str, Any]) -> None:
        if message.get("do") != "bench":
            super().handle(message)
            return
        try:
            self.act({str(key): str(value) for key, value in message.items()})
        except Exception as error:
            self.failed(error)

    def act(self, wish: Mapping[str, str]) -> None:
        """Wire or send; what was recorded before is gone."""
        what = wish.get("what", "")
        if what == "send":
            self.bench.send(wish.get("who", ""), wish.get("how", ""), wish.get("whom", ""))
        elif what == "next":
            self._next(wish.get("kind", ""), wish.get("name", ""))
        else:
            self.bench.set(what, wish.get("name", ""), wish.get("to", ""))
        self.show(SwitchTrack(self.bench.steps, self._question, clickable=True))
        if self.bench.steps[1].kind == "set":
            self.seek(1)

    def _next(self, kind: str, name: str) -> None:
        """Something in the picture was pressed: it gets the next of its settings."""
        given = self.bench.controls()
        if kind == "vlan":
            choices, now = list(VLANS), dict(given["machines"]).get(name)
        else:
            choices, now = list(CABLES), dict(given["uplinks"]).get(name)
        self.bench.set(kind, name, choices[(choices.index(now) + 1) % len(choices)] if now in choices else "")

    def frame(self) -> dict[str, Any]:
        made = super().frame()
        made["bench"] = self.bench.controls()
        return made
