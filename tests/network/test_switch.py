"""A virtual switch: configuration, ports, policies, uplinks, text."""

from __future__ import annotations

import msgspec
import pytest

from tests.network.ends import mac, numbered
from tests.network.site import OUTSIDE, Site
from tests.network.switches import Card, FirstWithLink, Outside, address, card, new_switch, security
from vilab.clock import VirtualClock
from vilab.errors import AdminError
from vilab.events import EventLog
from vilab.network.ethernet import BROADCAST, frame_of, tagged
from vilab.network.network_events import AddressSet, PortConnected, PortDisconnected
from vilab.network.policies import (
    Overrides,
    Policies,
    SecurityOverride,
    SecurityPolicy,
    ShapingOverride,
    ShapingPolicy,
    TeamingOverride,
    TeamingPolicy,
)
from vilab.network.switch_description import ports_described
from vilab.network.virtual_switch import VirtualSwitch
from vilab.network.virtual_switches import VirtualSwitches


def frame(to: bytes, source: bytes, size_bytes: int = 60) -> bytes:
    return frame_of(to, source, 0x88B5, bytes(size_bytes - 14))


# --- ports ------------------------------------------------------------------------------------------------------------


def test_a_new_switch_takes_56_cards_and_8_uplinks_and_refuses_the_next() -> None:
    switch = new_switch(net=0)
    ports = [switch.connect("net", f"vm{n}") for n in range(56)]
    with pytest.raises(AdminError, match="vSwitch0 is full: all of its 56 ports are in use"):
        switch.connect("net", "one more")
    uplinks = [switch.add_uplink(Outside(f"vmnic{n}")) for n in range(8)]
    with pytest.raises(AdminError, match="has 8 uplinks, and there is no room for vmnic8"):
        switch.add_uplink(Outside("vmnic8"))
    assert [p.number for p in uplinks + ports] == list(range(1, 65))
    switch.disconnect(ports[20])
    assert switch.connect("net", "one more").number == ports[20].number


def test_a_port_without_a_link_neither_takes_nor_gives_frames() -> None:
    switch = new_switch(net=0)
    a, b = card(switch, "net", 1), card(switch, "net", 2)
    b.port.set_connected(False)
    assert (b.link, b.port.link_up) == ([False], False)
    a.send(frame(b.address, a.address))
    b.send(frame(a.address, b.address))
    assert (a.frames, b.frames) == ([], [])
    assert (a.port.statistics.dropped, b.port.statistics.dropped) == ({"no uplink": 1}, {"port down": 1})
    b.port.set_connected(True)
    a.send(frame(b.address, a.address))
    assert (b.link, len(b.frames)) == ([False, True], 1)


def test_a_cable_that_is_pulled_while_a_frame_is_delivered_carries_no_other() -> None:
    switch = new_switch(net=0)
    a, b = card(switch, "net", 1), card(switch, "net", 2)

    class Puller(Card):
        def receive(self, frame: bytes) -> None:
            super().receive(frame)
            a.port.set_connected(False)

    c = Puller(switch.connect("net", "puller"), address(3))
    a.send(frame(c.address, a.address))
    for _ in range(2):
        a.send(frame(b.address, a.address))
    assert (len(c.frames), b.frames, a.port.statistics.dropped) == (1, [], {"port down": 2})


def test_a_port_that_is_free_again_lets_nothing_through() -> None:
    switch = new_switch(net=0)
    a, b = card(switch, "net", 1), card(switch, "net", 2)
    for _ in range(2):
        b.send(frame(a.address, b.address))
    switch.disconnect(b.port)
    b.send(frame(a.address, b.address))
    a.send(frame(BROADCAST, a.address))
    assert (b.link, len(b.frames), len(a.frames)) == ([False], 0, 2)
    with pytest.raises(AdminError, match="has no port on vSwitch0 any more"):
        switch.disconnect(b.port)


