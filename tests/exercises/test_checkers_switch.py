"""The checkers of lesson 16: right answers written another way pass, typical mistakes are shown with what happened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from vilab.course import checkers_network as network
from vilab.course import checkers_switch as switches
from vilab.course.checkers_switch import Judge, Port
from vilab.course.feedback import Feedback, WrongAnswer
from vilab.network.ethernet import BROADCAST, MIN_FRAME_BYTES, tagged, untagged, vlan_of
from vilab.network.policies import (
    Overrides,
    Policies,
    SecurityOverride,
    SecurityPolicy,
    TeamingOverride,
    TeamingPolicy,
)  # fmt: skip
from vilab.network.virtual_switch import VirtualSwitch
from vilab.network.vlan_tagging import TRUNK


def wrong(check: Callable[..., Feedback], *arguments: Any) -> Feedback:
    with pytest.raises(WrongAnswer) as caught:
        check(*arguments)
    return caught.value.feedback


# 16a -----------------------------------------------------------------------------------------------------------------


def forward(ports: Mapping[int, Port], arrived: int, frame: bytes, forget: str = "") -> dict[int, bytes]:
    """``forget``: leave one rule out."""
    own, vlan = ports[arrived], vlan_of(frame)
    if own.vlan == TRUNK:
        inside = frame if vlan is None else untagged(frame)
        vlan = vlan or 0
    elif vlan is not None and forget != "guest tag":
        return {}
    else:
        inside, vlan = frame if vlan is None else untagged(frame), own.vlan
    machines = [p for p in ports.values() if p.address and (p.vlan in (vlan, TRUNK) or forget == "VLAN")]
    if forget != "came back" and own.is_uplink and any(p.address == inside[6:12] for p in machines):
        return {}
    out: dict[int, bytes] = {}
    for port in machines:
        wanted = inside[:6] in (BROADCAST, port.address) or (port.sees_all and forget != "sees all")
        other = own.is_uplink and inside[:6] == BROADCAST and port.leaves_by != arrived and forget != "other uplink"
        if wanted and not other and port.number != arrived:
            out[port.number] = inside
    known = any(p.address == inside[:6] for p in machines)
    if not own.is_uplink and (not known or forget == "inside") and own.leaves_by is not None:
        out[own.leaves_by] = inside
    outer = frame if frame[12:14] == b"\x81\0" else tagged(frame, vlan) if vlan else frame
    if forget == "priority" and vlan:
        outer = tagged(inside, vlan)
    if forget == "tag":
        outer = inside
    return {n: outer if ports[n].vlan == TRUNK else data for n, data in out.items()}


def test_who_gets_it() -> None:
    assert switches.check_forward(forward, range(1, 12)).right


@pytest.mark.parametrize(
    "rule", ["guest tag", "VLAN", "came back", "sees all", "other uplink", "inside", "priority", "tag"]
)
def test_a_rule_that_is_left_out_is_seen_in_the_visible_cases(rule: str) -> None:
    feedback = wrong(switches.check_forward, lambda p, a, f: forward(p, a, f, rule))
    assert feedback.trace[0].split()[:3] == ["port", "vlan", "address"]


@pytest.mark.parametrize("answer", [None, {}, [9], {9: "frame"}, {"all": b""}])
def test_what_is_no_answer_is_said(answer: Any) -> None:
    assert wrong(switches.check_forward, lambda *_: answer).sentence.startswith("forward(ports, ")


def test_the_judge_is_the_switch_and_its_cases_are_of_all_kinds() -> None:
    why, kinds = set(), set()
    for seed in range(1, 5):
        judge = Judge(seed)
        for case in (judge.case() for _ in range(60)):
            why.add(case.why)
            kinds.add((judge.ports[case.arrived].is_uplink, case.frame[:6] == BROADCAST, vlan_of(case.frame) is None))
            assert all(len(frame) >= MIN_FRAME_BYTES for frame in case.got.values())
    assert {"", "guest tag", "came back", "unknown address", "own address"} <= why
    assert len(kinds) == 8


# 16b -----------------------------------------------------------------------------------------------------------------

ORDER = ("vmnic0", "vmnic1", "vmnic2")


def configure(switch: VirtualSwitch, **change: Any) -> dict[str, str]:
    """By overrides where the instructor's has the switch's policies. ``change``: something else than is right."""
    said = {"vlan": 20, "router": TRUNK, "watch": True, "web2": "web", "forged": False, "detection": "beacon",
            "balancing": "explicit", "standby": ("vmnic1", "vmnic2"), **change}  # fmt: skip
    switch.set_policies(Policies(security=SecurityPolicy(forged_transmits=said["forged"])))

    def team(first: str, others: tuple[str, ...]) -> TeamingOverride:
        return TeamingOverride(
            active=(first,), standby=others, detection=said["detection"], balancing=said["balancing"]
        )

    web, db = team("vmnic0", said["standby"]), team("vmnic1", ("vmnic0", "vmnic2"))
    switch.add_port_group("web", 10, Overrides(teaming=web))
    watch = SecurityOverride(promiscuous=said["watch"])
    switch.add_port_group("watch", 10, Overrides(teaming=web, security=watch))
    switch.add_port_group("db", said["vlan"], Overrides(teaming=db))
    switch.add_port_group("router", said["router"], Overrides(teaming=web))
    return {"web1": "web", "web2": said["web2"], "ids": "watch", "db1": "db", "db2": "db", "router": "router"}


@pytest.mark.parametrize("part", ["apart", "failures"])
def test_a_right_configuration_passes(part: str) -> None:
    assert network.check_configure(configure, part).right


MISTAKES: dict[str, tuple[dict[str, Any], str, str]] = {
    "one VLAN for all": ({"vlan": 10}, "apart", "hears nothing"),
    "the router in one VLAN": ({"router": 10}, "apart", "router tags its frames"),
    "nobody watches": ({"watch": False}, "apart", "ids sees 0 frames"),
    "everybody watches": ({"web2": "watch"}, "apart", "web2's driver"),
    "lies are let through": ({"forged": True}, "apart", "in the name of gw"),
    "link state only": ({"detection": "link"}, "failures", "is in a wrong VLAN"),
    "one uplink only": ({"standby": ()}, "failures", "has no cable"),
    "spread by port": ({"balancing": "port_id", "standby": ()}, "failures", "has no cable"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_shown_by_what_happens(name: str) -> None:
    change, part, words = MISTAKES[name]
    feedback = wrong(network.check_configure, lambda switch: configure(switch, **change), part)
    assert words in feedback.sentence
    assert feedback.trace


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda switch: None, "a dict is wanted"),
        (lambda switch: {"web1": "x"}, "the switch has none"),
        (lambda switch: {}, "does not say which port group web1"),
        (lambda switch: switch.add_port_group("a", 5000), "raised AdminError"),
        (lambda switch: switch.port_group("nowhere"), "raised AdminError"),
    ],
)
def test_what_is_no_configuration_is_said(answer: Callable[[VirtualSwitch], Any], words: str) -> None:
    assert words in wrong(network.check_configure, answer).sentence


def test_policies_that_hold_for_the_whole_switch_are_as_good() -> None:
    def whole(switch: VirtualSwitch) -> dict[str, str]:
        teaming = TeamingPolicy(balancing="explicit", active=ORDER, detection="beacon")
        switch.set_policies(Policies(security=SecurityPolicy(forged_transmits=False), teaming=teaming))
        switch.add_port_group("a", 10)
        switch.add_port_group("b", 10, Overrides(security=SecurityOverride(promiscuous=True)))
        other = TeamingOverride(active=("vmnic1", "vmnic2"), standby=("vmnic0",))
        switch.add_port_group("c", 20, Overrides(teaming=other))
        switch.add_port_group("d", TRUNK)
        return {"web1": "a", "web2": "a", "ids": "b", "db1": "c", "db2": "c", "router": "d"}

    for part in ("apart", "failures"):
        assert network.check_configure(whole, part).right
