"""One write on its way: who has it, from a guest's program down to the sectors of a LUN and back.

::

    program      "hello", 12 bytes            ━┓                                          ┏━
    driver       WRITE(10) sectors 112-119     ┗┓                                       ┏━┛
    adapter      request at 00143500            ┗┓┏┓                                  ┏━┛
    SCSI disk    2a 00 00 00 00 70 00 00 08 00   ┗┛┃                                ┏━┛
    redo log     sector 112 -> 183                 ┃                              ┏━┛
    VMFS         /vm/vm-000001-delta.vmdk          ┃  ┏┓           ┏┓             ┃
    LUN          WRITE(10) lba 90295               ┗━━┛┗━━━━━━━━━━━┛┗━━━━━━━━━━━━━┛
                                                  one step an event, time to the right

``stops`` makes the steps out of a log; ``write_path_draw`` draws them, ``WritePathTrack`` plays them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from vilab.devices.adapter_events import AdapterRegisterWritten, DmaMoved
from vilab.devices.scsi_events import CommandCompleted, RequestFetched
from vilab.events import Event
from vilab.storage.scsi.cdb import describe_cdb
from vilab.storage.scsi.request import ScsiCommand
from vilab.storage.storage_events import GrainsAllocated
from vilab.storage.vmfs.events import VmfsJournalWritten
from vilab.view.words import grouped, hex8, spaced

PROGRAM, DRIVER, ADAPTER, DISK, REDO_LOG, VOLUME, LUN = range(7)
LANES = (
    ("program", 3), ("kernel: file system, driver", 0), ("LSI Logic adapter", None), ("SCSI disk 0", None),
    ("redo log", None), ("VMFS, host esx1", None), ("LUN 0", None),
)  # fmt: skip
"""Name, and the guest's ring where it is the guest's."""
SECTOR = 512
SYNCHRONIZE = (0x35, 0x91)
REQUEST = "REQUEST"


class Stop(msgspec.Struct, frozen=True):
    """One step: where the write is, what it is called there, and what has just happened.

    ``name`` stays beside the lane until another one comes. ``command``: the number of the guest's command, from 1;
    0 before the first. ``cdb``: if the event has one. ``bad``: it has not ended well.
    """

    lane: int
    name: str
    say: str
    at_ns: int
    command: int
    cdb: bytes = b""
    nexus: str = ""
    outcome: str = ""


def stops(
    events: Iterable[Event], guest: str, host: str, program: str, places: Mapping[int, int], delta: str,
    area: Callable[[int], str],
) -> list[Stop]:  # fmt: skip
    """The steps of a log.

    Parameters
    ----------
    guest, host : names of the nexuses: the guest's adapter at its disk, the host at the LUN.
    program : what the program wants, for the first step and the last.
    places : sector of the disk to sector of the redo log, of the first sector of each write.
    delta : the redo log's file.
    area : what a sector of the LUN belongs to, in a word or two.
    """
    made = [Stop(PROGRAM, program, f"The program wants **{program}** on the disk, and calls its kernel.", 0, 0)]
    command, waiting, cdb = 0, False, b""
    for event in events:
        stop: Stop | None = None
        if isinstance(event, AdapterRegisterWritten) and event.register == REQUEST:
            command, waiting = command + 1, True
            stop = Stop(DRIVER, "", "", event.at_ns, command)  # its name comes with the request
            made.append(stop)
            continue
        if isinstance(event, RequestFetched):
            cdb = event.cdb
            made[-1] = _driver(made[-1], event)
            stop = _fetched(event, command)
        elif isinstance(event, DmaMoved) and event.what == "data":
            stop = _moved(event, command)
        elif isinstance(event, ScsiCommand) and event.nexus == host:
            stop = _lun(event, command, area)
        elif isinstance(event, VmfsJournalWritten):
            stop = Stop(
                VOLUME, delta, f"VMFS: the change, {event.what}, is in the **journal** of esx1. Whatever happens now, "
                "it can be finished.", event.at_ns, command,
            )  # fmt: skip
        elif isinstance(event, GrainsAllocated):
            stop = _grains(event, command)
        elif isinstance(event, ScsiCommand) and event.nexus == guest:
            stop = _disk(event, command, places)
        elif isinstance(event, CommandCompleted):
            stop = _completed(event, command)
        if stop is not None:
            made.append(stop)
        if isinstance(event, CommandCompleted) and waiting:
            waiting = False
            made.append(_interrupted(event, command, cdb))
    made.append(
        Stop(PROGRAM, program, f"The kernel returns: **{program}**, safe on the disk.", made[-1].at_ns, command)
    )
    return made


def sectors(cdb: bytes) -> tuple[int, int]:
    """(first, count) of a READ or WRITE of 10 or 16 bytes."""
    if len(cdb) >= 16:
        return int.from_bytes(cdb[2:10], "big"), int.from_bytes(cdb[10:14], "big")
    return int.from_bytes(cdb[2:6], "big"), int.from_bytes(cdb[7:9], "big")


def spoken(cdb: bytes) -> str:
    """What a command wants: ``WRITE(10), sectors 112 to 119``."""
    name = describe_cdb(cdb).split(" ")[0]
    if cdb[0] in SYNCHRONIZE or name.startswith(("RESERVE", "RELEASE", "SYNCHRONIZE")):
        return describe_cdb(cdb).split(" lba")[0]
    first, count = sectors(cdb)
    return f"{name}, sector{'' if count == 1 else 's'} {_span(first, count)}"


def _span(first: int, count: int) -> str:
    return grouped(first) if count <= 1 else f"{grouped(first)} to {grouped(first + count - 1)}"


def _driver(stop: Stop, event: RequestFetched) -> Stop:
    wants = spoken(event.cdb)
    return Stop(
        DRIVER, wants, f"The driver has written a request for **{wants}** into its memory, and its address, "
        f"`{hex8(event.gpa)}`, to the adapter's register.", stop.at_ns, stop.command,
    )  # fmt: skip


def _fetched(event: RequestFetched, command: int) -> Stop:
    data = f", {grouped(event.data_bytes)} bytes to come from memory" if event.data_bytes else ", no data"
    return Stop(
        ADAPTER, f"request at {hex8(event.gpa)}", f"The adapter reads the request by itself, by DMA from "
        f"`{hex8(event.gpa)}`: target {event.target}, a CDB of {len(event.cdb)} bytes{data}.", event.at_ns, command,
        event.cdb,
    )  # fmt: skip


def _moved(event: DmaMoved, command: int) -> Stop:
    return Stop(
        ADAPTER, f"data at {hex8(event.gpa)}", f"**{grouped(event.size_bytes)} bytes** go from guest memory, "
        f"`{hex8(event.gpa)}`, to the disk: by DMA again, the processor has no part in it.", event.at_ns, command,
    )  # fmt: skip


def _lun(event: ScsiCommand, command: int, area: Callable[[int], str]) -> Stop:
    wants, moved = spoken(event.cdb), event.data_in_bytes + event.data_out_bytes
    size = f", {grouped(moved)} bytes: {area(sectors(event.cdb)[0])}" if moved else ""
    return Stop(
        LUN, wants, f"The host asks the LUN: **{wants}**{size}{_why(event.cdb)}.", event.at_ns, command, event.cdb,
        event.nexus, _outcome(event),
    )  # fmt: skip


def _why(cdb: bytes) -> str:
    return {
        0x16: ", so that no other host changes the volume meanwhile", 0x17: ": other hosts may go on",
        0x35: ": nothing written before may be lost after that",
    }.get(cdb[0], "")  # fmt: skip


def _grains(event: GrainsAllocated, command: int) -> Stop:
    theirs = _span(event.first_sector, event.sectors)
    return Stop(
        REDO_LOG, f"sector {grouped(event.first_sector)} is at {grouped(event.file_sector)}",
        f"The redo log has **{event.sectors} new grains**: sectors {theirs} of the disk are sectors "
        f"{_span(event.file_sector, event.sectors)} of {event.file} from now on.", event.at_ns, command,
    )  # fmt: skip


def _disk(event: ScsiCommand, command: int, places: Mapping[int, int]) -> Stop:
    words = f"The disk answers **{_outcome(event)}** to {spoken(event.cdb)}."
    if event.data_out_bytes:
        first, _ = sectors(event.cdb)
        if first in places:
            words += f" In the redo log, sector {grouped(first)} is at {grouped(places[first])}."
    return Stop(DISK, spaced(event.cdb, 10), words, event.at_ns, command, event.cdb, event.nexus, _outcome(event))


def _completed(event: CommandCompleted, command: int) -> Stop:
    return Stop(
        ADAPTER, "reply, interrupt line high", f"The adapter puts its reply where the driver looks for it, and raises "
        f"its interrupt line, {event.took_ns / 1e6:.2f} ms after it had the request.", event.at_ns, command,
    )  # fmt: skip


def _interrupted(event: CommandCompleted, command: int, cdb: bytes) -> Stop:
    return Stop(
        DRIVER, f"done: {spoken(cdb)}", f"The interrupt arrives, and the driver takes the reply: command {command} is "
        "done.", event.at_ns, command,
    )  # fmt: skip


def _outcome(event: ScsiCommand) -> str:
    return event.describe().split(" -> ")[1].split(",")[0]


def guests_commands(made: Sequence[Stop]) -> int:
    return max((stop.command for stop in made), default=0)


def hosts_commands(made: Sequence[Stop], command: int | None = None) -> int:
    """CDBs at the LUN, of one of the guest's commands or of all."""
    return sum(stop.lane == LUN and command in (None, stop.command) for stop in made)
