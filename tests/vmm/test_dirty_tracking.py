"""No byte of a guest's memory changes without its page being noted, whoever writes and however the guest is run."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.memory.chaos import MB, Chaos
from tests.vmm.test_managed_memory import ENGINES, RESERVED, SLICE_NS, TYPED, undisturbed
from vilab.addresses import PAGE_BYTES
from vilab.errors import AdminError
from vilab.guests.load import load
from vilab.memory.dirty_log import DirtyLog, Method
from vilab.vmm.vm import QuietConsole, VirtualMachine


def pages_of(content: bytes) -> np.ndarray:
    return np.frombuffer(content, np.uint8).reshape(-1, PAGE_BYTES)


@pytest.mark.parametrize("chaotic", [False, True], ids=["quiet", "disturbed"])
@pytest.mark.parametrize(
    ("name", "method"),
    [(name, "traces") for name in ENGINES] + [(name, "dirty_bits") for name in ENGINES if name != "svm"],
)
def test_every_change_is_noted_and_the_guest_notices_nothing(name: str, method: Method, chaotic: bool) -> None:
    engine, options = ENGINES[name]
    chaos = Chaos(8 * MB, 48 * MB, 5)
    console = QuietConsole(TYPED)
    image = load("kernel", memory_bytes=8 * MB, reserved=RESERVED[engine])
    vm = VirtualMachine(image, engine, 8 * MB, console=console, engine_options=dict(options), grant=chaos.grant)
    log = DirtyLog(chaos.grant.pmap, method=method)
    log.restart()
    before = pages_of(vm.pmap.content())
    noted, changed, clean = 0, 0, 0
    for slices in itertools.count(1):
        if chaotic:
            chaos.disturb(20)
        if vm.engine.run(slices * SLICE_NS) is not None:
            break
        if slices % 5:
            continue
        after = pages_of(vm.pmap.content())
        differs = np.flatnonzero((after != before).any(axis=1))
        dirty = log.restart()
        assert set(differs.tolist()) <= set(dirty.tolist())
        noted, changed, clean = noted + len(dirty), changed + len(differs), clean + len(after) - len(dirty)
        before = after
    vm.close()
    assert bytes(console.output) == undisturbed(engine, options)
    assert changed > 150
    assert noted < 2 * changed, "what is noted is hardly more than what has changed"
    assert clean > 50 * noted
    assert (log.traces > 0) == (method == "traces")
    log.stop()


def test_nested_tables_have_no_dirty_bits() -> None:
    chaos = Chaos(8 * MB, 48 * MB, 5)
    vm = VirtualMachine(load("kernel", memory_bytes=8 * MB), "svm", 8 * MB, grant=chaos.grant)
    with pytest.raises(AdminError, match="no Dirty bits"):
        DirtyLog(chaos.grant.pmap, method="dirty_bits").restart()
    vm.close()
