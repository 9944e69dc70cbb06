"""The record of a hand-over: a small file beside the .vmx that says how far it has come.

::

    web.handover     {"session": "5f1c...", "sequence": 7, "source": "esx1", "destination": "esx2", "state": "offered"}

    offered      by the source, just before it gives the locks back       whoever has the locks next may decide
      ├──> committed    by the destination, with the locks in its hand    it runs there, and nowhere else any more
      └──> reclaimed    by the source, with the locks in its hand         it runs on where it was

It is one sector long. On a VMFS volume that sector is written in its place, with the LUN reserved: a disk writes a
sector as a whole, and the machine stands still meanwhile (``Host.write_sector``). Elsewhere, and where there is none
yet, a new file takes its name.

It is replaced as a whole, and only by who holds the locks of the machine's files; so there is one step out of
``offered``, whoever makes it. A record of another session, or of an earlier hand-over, decides nothing. The next
hand-over writes over it, with the next number; who powers the machine on in the ordinary way removes it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from vilab.errors import AdminError
from vilab.host.mounted import MountedVmfs
from vilab.host.vm_home import VmHome
from vilab.storage.block import SECTOR_BYTES

State = Literal["offered", "committed", "reclaimed"]
MOST_BYTES = 4096


class HandoverRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``session``: of the migration, never used again. ``sequence``: of hand-overs since the machine was powered on."""

    session: str
    sequence: int
    source: str
    destination: str
    state: State

    def says(self, state: State, other: HandoverRecord) -> bool:
        """Is it the one of the same hand-over, in this state?"""
        return self == msgspec.structs.replace(other, state=state)


def record_path(home: VmHome) -> Path:
    """Where the record of a machine is, for ``home.files``."""
    return home.handover_path


def read_record(home: VmHome) -> HandoverRecord | None:
    """``None``: there is none. ``DamagedRecord``: it is no record. Another ``AdminError``: it cannot be read now."""
    path = record_path(home)
    if not home.files.exists(path):
        return None
    file = home.files.open(path)
    try:
        data = file.read_some(0, MOST_BYTES + 1)
    finally:
        file.close()
    try:
        return msgspec.json.decode(data, type=HandoverRecord)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DamagedRecord(
            f"{path.name} beside {home.where} is no record of a hand-over: {error}. Power off and remove it."
        ) from None


def write_record(home: VmHome, record: HandoverRecord) -> None:
    """In one step. ``AdminError``: it was not written, or nobody knows."""
    data = msgspec.json.encode(record)
    if len(data) > MOST_BYTES:
        raise AdminError(f"A hand-over of {home.where} with a session of {len(record.session)} characters is refused.")
    put(home, (data + b"\n").ljust(SECTOR_BYTES))


def put(home: VmHome, data: bytes) -> None:
    """In the record's place, as a whole."""
    path, mounted, done = record_path(home), home.mounted, False
    if isinstance(mounted, MountedVmfs) and len(data) == SECTOR_BYTES:
        done = mounted.member.write_sector(f"/{mounted.path_of(path)}", data)
    if not done:
        home.files.replace(path, data)


class DamagedRecord(AdminError):
    """What is in the record's place was not written by a host."""
