"""``vilab iscsi-target``: disks for any iSCSI initiator.

::

    vilab iscsi-target --portal 127.0.0.1:3260 --iqn iqn.2006-06.org.example:disks --lun a.raw --lun b.vmdk
    vilab iscsi-target ... --lun 5=a.raw --chap user:secret

``--portal`` may be repeated: other ways to the same LUNs, each a portal group of its own.

Prints one line when it listens; SIGTERM or SIGINT ends it, disks flushed, with status 0.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence
from pathlib import Path

from vilab.errors import AdminError
from vilab.protocols import BlockDevice
from vilab.storage.disks.disk_chain import open_chain
from vilab.storage.disks.vmdk import is_vmdk
from vilab.storage.iscsi.chap import Credentials
from vilab.storage.iscsi.server import IscsiServer
from vilab.storage.iscsi.target import IscsiTarget
from vilab.storage.raw_disk import RawDisk
from vilab.storage.scsi.state import Identity
from vilab.storage.scsi.target import MOST_LUNS, Target


def serve(
    portals: Sequence[str], iqn: str, luns: Sequence[str], chap: str | None, mutual_chap: str | None, read_only: bool
) -> int:
    places = [parse_portal(portal) for portal in portals]
    credentials = None if chap is None else Credentials.parse(chap)
    mutual = None if mutual_chap is None else Credentials.parse(mutual_chap)
    disks = number_luns(luns)
    scsi = Target()
    node = IscsiTarget(iqn, scsi, (), credentials, mutual)
    with contextlib.ExitStack() as opened:
        for lun, path in disks.items():
            device = _open(path, not read_only, opened)
            scsi.add(lun, device, Identity(serial_of(iqn, lun, path), product="VILAB LUN"))
        return asyncio.run(_serve(node, places))


def parse_portal(text: str) -> tuple[str, int]:
    """``HOST:PORT`` or ``[HOST]:PORT``. Port 0 is any that is free."""
    host, colon, port = text.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not (colon and host and port.isascii() and port.isdigit() and int(port) < 1 << 16):
        raise AdminError(f"{text!r} is no portal; one looks like 127.0.0.1:3260.")
    return host, int(port)


def number_luns(texts: Sequence[str]) -> dict[int, Path]:
    """``FILE`` takes the lowest number from 0 that is free, ``N=FILE`` the one that it says."""
    disks: dict[int, Path] = {}
    unnumbered: list[Path] = []
    for text in texts:
        number, equals, path = text.partition("=")
        if not (equals and number.isascii() and number.isdigit()):
            unnumbered.append(Path(text))
            continue
        lun = int(number) if len(number) < 9 else MOST_LUNS
        if lun >= MOST_LUNS:
            raise AdminError(f"There is no LUN {number}: LUNs go from 0 to {MOST_LUNS - 1}.")
        if lun in disks:
            raise AdminError(f"LUN {lun} is given to {disks[lun]} and to {path}; choose another one.")
        disks[lun] = Path(path)
    free = (lun for lun in range(MOST_LUNS) if lun not in disks)
    disks.update(zip(free, unnumbered, strict=False))
    return dict(sorted(disks.items()))


def serial_of(iqn: str, lun: int, path: Path) -> str:
    """The same whenever, and by whatever way, this file is seen as this LUN."""
    return f"{iqn}:{lun}:{path.resolve()}"


def _open(path: Path, writable: bool, opened: contextlib.ExitStack) -> BlockDevice:
    if path.exists() and writable and not os.access(path, os.W_OK):
        raise AdminError(f"{path} may not be written; --read-only offers it as it is.")
    if is_vmdk(path):
        return opened.enter_context(open_chain(path, writable))
    return opened.enter_context(RawDisk(path, writable))


async def _serve(node: IscsiTarget, portals: Sequence[tuple[str, int]]) -> int:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    server = IscsiServer(node)
    made = [await server.start(host, port, group) for group, (host, port) in enumerate(portals, 1)]
    before = {
        number: signal.signal(number, lambda *_: loop.call_soon_threadsafe(stopped.set))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        luns = ", ".join(map(str, node.scsi.units))
        print(f"{node.name} listens at {' and '.join(p.address for p in made)}, LUN {luns}", flush=True)
        await stopped.wait()
        await server.stop()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0
