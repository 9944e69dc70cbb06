"""A guest whose pages are taken away, moved, shared and watched behind its back says what it would have said."""

from __future__ import annotations

import itertools

import pytest

from tests.memory.chaos import MB, Chaos
from vilab.guests.load import load
from vilab.vmm.vm import MONITOR_WINDOW, QuietConsole, VirtualMachine

TYPED = b"isprime 49\ncow\nworkers\nforkwait 20\ntoucher 100 3\nexit\n"
ENGINES = {
    "svm": ("svm", {}),
    "svm shadow all": ("svm", {"paging": "shadow", "trace": "all"}),
    "svm shadow lazy": ("svm", {"paging": "shadow", "trace": "lazy"}),
    "svm shadow prevalidate": ("svm", {"paging": "shadow", "trace": "prevalidate"}),
    "bt": ("bt", {}),
    "bt lazy": ("bt", {"trace": "lazy"}),
    "bt superblocks": ("bt", {"trace": "prevalidate", "superblocks": True}),
    "mirrored": ("bt", {"placement": "mirrored"}),
}
SLICE_NS = 300_000
RESERVED = {"svm": None, "bt": MONITOR_WINDOW}


def undisturbed(engine: str, options: dict[str, object]) -> bytes:
    console = QuietConsole(TYPED)
    vm = VirtualMachine(
        load("kernel", memory_bytes=8 * MB, reserved=RESERVED[engine]),
        engine,
        8 * MB,
        console=console,
        engine_options=dict(options),
    )
    vm.engine.run()
    vm.close()
    return bytes(console.output)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_guest_does_not_notice_what_is_done_to_its_pages(name: str, seed: int) -> None:
    engine, options = ENGINES[name]
    chaos = Chaos(8 * MB, 48 * MB, seed)
    console = QuietConsole(TYPED)
    image = load("kernel", memory_bytes=8 * MB, reserved=RESERVED[engine])
    vm = VirtualMachine(image, engine, 8 * MB, console=console, engine_options=dict(options), grant=chaos.grant)
    for slices in itertools.count(1):
        if vm.engine.run(slices * SLICE_NS) is not None:
            break
        chaos.disturb(60)
    chaos.check()
    vm.close()
    assert bytes(console.output) == undisturbed(engine, options)
    assert all(chaos.counts.values()), chaos.counts
