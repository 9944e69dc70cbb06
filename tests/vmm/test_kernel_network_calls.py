"""What a program may ask of the kernel's network: every call, right and wrong. The program is put into the image."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vmm.calls_image import kernels_with
from tests.vmm.disk_guest import ENGINES
from tests.vmm.network_guest import NetworkGuest

SOURCE = Path(__file__).parent / "network_calls.c"
PLACE = "netsend"
"""The largest program of its kind: another one has to fit into its place."""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """The two kernels with a network, native and paravirtual, with the program in them."""
    return kernels_with(SOURCE, PLACE, "kernel-network", tmp_path_factory.mktemp("guest"))


@pytest.mark.parametrize("engine", ENGINES)
def test_network_calls_answer_and_refuse_as_they_should(engine: str, images: dict[bool, Path]) -> None:
    guest = NetworkGuest(engine=engine, image=str(images[engine == "para"]), append=f"init={PLACE}")
    guest.run()
    assert "calls: 47 checks, 0 wrong\n" in guest.output