def test_nothing_is_learned_from_frames() -> None:
    switch = new_switch(net=0)
    outside = Outside("vmnic0")
    switch.add_uplink(outside)
    a, b = card(switch, "net", 1), card(switch, "net", 2)
    a.send(frame(BROADCAST, b.address))
    a.send(frame(BROADCAST, address(7)))
    outside.frames.clear()
    b.frames.clear()
    outside.on_receive(frame(address(7), address(8)))
    outside.on_receive(frame(b.address, address(8)))
    assert (len(a.frames), len(b.frames), outside.frames) == (0, 1, [])


def test_two_ports_with_one_address_get_a_copy_each() -> None:
    switch = new_switch(net=0)
    a, b, c = (card(switch, "net", n) for n in (1, 2, 3))
    c.port.listen(b.address, False)
    for _ in range(2):
        a.send(frame(b.address, a.address))
    assert (len(b.frames), len(c.frames)) == (2, 2)


def test_what_changes_at_one_port_holds_for_the_next_frame_of_every_other_port() -> None:
    switch = new_switch()
    switch.add_port_group("net", 10, security(promiscuous=True))
    a, b, c = (card(switch, "net", n) for n in (1, 2, 3))
    seen: list[bytes] = []

    def got() -> tuple[int, int, int]:
        """What a frame that takes the short way brings b, c and the tap."""
        for one in (b.frames, c.frames, seen):
            one.clear()
        a.send(frame(b.address, a.address))
        return len(b.frames), len(c.frames), len(seen)

    def tap(at_ns: int, frame: bytes) -> None:
        seen.append(frame)

    assert got() == got() == (1, 0, 0)
    changes = [
        (lambda: b.port.set_connected(False), (0, 0, 0)),
        (lambda: b.port.set_connected(True), (1, 0, 0)),
        (lambda: b.port.listen(address(9), False), (0, 0, 0)),
        (lambda: c.port.listen(b.address, False), (0, 1, 0)),
        (lambda: b.port.listen(b.address, False), (1, 1, 0)),
        (lambda: c.port.listen(c.address, True), (1, 1, 0)),
        (lambda: c.port.listen(c.address, False), (1, 0, 0)),
        (lambda: b.port.tap(tap), (1, 0, 1)),
        (lambda: b.port.untap(tap), (1, 0, 0)),
        (lambda: switch.disconnect(b.port), (0, 0, 0)),
    ]
    for number, (change, expected) in enumerate(changes):
        change()
        assert got() == got() == expected, number


def test_the_mtu_bounds_what_goes_through() -> None:
    switch = new_switch(net=5, trunk=4095)
    a, b, t = card(switch, "net", 1), card(switch, "net", 2), card(switch, "trunk", 3)
    for size_bytes in (1514, 1515):
        a.send(frame(b.address, a.address, size_bytes))
        t.send(tagged(frame(b.address, t.address, size_bytes), 5))
    assert [len(f) for f in b.frames] == [1514, 1514]
    switch.set_mtu(9000)
    a.send(frame(b.address, a.address, 9014))
    assert len(b.frames) == 3
    with pytest.raises(AdminError, match="the MTU is 1500 to 9000"):
        switch.set_mtu(9001)


# --- policies ---------------------------------------------------------------------------------------------------------


def test_a_switch_begins_with_the_defaults_of_esx_3() -> None:
    policies = new_switch(net=0).policies_of("net")
    assert policies.security == SecurityPolicy(promiscuous=False, mac_changes=True, forged_transmits=True)
    assert not policies.shaping.enabled
    assert (policies.teaming.balancing, policies.teaming.detection) == ("port_id", "link")
    assert (policies.teaming.notify_switches, policies.teaming.failback) == (True, True)


