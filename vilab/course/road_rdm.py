"""A raw device mapping: what of a guest's commands arrives at the LUN behind it.

::

    guest ── CDB ── virtual compatibility:   a virtual disk answers; the LUN sees reads and writes
                 └─ physical compatibility:  the LUN answers, but to REPORT LUNS
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec

from vilab.course.feedback import columns
from vilab.events import EventLog
from vilab.storage.block import MemoryDisk
from vilab.storage.disks.disk_chain import open_chain
from vilab.storage.disks.rdm import RdmFiles, create_mapping, open_passthrough
from vilab.storage.scsi.cdb import decode
from vilab.storage.scsi.lun_disk import RESERVE_6, SYNCHRONIZE_CACHE, LunDisk, nexus_to, read_cdb, write_cdb
from vilab.storage.scsi.lun_identity import (
    INQUIRY,
    INQUIRY_NAMES,
    REPORT_LUNS,
    TEST_UNIT_READY,
    Submit,
    luns_of,
    name_of,
)
from vilab.storage.scsi.request import ScsiCommand
from vilab.storage.scsi.sense import Status
from vilab.storage.scsi.state import Identity, Nexus
from vilab.storage.scsi.target import Target

GUEST, OTHER = Nexus("esx1"), Nexus("esx2")
COMMANDS: tuple[tuple[str, bytes, bytes], ...] = (
    ("INQUIRY", INQUIRY, b""), ("INQUIRY, page 83", INQUIRY_NAMES, b""), ("REPORT LUNS", REPORT_LUNS, b""),
    ("WRITE(10)", write_cdb(8, 1), b"\x5a" * 512), ("READ(10)", read_cdb(8, 1), b""),
    ("SYNCHRONIZE CACHE", SYNCHRONIZE_CACHE, b""), ("RESERVE(6)", RESERVE_6, b""),
)  # fmt: skip


class Passed(msgspec.Struct, frozen=True):
    """One command of the guest. ``answer``: what it heard; ``arrived``: what the LUN has seen of it."""

    command: str
    mode: str
    answer: str
    arrived: tuple[str, ...]


class Mapped(msgspec.Struct, frozen=True):
    """``other``: what another host hears that reads the LUN afterwards, by mode."""

    passed: tuple[Passed, ...]
    other: dict[str, str]

    def describe(self) -> str:
        rows = [("the guest sends", "virtual: the guest hears", "the LUN sees", "physical: it hears", "the LUN sees")]
        for name, _, _ in COMMANDS:
            virtual, physical = (self.of(name, mode) for mode in ("virtual", "physical"))
            seen = [", ".join(each.arrived) or "-" for each in (virtual, physical)]
            rows.append((name, virtual.answer, seen[0], physical.answer, seen[1]))
        rows.append(("then another host reads", self.other["virtual"], "", self.other["physical"], ""))
        return "\n".join(columns(rows))

    def of(self, command: str, mode: str) -> Passed:
        return next(each for each in self.passed if (each.command, each.mode) == (command, mode))


def mapped() -> Mapped:
    """The same commands through both kinds of mapping, each to a LUN of its own."""
    passed: list[Passed] = []
    other: dict[str, str] = {}
    for mode in ("virtual", "physical"):
        log = EventLog(keep=True)
        array = Target(log=log)
        array.add(3, MemoryDisk(1 << 20), Identity("array-lun3", product="SAN LUN"))
        for nexus in (GUEST, OTHER):
            array.connect(nexus)
        with tempfile.TemporaryDirectory(prefix="vilab-rdm-") as folder:
            submit = _guest(mode, Path(folder), nexus_to(array, GUEST, 3))
            _answers(submit, TEST_UNIT_READY)  # whatever unit attention waits is heard now
            for name, cdb, data in COMMANDS:
                log.events.clear()
                status, answer, _ = submit(cdb, data)
                seen = tuple(decode(event.cdb).command.name for event in log.of(ScsiCommand))
                passed.append(Passed(name, mode, _heard(name, status, answer), seen))
            _answers(nexus_to(array, OTHER, 3), TEST_UNIT_READY)
            status, _, _ = nexus_to(array, OTHER, 3)(read_cdb(8, 1), b"")
            other[mode] = Status(status).name.replace("_", " ").lower()
    return Mapped(tuple(passed), other)


def _guest(mode: str, folder: Path, door: Submit) -> Submit:
    """How the guest's adapter reaches what is behind the mapping."""
    lun = LunDisk(door)
    files = RdmFiles({lun.identity.name: lun})
    path = folder / "vm.vmdk"
    create_mapping(path, lun.identity.name, lun, physical=mode == "physical")
    if mode == "physical":
        return open_passthrough(path, files).submit
    bus = Target()
    bus.add(0, open_chain(path, writable=True, files=files), Identity("vm-disk0"))
    bus.connect(GUEST)
    return nexus_to(bus, GUEST, 0)


def _answers(submit: Submit, cdb: bytes) -> None:
    for _ in range(4):
        if submit(cdb, b"")[0] == Status.GOOD:
            return


def _heard(name: str, status: int, answer: bytes) -> str:
    if status != Status.GOOD:
        return Status(status).name.replace("_", " ").lower()
    if name == "INQUIRY":
        return answer[16:32].decode("ascii", "replace").strip()
    if name == "INQUIRY, page 83":
        return (name_of(answer) or "no name")[:16] + "..."
    if name == "REPORT LUNS":
        return "LUN " + ", ".join(map(str, luns_of(answer)))
    return "good"
