"""One lock, by each road: what goes over the wire for it, and how long a dead owner keeps it."""

from __future__ import annotations

from vilab.course.feedback import columns
from vilab.course.lock_runs import story
from vilab.course.road_iscsi import one_lock
from vilab.course.road_nfs import nfs_story
from vilab.view.lock_frame import SECOND_NS, LockStory


def takeover_s(told: LockStory) -> float:
    """From the last question for a dead host's machine to its being on."""
    asked = [step for step in told.steps if step.kind == "asks"][-1]
    on = next(step for step in told.steps if step.kind == "on" and step.at_ns > asked.at_ns)
    return (on.at_ns - asked.at_ns) / SECOND_NS


def side_by_side() -> str:
    """Measured, each on its own run."""
    scsi, nfs = one_lock(), nfs_story()
    rows = [
        ("", "VMFS on a LUN, by iSCSI", "NFS"),
        ("where the lock is", "one sector in front of the inode", "a file of its own beside the disk"),
        ("to take it", f"{scsi.commands} SCSI commands", f"{nfs.calls} calls"),
        ("bytes there, and back", f"{scsi.sent_bytes:,} and {scsi.received_bytes:,}", f"{nfs.sent_bytes:,} and "
         f"{nfs.received_bytes:,}"),
        ("nobody else meanwhile", "on the whole LUN", "nobody is kept out"),
        ("sign of life", "one stamp a host, every 3 s", "one record a file, every 10 s"),
        ("a dead owner's is taken after", f"{takeover_s(story().story):.1f} s", f"{nfs.takeover_s:.1f} s"),
    ]  # fmt: skip
    return "\n".join(columns(rows))
