"""What a unit tells about itself: INQUIRY and its pages, capacity, LUNs, operation codes; sg3-utils as the judge."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.storage.scsi_helpers import BY_NAME, DISK_BLOCKS, A, Bench, cdb, good, refused
from tests.tools import require_tool
from vilab.errors import AdminError
from vilab.storage.block import MemoryDisk
from vilab.storage.scsi.commands import COMMANDS, Command
from vilab.storage.scsi.sense import Status
from vilab.storage.scsi.state import Identity
from vilab.storage.scsi.unit import LogicalUnit


def test_standard_inquiry_is_a_disk_that_is_not_removable() -> None:
    data = good(Bench().a("INQUIRY", allocation=255))
    assert len(data) == data[4] + 5 == 96
    assert data[:4] == bytes((0, 0, 6, 0x12))
    assert data[8:36] == b"VMware  Virtual disk    1.0 "


def test_allocation_length_cuts_and_is_no_error() -> None:
    bench = Bench()
    for allocation in (0, 1, 4, 36, 95):
        assert len(good(bench.a("INQUIRY", allocation=allocation))) == allocation
        assert len(good(bench.a("INQUIRY", evpd=1, page=0xB0, allocation=allocation))) == min(allocation, 64)


def test_pages_are_those_that_page_0_lists() -> None:
    bench = Bench()
    listed = good(bench.a("INQUIRY", evpd=1, page=0, allocation=255))[4:]
    assert list(listed) == [0x00, 0x80, 0x83, 0xB0, 0xB1, 0xB2]
    for page in range(256):
        response = bench.a("INQUIRY", evpd=1, page=page, allocation=255)
        if page in listed:
            data = good(response)
            assert data[1] == page
            assert int.from_bytes(data[2:4], "big") == len(data) - 4
        else:
            refused(response, 0x2400)
    refused(bench.a("INQUIRY", evpd=0, page=0x80, allocation=255), 0x2400)


def test_the_name_of_a_disk_is_made_from_its_serial_number() -> None:
    naa = Identity("serial-0001").naa
    assert len(naa) == 16
    assert naa[:3] == bytes.fromhex("6000c2")
    assert naa != Identity("serial-0002").naa
    assert naa in good(Bench().a("INQUIRY", evpd=1, page=0x83, allocation=255))


def test_a_thick_disk_offers_no_unmap() -> None:
    bench = Bench(thin=False)
    assert good(bench.a("INQUIRY", evpd=1, page=0xB2, allocation=255))[5] == 0
    assert good(bench.a("INQUIRY", evpd=1, page=0xB0, allocation=255))[20:28] == bytes(8)
    assert good(bench.a("READ CAPACITY(16)", allocation=32))[14] == 0
    refused(bench.a("UNMAP"), 0x2000)
    refused(bench.a("WRITE SAME(16)", bytes(512), lba=0, blocks=1, unmap=1), 0x2400)
    one = good(bench.a("REPORT SUPPORTED OPERATION CODES", options=1, requested=0x42, allocation=64))
    assert one == bytes((0, 1, 0, 0))


@pytest.mark.interop
def test_sg_inq_and_sg_vpd_read_the_pages(tmp_path: Path) -> None:
    bench = Bench()

    def told(tool: str, data: bytes, *options: str) -> str:
        path = require_tool(tool, "the Debian package sg3-utils")
        file = tmp_path / "hex"
        file.write_text(data.hex(" "))
        run = subprocess.run([path, f"--inhex={file}", *options], capture_output=True, text=True, timeout=20)
        assert run.returncode == 0, run.stderr
        return run.stdout

    text = told("sg_inq", good(bench.a("INQUIRY", allocation=255)))
    for expected in ("SPC-4", "Vendor identification: VMware", "Product identification: Virtual disk", "CmdQue=1"):
        assert expected in text
    for page, expected in (
        (0x80, "serial-0001"),
        (0x83, f"0x{Identity('serial-0001').naa.hex()}"),
        (0xB0, "Maximum compare and write length: 255 blocks"),
        (0xB0, "Maximum write same length: 0x20000 blocks"),
        (0xB1, "Medium rotation rate is not reported"),
        (0xB2, "Unmap command supported (LBPU): 1"),
        (0xB2, "Write same (16) with unmap bit supported (LBPWS): 1"),
        (0xB2, "Thin provisioned"),
    ):
        data = good(bench.a("INQUIRY", evpd=1, page=page, allocation=255))
        assert expected.lower() in told("sg_vpd", data, f"--page={page:#x}").lower()


def test_capacity() -> None:
    bench = Bench()
    assert good(bench.a("READ CAPACITY(10)")) == (DISK_BLOCKS - 1).to_bytes(4, "big") + (512).to_bytes(4, "big")
    refused(bench.a("READ CAPACITY(10)", lba=1), 0x2400)
    data = good(bench.a("READ CAPACITY(16)", allocation=255))
    assert data[:12] == (DISK_BLOCKS - 1).to_bytes(8, "big") + (512).to_bytes(4, "big")
    assert data[12:16] == bytes((0, 0, 0xC0, 0))
    assert len(data) == 32
    for allocation in (0, 8, 31):
        assert good(bench.a("READ CAPACITY(16)", allocation=allocation)) == data[:allocation]


class HugeDisk(MemoryDisk):
    size_bytes = 1 << 48


def test_a_disk_of_more_than_2_32_blocks_sends_to_read_capacity_16() -> None:
    bench = Bench()
    bench.unit.device = HugeDisk(512)
    assert good(bench.a("READ CAPACITY(10)"))[:4] == b"\xff" * 4
    assert int.from_bytes(good(bench.a("READ CAPACITY(16)", allocation=32))[:8], "big") == (1 << 39) - 1


def test_a_disk_without_sectors_is_refused_with_its_name() -> None:
    with pytest.raises(AdminError, match="empty-7"):
        LogicalUnit(MemoryDisk(0), Identity("empty-7"))


def test_report_luns_lists_them_at_every_lun() -> None:
    bench = Bench()
    bench.target.add(300, MemoryDisk(512), Identity("x"))
    bench.hear()
    expected = bytes((0, 0, 0, 16)) + bytes(4) + bytes(8) + bytes((0x41, 0x2C)) + bytes(6)
    for lun in (0, 300, 77):
        raw = cdb("REPORT LUNS", allocation=255)
        assert good(bench.target.execute(A, lun, raw)) == expected
    assert good(bench.a("REPORT LUNS", select=1, allocation=255)) == bytes(8)
    refused(bench.a("REPORT LUNS", select=3, allocation=255), 0x2400)
    refused(bench.a("REPORT LUNS", allocation=15), 0x2400)


def test_no_unit_says_so() -> None:
    bench = Bench()

    def at_lun_9(name: str, **fields: int) -> bytes:
        return good(bench.target.execute(A, 9, cdb(name, **fields)))

    assert at_lun_9("INQUIRY", allocation=36)[0] == 0x7F
    assert at_lun_9("REQUEST SENSE", allocation=18)[12] == 0x25
    for command in COMMANDS:
        if command.name not in ("INQUIRY", "REQUEST SENSE", "REPORT LUNS"):
            refused(bench.target.execute(A, 9, cdb(command.name)), 0x2500)
    refused(bench.target.execute(A, 9, b"\xff"), 0x2500)
    refused(bench.target.execute(A, 9, b""), 0x2500)


def test_all_operation_codes_are_listed_with_or_without_timeouts() -> None:
    bench = Bench()
    for rctd, step in ((0, 8), (1, 20)):
        data = good(bench.a("REPORT SUPPORTED OPERATION CODES", rctd=rctd, allocation=65535))
        assert int.from_bytes(data[:4], "big") == len(data) - 4 == step * len(COMMANDS)
        for command, at in zip(COMMANDS, range(4, len(data), step), strict=True):
            assert data[at] == command.opcode
            assert int.from_bytes(data[at + 2 : at + 4], "big") == (command.service_action or 0)
            assert data[at + 5] & 1 == (command.service_action is not None)
            assert bool(data[at + 5] & 2) == bool(rctd)
            assert int.from_bytes(data[at + 6 : at + 8], "big") == command.length


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c.name)
def test_one_operation_code_and_its_usage_map(command: Command) -> None:
    bench = Bench()
    row = BY_NAME[command.name]
    asked = {"requested": row.opcode, "requested_action": row.service_action or 0, "allocation": 255}
    family = row.service_action is not None
    data = good(bench.a("REPORT SUPPORTED OPERATION CODES", options=2 if family else 1, **asked))
    assert data[1] == 3
    assert int.from_bytes(data[2:4], "big") == len(data) - 4 == row.length
    assert data[4] == row.opcode
    assert data == good(bench.a("REPORT SUPPORTED OPERATION CODES", options=3, **asked))
    refused(bench.a("REPORT SUPPORTED OPERATION CODES", options=1 if family else 2, **asked), 0x2400)


def test_a_command_that_is_not_there_is_reported_as_such() -> None:
    bench = Bench()
    for options in (1, 2, 3):
        data = good(bench.a("REPORT SUPPORTED OPERATION CODES", options=options, requested=0xFF, allocation=64))
        assert data == bytes((0, 1, 0, 0))
    refused(bench.a("REPORT SUPPORTED OPERATION CODES", options=4, allocation=64), 0x2400)


def test_task_management_functions_are_reported() -> None:
    bench = Bench()
    assert good(bench.a("REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS", allocation=4)) == bytes((0xDE, 1, 0, 0))
    assert len(good(bench.a("REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS", repd=1, allocation=255))) == 16
    refused(bench.a("REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS", allocation=3), 0x2400)


def test_no_block_is_bad() -> None:
    bench = Bench()
    assert good(bench.a("READ DEFECT DATA(10)", plist=1, glist=1, format=5, allocation=255)) == bytes((0, 0x1D, 0, 0))
    assert good(bench.a("READ DEFECT DATA(12)", glist=1, allocation=255)) == bytes((0, 0x08)) + bytes(6)
    assert bench.a("TEST UNIT READY").status == Status.GOOD
