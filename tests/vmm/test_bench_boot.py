"""The benchmark of a boot, with a small kernel in the place of the stock one; its seconds are never judged."""

from __future__ import annotations

import json

import pytest

from vilab.cli import main
from vilab.errors import AdminError, GuestStopped
from vilab.guests.load import load
from vilab.vmm import bench_boot
from vilab.vmm.bench_boot import Way, boot, profile_text
from vilab.vmm.runner import Chosen

MEMORY_BYTES = 16 << 20


def small_guest(_engine: str) -> Chosen:
    return Chosen(load("shell", memory_bytes=MEMORY_BYTES), MEMORY_BYTES, b"shell> ")


@pytest.fixture(scope="module")
def booted() -> bench_boot.Booted:
    return bench_boot.bench_boot(3, ("bt", "svm_nested"), small_guest)


def test_every_entry_has_its_ratio_to_the_bare_machine_of_its_round(booted):
    assert list(booted.figures) == ["bare", "bt", "svm_nested"]
    for entry in booted.figures.values():
        for figure in (entry, entry["end"]):
            assert figure["unit"] == "s"
            assert figure["median_of"] == 3
            assert figure["ratio"] == figure["value"] / figure["baseline"]
        assert entry["end"]["value"] >= entry["value"]
    assert booted.figures["bare"]["ratio"] == 1


def test_the_profile_is_the_runs_own(booted):
    profile = booted.figures["bt"]["profile"]
    statistics = boot(Way("bt"), small_guest).statistics
    assert profile["exits"] == statistics["exits"]
    assert profile["mmu"] == statistics["mmu"]
    translation = profile["translation"]
    assert {name: translation[name] for name in statistics["translation"]} == statistics["translation"]
    assert translation["seconds"] > 0
    assert profile["inflation"] > 1
    assert "translation" not in booted.figures["svm_nested"]["profile"]


def test_the_profile_is_printed_for_people(booted):
    text = profile_text(booted.figures)
    assert "bt: " in text
    assert "translation" in text
    assert "rdtsc" in text or "out" in text


def test_a_placement_that_is_refused_is_left_out_with_its_reason(monkeypatch):
    real = bench_boot.boot

    def refuse(way, guest):
        if way.options:
            raise AdminError("There is no such placement.")
        return real(way, guest)

    monkeypatch.setattr(bench_boot, "boot", refuse)
    found = bench_boot.bench_boot(1, ("mirrored",), small_guest)
    assert list(found.figures) == ["bare"]
    assert found.notes == ["mirrored is left out: There is no such placement."]


def test_a_guest_that_does_not_boot_is_not_a_figure():
    def deaf(engine: str) -> Chosen:
        chosen = small_guest(engine)
        return Chosen(chosen.image, chosen.memory_bytes, b"never said")

    with pytest.raises(GuestStopped, match="has not asked"):
        bench_boot.bench_boot(1, ("bt",), deaf)


def test_an_engine_that_does_not_boot_the_guest_is_left_out_with_what_happened():
    def deaf_under_bt(engine: str) -> Chosen:
        chosen = small_guest(engine)
        return Chosen(chosen.image, chosen.memory_bytes, b"never said") if engine == "bt" else chosen

    found = bench_boot.bench_boot(1, ("bt", "svm_nested"), deaf_under_bt)
    assert list(found.figures) == ["bare", "svm_nested"]
    assert len(found.notes) == 1
    assert "has not asked" in found.notes[0]


def test_json_goes_to_standard_output_and_the_profile_to_standard_error(monkeypatch, capsys, booted):
    monkeypatch.setattr(bench_boot, "bench_boot", lambda rounds, only: booted)
    assert main(["bench", "boot", "--json", "--rounds", "3"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == json.loads(json.dumps(booted.figures))
    assert "page faults" in said.err


def test_what_cannot_be_measured_is_refused(capsys):
    assert main(["bench", "boot", "--only", "bochs"]) == 2
    assert "svm_nested" in capsys.readouterr().err
    assert main(["bench", "vmm", "--rounds", "2"]) == 2
    assert main(["bench", "boot", "--rounds", "0"]) == 2