def test_a_port_group_says_differently_field_by_field_and_the_rest_is_the_switchs() -> None:
    switch = new_switch(net=0)
    switch.set_port_group("net", overrides=Overrides(
        security=SecurityOverride(promiscuous=True), shaping=ShapingOverride(average_kbps=10),
        teaming=TeamingOverride(balancing="ip_hash"),
    ))  # fmt: skip
    switch.set_policies(Policies(
        security=SecurityPolicy(forged_transmits=False), shaping=ShapingPolicy(enabled=True, burst_kb=7),
        teaming=TeamingPolicy(failback=False),
    ))  # fmt: skip
    policies = switch.policies_of("net")
    assert policies.security == SecurityPolicy(promiscuous=True, forged_transmits=False)
    assert policies.shaping == ShapingPolicy(enabled=True, average_kbps=10, burst_kb=7)
    assert policies.teaming == TeamingPolicy(balancing="ip_hash", failback=False)


@pytest.mark.parametrize(
    ("shaping", "sentence"),
    [
        ({"average_kbps": 200_000}, "peak bandwidth .* is below the average"),
        ({"average_kbps": 0}, "average_kbps = 0 lets nothing through"),
        ({"burst_kb": 0}, "burst_kb = 0 lets nothing through"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(shaping: dict[str, int], sentence: str) -> None:
    switch = new_switch(net=0, other=7)
    before = switch.save_state()
    with pytest.raises(AdminError, match=sentence):
        switch.set_policies(Policies(shaping=ShapingPolicy(**shaping)))
    with pytest.raises(AdminError, match=sentence):
        switch.set_port_group("net", overrides=Overrides(shaping=ShapingOverride(**shaping)))
    with pytest.raises(AdminError, match=sentence):
        switch.add_port_group("new", 0, Overrides(shaping=ShapingOverride(**shaping)))
    with pytest.raises(AdminError, match="4096 is no VLAN"):
        switch.set_port_group("other", 4096)
    with pytest.raises(AdminError, match="vmnic0 is more than once"):
        switch.set_policies(Policies(teaming=TeamingPolicy(active=("vmnic0",), standby=("vmnic0",))))
    assert switch.save_state() == before


def test_a_policy_that_changes_holds_for_the_next_frame() -> None:
    switch = new_switch(net=10)
    a, b = card(switch, "net", 1), card(switch, "net", 2)
    c = card(switch, "net", 3, promiscuous=True)
    forged = frame(b.address, address(9))
    for _ in range(2):
        a.send(forged)
    assert (len(b.frames), len(c.frames)) == (2, 0)
    switch.set_port_group("net", overrides=security(forged_transmits=False))
    a.send(forged)
    assert (len(b.frames), a.port.statistics.dropped) == (2, {"forged source": 1})
    switch.set_port_group("net", overrides=security(promiscuous=True))
    a.send(forged)
    assert (len(b.frames), len(c.frames)) == (3, 1)
    switch.set_port_group("net", 20)
    a.send(forged)
    assert (len(b.frames), switch.vlans[20].forwarded.frames) == (4, 1)


def test_a_card_with_a_changed_address_receives_nothing_until_it_changes_it_back() -> None:
    log = EventLog(keep=True)
    switch = new_switch(log)
    switch.add_port_group("net", 0, security(mac_changes=False))
    a, b = card(switch, "net", 1), card(switch, "net", 2)
    b.port.listen(address(9), True)
    for to in (b.address, address(9), BROADCAST):
        a.send(frame(to, a.address))
    b.send(frame(a.address, address(9)))
    assert (b.frames, len(a.frames)) == ([], 1)
    assert b.port.statistics.dropped == {"address changed": 2}
    b.port.listen(b.address, False)
    a.send(frame(b.address, a.address))
    assert len(b.frames) == 1
    assert [(e.effective, e.accepted) for e in log.of(AddressSet)][2:] == [(address(9), False), (b.address, True)]


def test_the_first_address_that_a_card_listens_to_is_its_own_if_nobody_says_so() -> None:
    switch = new_switch()
    switch.add_port_group("net", 0, security(mac_changes=False))
    port = switch.connect("net", "vm1")
    Card(port, address(1))
    assert not port.blocked
    port.listen(address(2), False)
    assert port.blocked


# --- uplinks ----------------------------------------------------------------------------------------------------------


def test_a_frame_goes_out_over_one_uplink_and_comes_in_once_and_never_goes_across() -> None:
    switch = new_switch(net=10)
    first, second = Outside("vmnic0"), Outside("vmnic1")
    for nic in (first, second):
        switch.add_uplink(nic)
    a, b = card(switch, "net", 1), card(switch, "net", 2)
    a.send(frame(BROADCAST, a.address))
    assert (len(first.frames), len(second.frames), len(b.frames)) == (1, 0, 1)
    flooded = first.frames.pop()
    second.on_receive(flooded)
    assert (a.frames, len(b.frames), first.frames) == ([], 1, [])
    for nic in (first, second):
        nic.on_receive(tagged(frame(BROADCAST, address(9)), 10))
    assert (len(a.frames), len(b.frames)) == (1, 2)
    assert (first.frames, second.frames) == ([], [])
    assert a.port.statistics.dropped == {"other uplink": 1}
    first.link_up = False
    a.send(frame(address(9), a.address))
    assert (len(first.frames), len(second.frames)) == (0, 1)
    second.link_up = False
    a.send(frame(address(9), a.address))
    assert switch.vlans[10].dropped["no uplink"] == 1


def test_a_frame_that_a_physical_switch_floods_to_both_uplinks_is_delivered_once() -> None:
    site = Site(TeamingPolicy(active=("vmnic0", "vmnic1")), flat=True)
    machine, other = site.listener(1), site.listener(2)
    site.run(0.01)
    announced = [nic.statistics.frames_in for nic in site.nics]
    for to in (mac(1), mac(2), BROADCAST):
        for name in ("0", "1"):
            site.core.forget(site.core.port(name))
        site.outside.port.transmit(numbered(2, to, OUTSIDE))
        site.run(0.01)
    assert [f[:6] for f in machine.frames] == [mac(1), BROADCAST]
    assert [f[:6] for f in other.frames] == [mac(2), BROADCAST]
    assert [nic.statistics.frames_in for nic in site.nics] == [n + 3 for n in announced]


def test_a_port_group_gets_nothing_from_an_uplink_that_it_does_not_use() -> None:
    switch = new_switch(net=0)
    inside, dmz = Outside("vmnic0"), Outside("vmnic1")
    for nic in (inside, dmz):
        switch.add_uplink(nic)
    switch.add_port_group("dmz", 0, Overrides(teaming=TeamingOverride(active=("vmnic1",), standby=())))
    a = card(switch, "dmz", 1)
    inside.on_receive(frame(a.address, address(9)))
    assert a.frames == []
    dmz.on_receive(frame(a.address, address(9)))
    assert len(a.frames) == 1
    a.send(frame(address(9), a.address))
    assert (len(inside.frames), len(dmz.frames)) == (0, 1)


def test_an_uplink_that_is_taken_away_is_used_no_more() -> None:
    switch = new_switch(net=0)
    nic = Outside("vmnic0")
    switch.add_uplink(nic)
    a = card(switch, "net", 1)
    assert switch.policies.teaming.active == ("vmnic0",)
    switch.remove_uplink("vmnic0")
    assert switch.policies.teaming.active == ()
    a.send(frame(BROADCAST, a.address))
    nic.on_receive(frame(a.address, address(9)))
    assert (nic.frames, a.frames, a.port.statistics.dropped) == ([], [], {"no receiver": 1})
    with pytest.raises(AdminError, match="no uplink vmnic0; it has none"):
        switch.remove_uplink("vmnic0")


def test_a_team_goes_on_when_machines_come_and_go_and_ends_when_its_policy_changes() -> None:
    switch = new_switch(net=0)
    switch.add_uplink(Outside("vmnic0"))
    a = card(switch, "net", 1)
    team = a.port.team
    b = card(switch, "net", 2)
    assert isinstance(team, FirstWithLink)
    assert (a.port.team, b.port.team) == (team, team)
    switch.set_policies(msgspec.structs.replace(switch.policies, security=SecurityPolicy(promiscuous=True)))
    assert a.port.team is team
    switch.set_port_group("net", overrides=Overrides(teaming=TeamingOverride(failback=False)))
    assert a.port.team is not team
    assert team.stopped


# --- several switches -------------------------------------------------------------------------------------------------


def test_switches_of_a_host_share_nothing_but_the_names_of_port_groups() -> None:
    host = VirtualSwitches(VirtualClock(), EventLog(), lambda name: FirstWithLink)
    first, second = host.add("vSwitch0"), host.add("vSwitch1")
    first.add_port_group("Production", 10)
    with pytest.raises(AdminError, match="vSwitch0 has a port group 'Production' already"):
        second.add_port_group("Production", 20)
    second.add_port_group("Other", 10)
    a, b = card(first, "Production", 1), card(second, "Other", 2)
    a.send(frame(b.address, a.address))
    a.send(frame(BROADCAST, a.address))
    assert b.frames == []
    nic = Outside("vmnic0")
    first.add_uplink(nic)
    with pytest.raises(AdminError, match="vmnic0 is an uplink of vSwitch0 already"):
        second.add_uplink(nic)
    assert host.switch_of("Other") is second
    with pytest.raises(AdminError, match="no port group 'Nowhere'; it has Production, Other"):
        host.connect("Nowhere", "vm")
    with pytest.raises(AdminError, match="in use: vm2 is connected"):
        host.remove("vSwitch1")
    second.disconnect(b.port)
    host.remove("vSwitch1")
    with pytest.raises(AdminError, match="no virtual switch vSwitch1; it has vSwitch0"):
        host.switch("vSwitch1")


@pytest.mark.parametrize("name", ["", " x", "a\nb"])
def test_names_are_names(name: str) -> None:
    with pytest.raises(AdminError, match="is no name for a port group"):
        new_switch().add_port_group(name)
    with pytest.raises(AdminError, match="is no name for a virtual switch"):
        VirtualSwitch(name, VirtualClock(), EventLog(), FirstWithLink)


def test_a_port_group_in_use_stays() -> None:
    switch = new_switch(net=0)
    a = card(switch, "net", 1)
    with pytest.raises(AdminError, match="'net' is in use: vm1 is connected"):
        switch.remove_port_group("net")
    switch.disconnect(a.port)
    switch.remove_port_group("net")
    with pytest.raises(AdminError, match="no port group 'net'; it has none"):
        switch.connect("net", "vm1")


# --- what it says -----------------------------------------------------------------------------------------------------


def test_it_is_described_as_esxcfg_vswitch_does() -> None:
    switch = new_switch(Production=105, Console=0)
    switch.add_uplink(Outside("vmnic0"))
    switch.add_uplink(Outside("vmnic1"))
    a = card(switch, "Production", 1)
    a.send(b"")
    switch.set_port_group("Console", overrides=Overrides(teaming=TeamingOverride(active=("vmnic1",))))
    assert switch.describe() == (
        "Switch Name    Num Ports   Used Ports  Configured Ports  MTU     Uplinks\n"
        "vSwitch0       64          3           64                1500    vmnic0,vmnic1\n"
        "\n"
        "  PortGroup Name      Internal ID  VLAN ID  Used Ports  Uplinks\n"
        "  Production          portgroup0   105      1           vmnic0,vmnic1\n"
        "  Console             portgroup1   0        0           vmnic1\n"
    )
    assert "vm1                  Production           00:50:56:00:00:01" in ports_described(switch)
    assert "too short 1" in ports_described(switch)


def test_who_comes_and_goes_is_said() -> None:
    log = EventLog(keep=True)
    switch = new_switch(log, net=0)
    switch.add_uplink(Outside("vmnic0"))
    switch.disconnect(switch.connect("net", "vm1"))
    assert [(e.port, e.group, e.client) for e in log.of(PortConnected)] == [(1, "", "vmnic0"), (9, "net", "vm1")]
    assert [(e.port, e.group, e.client) for e in log.of(PortDisconnected)] == [(9, "net", "vm1")]
