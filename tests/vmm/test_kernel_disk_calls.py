"""What a program may ask of the kernel's files: every call, right and wrong. The program is put into the image."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vmm.calls_image import kernels_with
from tests.vmm.disk_guest import DISK_BYTES, ENGINES
from vilab.guests.load import load
from vilab.guests.tinyfs import read_volume
from vilab.storage.block import MemoryDisk
from vilab.storage.scsi.state import Identity
from vilab.vmm.scsi_disks import AttachedDisk, ScsiAdapter
from vilab.vmm.vm import QuietConsole, VirtualMachine

SOURCE = Path(__file__).parent / "file_calls.c"
PLACE = "calls"
MEMORY_BYTES = 16 << 20


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """The two kernels with disks, native and paravirtual, with the program in them."""
    return kernels_with(SOURCE, PLACE, "kernel-disk", tmp_path_factory.mktemp("guest"))


@pytest.mark.parametrize("engine", ENGINES)
def test_file_calls_answer_and_refuse_as_they_should(engine: str, images: dict[bool, Path]) -> None:
    name, options = ENGINES[engine]
    disk, console = MemoryDisk(DISK_BYTES), QuietConsole()
    image = load(str(images[name == "para"]), memory_bytes=MEMORY_BYTES, append=f"init={PLACE}")
    adapter = ScsiAdapter("lsilogic", (AttachedDisk(0, disk, Identity("disk0")),))
    vm = VirtualMachine(image, name, MEMORY_BYTES, console=console, engine_options=options, adapters=(adapter,))
    assert vm.engine.run().reason == "powered_off", console.said
    assert "calls: 43 checks, 0 wrong\n" in console.said
    assert read_volume(disk).files == ()
