"""SeaBIOS, whose driver for the 53C1030 is not Linux's, finds a disk behind it and boots from that."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tools import require_tool
from vilab.guests.load import load
from vilab.storage.block import MemoryDisk
from vilab.storage.scsi.state import Identity
from vilab.vmm.scsi_disks import AttachedDisk, ScsiAdapter
from vilab.vmm.vm import VirtualMachine

MEMORY_BYTES = 16 << 20
SEABIOS = Path("/usr/share/seabios/bios-256k.bin")
GREETING = b"read through a 53C1030 by INT 13h"
BOOT_SECTOR = (
    bytes.fromhex(
        "31c0 8ed8 8ec0"  # segments 0
        "b80102 b90200 b600 bb007e cd13 72fe"  # INT 13h: one sector, cylinder 0, head 0, sector 2, to 0x7e00
        "be007e ba0204 ac 84c0 7403 ee ebf8"  # its text to port 0x402
        "ba0406 b80020 ef"  # power off
    ).ljust(510, b"\0")
    + b"\x55\xaa"
)


@pytest.mark.interop
@pytest.mark.parametrize("engine", ["bare", "bt", "svm"])
def test_seabios_boots_from_a_disk_behind_the_adapter(engine: str):
    if not SEABIOS.exists():
        require_tool("seabios/bios-256k.bin", "the Debian package seabios")
    disk = MemoryDisk(BOOT_SECTOR + GREETING.ljust(512, b"\0") + bytes((4 << 20) - 1024))
    adapter = ScsiAdapter("lsilogic", (AttachedDisk(2, disk, Identity("boot")),))
    vm = VirtualMachine(load(str(SEABIOS), memory_bytes=MEMORY_BYTES), engine, MEMORY_BYTES, adapters=[adapter])
    ended = vm.engine.run(until_ns=20_000_000_000)
    said = vm.pc.debug_port.text
    vm.close()
    assert GREETING in said, said
    assert ended is not None
    assert ended.reason == "powered_off"
