"""A stock Debian guest and the network stack of the Linux underneath: through the switches, and a TAP device.

::

    guest  eth0 vlance  ── "v11" ─┐                                        access port of the VLAN
           eth1 e1000   ── "v12" ─┼ vSwitch0 ── vmnic0 ── wire ── physical switch ── Tap ── namespace 10.9.0.1
           eth2 vmxnet3 ── "v13" ─┘  tags on    trunk                      tags off

Megabytes each way of the three; sums are compared on the side that has received.
"""

from __future__ import annotations

import hashlib
import os
import re
import select
import shutil
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests import tools
from tests.host.network_session import GuestOnHost, card
from tests.network.namespace import Namespace, tap_or_skip
from vilab.guests import debian
from vilab.host.host import Host
from vilab.network.physical_port import Access, Trunk
from vilab.network.physical_switch import PhysicalSwitch
from vilab.network.tap import Tap
from vilab.network.wire import Wire

pytestmark = [pytest.mark.interop, pytest.mark.timeout(900)]

KINDS = ("vlance", "e1000", "vmxnet3")
MEGABYTES = int(os.environ.get("VILAB_NETWORK_MEGABYTES", "2"))
SERVER = """
import hashlib, socket
with socket.create_server(("10.9.0.1", 5000)) as server:
    print("ready", flush=True)
    connection, _ = server.accept()
    digest, size = hashlib.md5(), 0
    while data := connection.recv(65536):
        digest.update(data)
        size += len(data)
    print(digest.hexdigest(), size)
"""


class Lab:
    def __init__(self, namespace: Namespace) -> None:
        self.namespace, self.host = namespace, Host(256)
        clock = self.host.clock
        self.physical = PhysicalSwitch("sw", clock, {"linux": Access(11), "host": Trunk(native=None)})
        wire = Wire(clock)
        self.physical.connect("host", wire.b)
        self.host.network.add_nic("vmnic0", wire.a, bytes.fromhex("0200000000f0"), "vSwitch0")
        switch = self.host.network.switches.switch("vSwitch0")
        for vlan in (11, 12, 13):
            switch.add_port_group(f"v{vlan}", vlan)
        cards = [card(1, kind, index, f"v{11 + index}") for index, kind in enumerate(KINDS)]
        self.tap = Tap(self.physical.port("linux"), namespace.file)
        self.guest = GuestOnHost.boot(self.host, "a", cards, "bt")
        self.guest.pass_time = self.pass_time  # type: ignore[method-assign]

    def pass_time(self, ns: int = 2_000_000) -> None:
        select.select([self.tap], [], [], 0)
        self.tap.poll()
        self.host.run_for(ns)

    def use(self, index: int) -> None:
        """One card has the address, and the device of the Linux underneath is in its VLAN."""
        for other in range(len(KINDS)):
            self.guest.succeed(f"ifconfig eth{other} 0.0.0.0 down")
        self.physical.configure("linux", Access(11 + index))
        self.guest.succeed(f"ifconfig eth{index} 10.9.0.2 netmask 255.255.255.0 up")
        subprocess.run(["ip", "-n", self.namespace.name, "neigh", "flush", "all"], check=True)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    tap_or_skip()
    tools.debian()
    with Namespace(f"vlguest{os.getpid()}") as namespace:
        made = Lab(namespace)
        yield made
        made.host.close()


@pytest.mark.parametrize("index", range(len(KINDS)), ids=KINDS)
def test_megabytes_into_the_linux_underneath(lab: Lab, index: int) -> None:
    lab.use(index)
    said = lab.guest.run("ping -q -w 30 -c 3 10.9.0.1")
    assert re.search(r"[123] packets received", said), said
    content = (debian.find().folder / debian.BUSYBOX_FILE).read_bytes()
    times = (MEGABYTES << 20) // len(content) + 1
    command = lab.namespace.inside(shutil.which("python3") or "python3", "-c", SERVER)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            assert server.stdout.readline() == "ready\n"
            lab.guest.succeed(f"cat {' '.join(['/bin/busybox'] * times)} >/tmp/all")
            lab.guest.succeed("nc 10.9.0.1 5000 -e dd if=/tmp/all bs=64k 2>/dev/null")
            end = time.monotonic() + 60
            while server.poll() is None and time.monotonic() < end:
                lab.pass_time()
            said = server.stdout.read()
        finally:
            server.kill()
    wanted = hashlib.md5(content * times).hexdigest()
    assert said.split() == [wanted, str(len(content) * times)]
    assert lab.guest.run("dmesg | grep -iE 'timed out|unit hang|lost|nobody cared'") == ""
