"""What SCSI host adapters report, one event for each step of a command's way.

::

    driver ──> AdapterRegisterWritten ──> RequestFetched ──> (the disk's time) ──> DmaMoved ──> CommandCompleted
                                                                                           ──> AdapterInterrupt
"""

from __future__ import annotations

from vilab.events import Event


class RequestFetched(Event, frozen=True, tag=True):
    """The adapter has read a command from guest memory at ``gpa``. ``segments``: pieces of memory its data is in."""

    slot: int
    gpa: int
    tag: int
    target: int
    lun: int
    cdb: bytes
    segments: int
    data_bytes: int


class CommandCompleted(Event, frozen=True, tag=True):
    """A command is over. ``scsi_status`` as in SAM-4 5.3; ``adapter_status``: the adapter's own word for it, 0 if well;
    ``took_ns`` since it was fetched."""

    slot: int
    tag: int
    target: int
    scsi_status: int
    adapter_status: int
    moved_bytes: int
    took_ns: int
