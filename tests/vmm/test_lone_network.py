"""A machine that runs by itself with network cards: from the command line, captured, suspended and resumed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vilab.errors import AdminError
from vilab.network.pcap import packets_of
from vilab.vmm.lone_network import LoneNetwork


def vilab(*arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vilab.cli", *arguments]
    return subprocess.run(command, input=typed, capture_output=True, text=True, timeout=120)


def echoes(path: Path) -> list[int]:
    """The types of the ICMP messages, in order: 8 asks, 0 answers."""
    with path.open("rb") as file:
        return [each.frame[34] for each in packets_of(file) if each.frame[12:14] == b"\x08\x00" and each.frame[23] == 1]


@pytest.mark.parametrize("engine", ["bt", "svm"])
def test_a_guest_pings_the_gateway_and_the_capture_has_it(tmp_path: Path, engine: str) -> None:
    path = tmp_path / "lab.pcap"
    typed = "ping 10.0.0.1\npoweroff\n"
    done = vilab("run", "kernel-network", "--engine", engine, "--nic", "vlance", "--capture", str(path), typed=typed)
    assert done.returncode == 0, done.stderr
    assert "4 of 4 answered" in done.stdout
    assert echoes(path) == [8, 0] * 4


def test_a_suspended_guest_finds_its_network_again(tmp_path: Path) -> None:
    file = tmp_path / "guest.vilab"
    first = vilab(
        "run", "kernel-network", "--nic", "vlance", "--suspend-to", str(file), "--suspend-at", "150",
        typed="ping 10.0.0.1\n",
    )  # fmt: skip
    assert first.returncode == 0, first.stderr
    again = vilab("resume", str(file), typed="ping 10.0.0.1\npoweroff\n")
    assert again.returncode == 0, again.stderr
    assert "4 of 4 answered" in again.stdout, (first.stdout, again.stdout)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--capture", "x.pcap"), "add --nic"),
        (("--nic", "e1000", "--option-rom", "/nowhere"), "/nowhere cannot be read"),
        (("--nic", "e1000", "--option-rom", "/etc/hostname"), "begins with the bytes 55 aa"),
        (("--nic", "e1000", "--capture", "/nowhere/x.pcap"), "/nowhere/x.pcap cannot be written"),
        (("--nic", "e1000") * 5, "more than the 4"),
    ],
)
def test_what_cannot_be_is_one_sentence(arguments: tuple[str, ...], sentence: str) -> None:
    done = vilab("run", "kernel-network", *arguments)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""


def test_cards_keep_the_addresses_that_belong_to_the_name() -> None:
    one, two = (LoneNetwork("guest", ["e1000", "vlance"]) for _ in range(2))
    assert [card.address for card in one.cards] == [card.address for card in two.cards]
    assert len({card.address for card in one.cards}) == 2
    with pytest.raises(AdminError, match="no network card"):
        LoneNetwork("guest", ["ne2000"])
