"""The volume of lesson 14's map, and what happens to it."""

from __future__ import annotations

from vilab.course.feedback import columns
from vilab.course.lock_runs import NAMES, uuid_of
from vilab.storage.vmfs.layout import SECTOR, Header, Heartbeat
from vilab.storage.vmfs.mkfs import OVERHEAD_BYTES
from vilab.storage.vmfs.record import Record
from vilab.view import vmfs_run as deeds
from vilab.view.vmfs_run import Deed, VolumeRun

UUIDS = {name: uuid_of(name) for name in NAMES}
VMX, DB, WEB, BIG = "/db.vmx", "/db-flat.vmdk", "/web-flat.vmdk", "/new-flat.vmdk"

STORY = (
    deeds.mount("esx1"), deeds.create("esx1", VMX), deeds.write(VMX, 0, 2 / 1024), deeds.create("esx1", DB, 64),
    deeds.write(DB, 0, 3), deeds.write(DB, 40, 1), deeds.mount("esx2"), deeds.create_thick("esx2", WEB, 24),
    deeds.write(DB, 3, 12), deeds.write(DB, 0, 2), deeds.close(DB), deeds.remove("esx2", DB),
    deeds.create("esx1", BIG, 300), deeds.write(BIG, 299, 1),
)  # fmt: skip
BEFORE_THIN, BEFORE_HOLE, BEFORE_OTHER, BEFORE_OVERWRITING, BEFORE_REMOVE = 3, 5, 7, 9, 11


def volume(deeds_: list[Deed]) -> VolumeRun:
    """A new volume and deeds of one's own."""
    return VolumeRun(deeds_, UUIDS)


def volume_story() -> VolumeRun:
    return volume([*STORY])


def lock_in_bytes() -> str:
    """The two sectors that a lock consists of, as they lie on the LUN while esx1 has db-flat.vmdk open."""
    run = volume([deeds.mount("esx1"), deeds.create("esx1", DB, 64)])
    file = run.moment(run.total).volume.file(DB)
    assert file is not None
    lock = Header.decode(run.disk.read(OVERHEAD_BYTES + file.pos, SECTOR))
    slot = Heartbeat.decode(run.disk.read(OVERHEAD_BYTES + lock.hb_pos, SECTOR))
    return "\n".join(
        ("the lock, in front of the inode:", *_rows(lock), "", "the heartbeat slot that it names:", *_rows(slot))
    )


def _rows(record: Record) -> tuple[str, ...]:
    rows = []
    for field in record.FIELDS:
        raw = record.raw[field.offset : field.offset + field.size_bytes]
        value = getattr(record, field.name)
        shown = raw.hex() if isinstance(value, bytes) else f"{value:#x}"
        rows.append((f"  {field.offset:#04x}", field.name, shown, field.meaning))
    return columns(rows)
