"""Debian guests on hosts with networks that a test talks to: it types at one of them while all of them run."""

from __future__ import annotations

from collections.abc import Sequence

from tests.vmm.disk_session import CONTROL, MOST_NS, PROMPT
from vilab.guests import debian
from vilab.host.host import Host, run_together
from vilab.host.hosted_vm import HostedVm
from vilab.host.vmx_network import CardSettings
from vilab.memory.client import MemoryConfig
from vilab.vmm.choices import usual_for
from vilab.vmm.runner import RunOptions, choose

SLICE_NS = 10_000_000
GUEST_MB = 64


def card(number: int, kind: str, index: int = 0, network: str = "VM Network") -> CardSettings:
    """Card ``index`` of the machine with that number."""
    return CardSettings(index, kind, bytes.fromhex("005056000000")[:4] + bytes([number, index]), network)


class GuestOnHost:
    """One guest. ``hosts``: all that share a clock and have to run for anything to arrive."""

    def __init__(self, hosts: Sequence[Host], hosted: HostedVm) -> None:
        self.hosts, self.hosted = hosts, hosted
        self._read = 0

    @classmethod
    def boot(
        cls, host: Host, name: str, cards: Sequence[CardSettings], engine: str = "svm", hosts: Sequence[Host] = ()
    ) -> GuestOnHost:
        """Up to the first prompt."""
        kinds = tuple(each.kind for each in cards)
        chosen = choose(RunOptions(debian.NAME, engine, GUEST_MB << 20, cards=kinds))
        hosted = host.power_on(
            name, chosen.image, MemoryConfig(GUEST_MB), engine=engine,
            engine_options=usual_for(chosen.image.kind, engine, {}), cards=cards,
        )  # fmt: skip
        guest = cls(hosts or (host,), hosted)
        guest._to_prompt()
        guest.run("dmesg -n 1")
        return guest

    def pass_time(self, ns: int = SLICE_NS) -> None:
        run_together(self.hosts, ns)

    def _to_prompt(self) -> str:
        console, waited = self.hosted.console, 0
        while True:
            text = CONTROL.sub("", bytes(console.output[self._read :]).decode("latin-1"))
            if text.endswith(PROMPT):
                self._read = len(console.output)
                return text
            assert self.hosted.runs, self.hosted.stopped
            assert waited < MOST_NS, text[-500:]
            self.pass_time()
            waited += SLICE_NS

    def type(self, line: str) -> None:
        self.hosted.console.type(line)

    def answer(self, line: str) -> str:
        """What came behind a line that was typed, up to the next prompt."""
        return self._to_prompt().removesuffix(PROMPT).replace("\n", " ", 0).partition("\n")[2].strip("\n")

    def run(self, line: str) -> str:
        """A command (shorter than a line of the terminal) and its output."""
        self.type(line)
        return self.answer(line)

    def succeed(self, line: str) -> str:
        """The same for a command that has to end well."""
        text, _, status = self.run(f"{line}; echo =$?").rpartition("=")
        assert status == "0", (line, text, status)
        return text.rstrip("\n")
