"""What a machine is, loaded elsewhere, is what it was: at any moment, field by field."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest

from tests.host.storage_helpers import to_prompt
from tests.migration.two_hosts import TwoHosts
from vilab.host.arrival import Arrival, describe
from vilab.vmm.vm import VmState


@pytest.mark.parametrize("line", ["writer-muncher 300 20", "writer 200 64 16 2", "together writer-muncher 100 20"])
@pytest.mark.parametrize("engine", ["svm", "bt"])
def test_a_state_is_the_same_wherever_it_is_loaded(engine: str, line: str, tmp_path: Path) -> None:
    lab = TwoHosts(tmp_path)
    vm = lab.power_on(image="kernel-writer", memory_mb=16, engine=engine)
    to_prompt(lab.esx1, vm)
    vm.console.type(line)
    arrival, lot = Arrival(lab.esx2, describe(vm)), random.Random(f"{engine} {line}")
    for _ in range(60):
        lab.esx1.run_for(lot.randrange(1_000, 3_000_000))
        packed = msgspec.msgpack.encode(vm.vm.save_state(memory=False))
        arrival.hosted.vm.load_state(msgspec.msgpack.decode(packed, type=VmState), memory=False)
        found = arrival.hosted.vm.save_state(memory=False)
        assert msgspec.to_builtins(found) == msgspec.to_builtins(msgspec.msgpack.decode(packed, type=VmState))
    lab.close()
