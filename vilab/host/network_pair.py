"""Two stock Linux guests that send to each other over each kind of network card: an experiment.

::

    sender    eth0 vlance ── vSwitch1 ── eth0    receiver        busybox, again and again, by TCP
              eth1 e1000 ─── vSwitch2 ── eth1                    in writes of 64 KB; sums are equal
              eth2 vmxnet3 ─ vSwitch3 ── eth2

Counted are the exits of both guests; time is the processor's, for all that happens meanwhile, and the host's own.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections import Counter

import msgspec

from vilab.errors import AdminError
from vilab.guests import debian, debian_root
from vilab.host.host import Host
from vilab.host.hosted_vm import HostedVm
from vilab.host.vmx_network import CardSettings
from vilab.memory.client import MemoryConfig
from vilab.vmm.choices import usual_for
from vilab.vmm.network import CARDS
from vilab.vmm.runner import RunOptions, choose

KINDS = CARDS
GUEST_MB = 64
SLICE_NS, MOST_NS = 10_000_000, 400_000_000_000
PORT = 5000


class Transfer(msgspec.Struct, frozen=True):
    """What a number of bytes has cost. ``by_reason``: exits of both guests."""

    kind: str
    megabytes: float
    processor_s: float
    virtual_s: float
    by_reason: dict[str, int]

    @property
    def exits(self) -> int:
        return sum(self.by_reason.values())

    @property
    def mb_per_processor_s(self) -> float:
        return self.megabytes / self.processor_s


class NetworkPair:
    """Both guests, up and with addresses. Raises ``AdminError``: there is no Debian guest on this machine."""

    def __init__(self, engine: str = "svm", kinds: tuple[str, ...] = KINDS) -> None:
        self.kinds = kinds
        self._busybox = (debian.find().folder / debian.BUSYBOX_FILE).read_bytes()
        self.host = Host(4 * GUEST_MB + 64)
        for index in range(len(kinds)):
            self.host.network.add_switch(f"vSwitch{index + 1}").add_port_group(f"net{index}")
        self.guests = [self._boot(name, number, engine) for number, name in enumerate(("sender", "receiver"), 1)]

    def _boot(self, name: str, number: int, engine: str) -> HostedVm:
        chosen = choose(RunOptions(debian.NAME, engine, GUEST_MB << 20, cards=self.kinds))
        cards = [
            CardSettings(index, kind, bytes((0, 0x50, 0x56, 0, number, index)), f"net{index}")
            for index, kind in enumerate(self.kinds)
        ]
        guest = self.host.power_on(
            name, chosen.image, MemoryConfig(GUEST_MB), engine=engine, cards=cards,
            engine_options=usual_for(chosen.image.kind, engine, {}),
        )  # fmt: skip
        self._until_prompt(guest, 0)
        self.type(guest, "dmesg -n 1")  # no message of the kernel behind a prompt
        for index in range(len(self.kinds)):
            self.type(guest, f"ifconfig eth{index} 10.0.{index}.{number} netmask 255.255.255.0 up")
        return guest

    def type(self, guest: HostedVm, line: str) -> str:
        """A command, and all that is said until the next prompt."""
        begun = len(guest.console.output)
        guest.console.type(line)
        return self._until_prompt(guest, begun)

    def _until_prompt(self, guest: HostedVm, begun: int) -> str:
        end_ns = self.host.now_ns + MOST_NS
        while True:
            said = bytes(guest.console.output[begun:]).replace(debian_root.ASKS_CURSOR, b"").replace(b"\r", b"")
            if said.endswith(debian_root.PROMPT):
                return said.removesuffix(debian_root.PROMPT).decode("latin-1")
            if not guest.runs or self.host.now_ns > end_ns:
                raise AdminError(f"{guest.name} does not answer: {guest.stopped or said[-200:].decode('latin-1')}")
            self.host.run_for(SLICE_NS)

    def transfer(self, kind: str, files: int) -> Transfer:
        """``files`` times busybox through the cards of one kind. Raises ``AdminError`` if other bytes have arrived."""
        index = self.kinds.index(kind)
        sender, receiver = self.guests
        self.type(receiver, f"nc -l -p {PORT} -e dd of=/tmp/got bs=64k 2>/dev/null &")
        self.type(sender, f"cat {' '.join(['/bin/busybox'] * files)} >/tmp/all")
        before, virtual_ns, begun = self._exits(), self.host.now_ns, time.process_time()
        self.type(sender, f"nc 10.0.{index}.2 {PORT} -e dd if=/tmp/all bs=64k 2>/dev/null")
        processor_s, virtual_s = time.process_time() - begun, (self.host.now_ns - virtual_ns) / 1e9
        exits = self._exits() - before
        said = self.type(receiver, "sleep 1; md5sum /tmp/got")
        wanted = hashlib.md5(self._busybox * files).hexdigest()
        found = re.search(r"\b[0-9a-f]{32}\b", said)
        if found is None or found[0] != wanted:
            raise AdminError(f"What has arrived over {kind} is not what was sent: {found[0] if found else said!r}.")
        return Transfer(kind, len(self._busybox) * files / 1e6, processor_s, virtual_s, dict(exits))

    def _exits(self) -> Counter[str]:
        total: Counter[str] = Counter()
        for guest in self.guests:
            total.update(guest.vm.engine.exits)
        return total

    def close(self) -> None:
        self.host.close()
