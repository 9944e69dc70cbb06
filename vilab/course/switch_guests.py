"""A lab whose switch is that of a host, and some of whose machines are real guests: a kernel, a driver, a PCnet card.

::

    web1: ping ── kernel ── PCnet ── cable ──┐                     the guests: virtual machines of the host, on AMD-V
    web2:         kernel ── PCnet ── cable ──┤  vSwitch0 of the host
    db1 ...       small hosts without processor ┘   └ vmnic0, vmnic1 ── physical switch ── gw

A guest's frame is seen where its cable ends, at the port of the switch.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from vilab.errors import AdminError
from vilab.guests.load import load
from vilab.host.host import Host
from vilab.host.hosted_vm import HostedVm
from vilab.host.vmx_network import CardSettings
from vilab.memory.client import MemoryConfig
from vilab.network.ethernet import address_of
from vilab.network.packets import ip_of
from vilab.view.switch_lab import Home, SwitchLab, Wanted

GUEST_MB, HOST_MB = 8, 160
IMAGE, ENGINE, PROMPT = "kernel-network", "svm", b"shell> "
BOOT_SLICE_NS, SLICE_NS, MOST_NS = 5_000_000, 50_000, 10_000_000_000
"""Guests run one after the other, so long each: short slices while they talk, or each would wait for the other's."""


class GuestCard(msgspec.Struct):
    """What a picture needs to know of a guest, as ``Station`` has it of its own."""

    name: str
    mac: bytes
    own_mac: bytes
    ip: bytes
    tag: int | None = None
    curious: bool = False


class GuestLab(SwitchLab):
    """
    Parameters
    ----------
    guests : names of those machines that are guests; they have booted when the lab is there.
    """

    def __init__(
        self, machines: Sequence[Wanted], guests: Sequence[str], outside: Sequence[Wanted] = (),
        trunk: Sequence[int] = (10, 20),
    ) -> None:  # fmt: skip
        self.host = Host(HOST_MB)
        self.guests: dict[str, HostedVm | None] = dict.fromkeys(guests)
        self.said = ""
        """What was typed at guests, and their answers."""
        switch = self.host.network.switches.switch("vSwitch0")
        home = Home(self.host.network.clock, self.host.log, switch, lambda port: None)
        super().__init__(machines, outside, trunk=trunk, home=home)
        for name in guests:
            self._until_prompt(name, 0, BOOT_SLICE_NS)
        self.recorder.begin()

    def _connect(self, name: str, vlan: int) -> None:
        if name not in self.guests:
            super()._connect(name, vlan)
            return
        w = self.wanted[name]
        card = CardSettings(0, "vlance", address_of(w.mac), self._group(name, vlan))
        image = load(IMAGE, memory_bytes=GUEST_MB << 20, append=f"ip={w.ip}")
        hosted = self.host.power_on(name, image, MemoryConfig(GUEST_MB), engine=ENGINE, cards=[card])
        self.guests[name], self.ports[name] = hosted, hosted.cables.ports[0]
        self.recorder.cabled.add(name)
        self._tapped(name, self.ports[name])
        self.cards[name] = GuestCard(name, address_of(w.mac), address_of(w.mac), ip_of(w.ip))

    def _pass(self, for_ns: int) -> None:
        self.host.run_for(for_ns)

    def _guest(self, name: str) -> HostedVm:
        hosted = self.guests.get(name)
        if hosted is None:
            raise AdminError(f"{name} is no guest here; {', '.join(self.guests)} are.")
        return hosted

    def _until_prompt(self, name: str, begun: int, slice_ns: int = SLICE_NS) -> str:
        """What it says until then."""
        hosted, end_ns = self._guest(name), self.host.now_ns + MOST_NS
        while not bytes(hosted.console.output[begun:]).endswith(PROMPT):
            if not hosted.runs or self.host.now_ns > end_ns:
                raise AdminError(f"{name} does not answer: {hosted.stopped or bytes(hosted.console.output[-200:])!r}")
            self.run(slice_ns)
        return bytes(hosted.console.output[begun:]).decode("latin-1")

    def type(self, name: str, line: str) -> str:
        """A command for the guest's shell, and what it answers."""
        begun = len(self._guest(name).console.output)
        self._guest(name).console.type(line)
        answer = self._until_prompt(name, begun)
        shown = f"{name}: {PROMPT.decode()}{answer.replace(chr(13), '').removesuffix(PROMPT.decode())}"
        self.said += shown if shown.endswith("\n") else f"{shown}\n"
        return answer

    def answered(self, name: str, other: str) -> bool:
        """Let one guest ping somebody once."""
        return "1 of 1 answered" in self.type(name, f"ping {self.wanted_ip(other)} 1")

    def wanted_ip(self, name: str) -> str:
        return next(w.ip for w in (*self.wanted.values(), *self.outside) if w.name == name)

    def close(self) -> None:
        """The guests are gone; what was recorded stays."""
        self.host.close()
