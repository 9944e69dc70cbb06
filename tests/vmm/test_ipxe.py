"""iPXE, as Debian packages it, on the emulated cards: SeaBIOS finds the ROM, the ROM drives the card, DHCP answers."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.tools import require_file
from vilab.clock import VirtualClock
from vilab.costs import DEFAULT_COSTS
from vilab.guests.load import load
from vilab.network.small_network import FIRST, SmallNetwork
from vilab.vmm.network import AttachedCard
from vilab.vmm.vm import VirtualMachine

pytestmark = [pytest.mark.interop, pytest.mark.timeout(600)]

MEMORY_BYTES = 64 << 20
SEABIOS = Path("/usr/share/seabios/bios-256k.bin")
ROMS = Path("/usr/lib/ipxe/qemu")
ADDRESS = bytes.fromhex("005056000001")
MOST_NS = 30_000_000_000
SLOW = {"port_access": 50 * DEFAULT_COSTS.port_access, "vm_exit": 50 * DEFAULT_COSTS.vm_exit}
COSTS = msgspec.structs.replace(DEFAULT_COSTS, **SLOW)
"""iPXE waits for seconds, and while it waits it asks the card: the more an exit takes, the less often."""


# Under binary translation the ROM unpacks itself in 16-bit code, which is stepped there: too slow for a test.
@pytest.mark.parametrize(("kind", "rom"), [("vlance", "pcnet"), ("e1000", "e1000")])
def test_ipxe_gets_an_address(kind: str, rom: str) -> None:
    bios = require_file(SEABIOS, "the Debian package seabios")
    content = require_file(ROMS / f"pxe-{rom}.rom", "the Debian package ipxe-qemu").read_bytes()
    clock = VirtualClock()
    network = SmallNetwork(clock)
    card = AttachedCard(kind, network.connect("guest", ADDRESS), ADDRESS, content)
    image = load(str(bios), memory_bytes=MEMORY_BYTES)
    vm = VirtualMachine(image, "svm", MEMORY_BYTES, cards=[card], clock=clock, costs=COSTS)
    try:
        while network.dhcp.lease_of(ADDRESS) is None and clock.now_ns < MOST_NS:
            assert vm.engine.run(vm.engine.now_ns() + 50_000_000) is None
        assert network.dhcp.lease_of(ADDRESS) == FIRST, (vm.pc.debug_port.text[-500:], network.switch.describe())
        assert network.dhcp.state.statistics.acks == 1
    finally:
        vm.close()
