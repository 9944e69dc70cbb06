"""The connection ends, or a host dies, at every message: one of the two has the machine, or neither until it was asked.

What was said decides: before ``CopyCommit`` was sent the source has it, after ``web.vmx.moving`` was renamed the
destination; in between the source asks, and gets what it wants.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.migration.file_copies import NUMBER, Pair, Site, can_power_on, files, make, one_of_both
from vilab.errors import AdminError
from vilab.host.vm_departure import read_departure
from vilab.migration import file_copy_messages as say
from vilab.protocols import ReadableBytes


@pytest.fixture(autouse=True)
def _nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda _number: None)


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Places]:
    made = Places(tmp_path)
    yield made
    for site in made.sites:
        site.close()


class Places:
    """A fresh pair of hosts as often as wanted."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.sites = folder, list[Site]()

    def site(self) -> Site:
        self.sites.append(Site(self.folder / f"site{len(self.sites)}"))
        return self.sites[-1]

    def messages(self) -> list[tuple[str, str]]:
        """Of a copy that goes well: who hears what."""
        site = self.site()
        make(site["esx1"], disk_bytes=256 << 10)
        pair = Pair(site["esx1"], site["esx2"])
        assert pair.run().phase == "moved"
        return [(who, type(message).__name__) for who, message in pair.heard]


FAULTS = ("cut", "stall", "esx1 dies", "esx2 dies", "esx1 dies afterwards", "esx2 dies afterwards")


@pytest.mark.parametrize("fault", FAULTS)
def test_one_of_both_has_it_whatever_happens_at_any_message(places: Places, fault: str) -> None:
    heard = places.messages()
    names = {name for _, name in heard}
    assert names >= {"CopyOffer", "FileData", "FileTaken", "CopyWhole", "CopyCommit", "CopySettled"}
    undecided = 0
    ends: dict[str, list[str]] = {"esx1": [], "esx2": []}
    for number, (_, name) in enumerate(heard):
        site = places.site()
        before = make(site["esx1"], disk_bytes=256 << 10)
        pair = Pair(site["esx1"], site["esx2"])
        happen_at(pair, site, number, fault)
        pair.run()
        for dead in {"esx1", "esx2"} & {pair.dead}:
            site[dead].cut_power()
            site.host(dead)
        undecided += "web.vmx.leaving" in files(site["esx1"])
        where = one_of_both(site["esx1"], site["esx2"], before, finish=number % 2 == 0)
        ends[where].append(name)
        site.close()
    assert undecided
    assert "FileData" in ends["esx1"]
    assert "FileData" not in ends["esx2"]
    assert "CopySettled" in ends["esx2"]
    assert "CopySettled" not in ends["esx1"]


def happen_at(pair: Pair, site: Site, number: int, fault: str) -> None:
    """Before or after the message with this number."""

    def die() -> None:
        pair.dead = fault[:4]
        pair.link.cut()

    def before(_who: str, _message: msgspec.Struct) -> None:
        if len(pair.heard) != number:
            return
        if fault == "cut":
            pair.link.cut()
        elif fault == "stall":
            pair.link.stall()
        elif fault.endswith("afterwards"):
            site.clock.at(site.clock.now_ns, die)
        else:
            die()

    pair.before = before


@pytest.mark.parametrize("seed", range(4))
def test_a_changed_byte_anywhere_is_noticed(places: Places, seed: int) -> None:
    lot = random.Random(seed)
    for _ in range(4):
        site = places.site()
        before = make(site["esx1"], disk_bytes=256 << 10)
        pair = Pair(site["esx1"], site["esx2"])
        left = lot.randrange(40)
        changed = []

        def change(data: ReadableBytes, changed: list[int] = changed, left: int = left) -> bytes:
            changed.append(len(data))
            content = bytearray(data)
            if len(changed) == left + 1:
                content[lot.randrange(len(content))] ^= 1 << lot.randrange(8)
            return bytes(content)

        pair.link.faults = change
        pair.run()
        assert len(changed) <= left or pair.source.phase != "moved" or pair.destination.phase == "moved"
        one_of_both(site["esx1"], site["esx2"], before, finish=True)
        site.close()


def test_what_was_begun_and_given_up_leaves_nothing_there_and_is_not_in_the_way(places: Places) -> None:
    site = places.site()
    before = make(site["esx1"])
    pair = Pair(site["esx1"], site["esx2"])
    happen_at(pair, site, 9, "cut")
    assert pair.run().phase == "failed"
    assert pair.source.why.startswith("web was not moved to esx2: The connection between esx1 and esx2 has ended")
    assert not site["esx2"].storage.mounted("local").datastore.exists("web")
    # it dies, so that it is there
    pair = Pair(site["esx1"], site["esx2"], number="second")
    happen_at(pair, site, 9, "esx2 dies")
    assert pair.run().phase == "failed"
    site["esx2"].cut_power()
    site.host("esx2")
    assert "web.vmx.moving" in files(site["esx2"])
    assert Pair(site["esx1"], site["esx2"], number="third").run().phase == "moved"
    assert files(site["esx2"]) == before


def test_who_hears_nothing_after_the_last_word_says_where_it_may_be(places: Places) -> None:
    site = places.site()
    before = make(site["esx1"])
    pair = Pair(site["esx1"], site["esx2"])

    def cut(who: str, message: msgspec.Struct) -> None:
        if isinstance(message, say.CopyCommit):
            pair.link.cut()
            pair.dead = "esx2"

    pair.before = cut
    assert pair.run().phase == "undecided"
    sentence = (
        "[local] web/web.vmx stays off on esx1: it was on its way to [local] web/web.vmx on esx2 (move "
        f"{NUMBER}), and only esx2 knows whether it has arrived there. Let esx1 ask esx2; if that host is gone for "
        "good, say that the machine is here."
    )
    assert pair.source.why.startswith(f"{sentence} The connection between esx1 and esx2 has ended: ")
    assert can_power_on(site["esx1"]) == sentence
    departure = read_departure(pair.source.home)
    assert departure is not None
    assert (departure.host, departure.address, departure.number) == ("esx2", "127.0.0.1:902", NUMBER)
    with pytest.raises(AdminError, match="stays off on esx1"):
        Pair(site["esx1"], site["esx2"], number="second").run()
    assert files(site["esx1"]).keys() - before.keys() == {"web.vmx.leaving"}
