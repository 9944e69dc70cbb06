"""Mounting: from ``nfs://server/export`` to a client.

::

    nfs://10.0.0.7/vol/vms?nfsport=2049&mountport=635
          │        │       └── left out: the server's port mapper is asked (port 111)
          │        └── the export, as the server's MOUNT service knows it
          └── name or address

Source: RFC 1813, appendix I (MOUNT 3); RFC 1833, section 3 (port mapper 2); the form of the URL is that of libnfs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from vilab.errors import AdminError
from vilab.storage.nfs.client import NfsClient
from vilab.storage.nfs.errors import NfsError
from vilab.storage.nfs.layout import (
    EXPORT,
    GETPORT,
    MNT,
    MOST_HANDLE_BYTES,
    MOUNT,
    MOUNT_STATUS,
    MOUNT_VERSION,
    NFS,
    NFS_PORT,
    NFS_VERSION,
    PORTMAP,
    PORTMAP_PORT,
    PORTMAP_VERSION,
    TCP,
)
from vilab.storage.nfs.link import Call, Connection, Dial, TcpLink
from vilab.storage.nfs.rpc import auth_sys
from vilab.storage.nfs.xdr import string, u32

MOST_EXPORTS = 4096

DialPort = Callable[[int], Dial]
"""port -> how to get a stream to it."""


class Address(msgspec.Struct, frozen=True):
    """Where an export is. A port of ``None`` is asked for."""

    server: str
    export: str
    nfs_port: int | None = None
    mount_port: int | None = None


def parse_url(url: str) -> Address:
    """``AdminError`` for anything but the form above."""
    try:
        parts = urlsplit(url)
        asked = parse_qs(parts.query, strict_parsing=bool(parts.query))
        ports = {key: int(values[-1]) for key, values in asked.items() if key in ("nfsport", "mountport")}
        if parts.port is not None:
            ports.setdefault("nfsport", parts.port)
    except ValueError as error:
        raise AdminError(f"{url!r} is no address of an NFS export: {error}.") from None
    export = unquote(parts.path)
    if parts.scheme != "nfs" or not parts.hostname or not export.startswith("/"):
        raise AdminError(f"{url!r} is no address of an NFS export; nfs://server/export is one.")
    for name, port in ports.items():
        if not 0 < port < 65536:
            raise AdminError(f"{url!r} is no address of an NFS export: there is no port {port} ({name}).")
    return Address(parts.hostname, export, ports.get("nfsport"), ports.get("mountport"))


def tcp(server: str, reserved: bool = False) -> DialPort:
    """Streams to a server over TCP."""
    return lambda port: partial(_dial, server, port, reserved)


def _dial(server: str, port: int, reserved: bool, timeout_s: float) -> TcpLink:
    return TcpLink(server, port, timeout_s, reserved)


def mount(
    address: Address, dial: DialPort | None = None, credential: bytes | None = None, timeout_s: float = 5.0
) -> NfsClient:
    """Mount an export.

    Raises
    ------
    NfsError : the server is away, refuses, or has no such export.
    """
    dial = tcp(address.server) if dial is None else dial
    credential = auth_sys() if credential is None else credential
    nfs_port = address.nfs_port or _port(dial, NFS, NFS_VERSION, credential, address.server, timeout_s) or NFS_PORT
    mount_port = address.mount_port or _port(dial, MOUNT, MOUNT_VERSION, credential, address.server, timeout_s)
    if not mount_port:
        raise NfsError("refused", f"The server {address.server} has no MOUNT service over TCP.")
    asked = Connection(dial(mount_port), credential, f"The MOUNT service of {address.server}", timeout_s)
    try:
        call = Call(MNT, string(address.export), MOUNT, MOUNT_VERSION)
        reader = asked.exchange([call])[0]
    finally:
        asked.hang_up()
    status = reader.u32()
    if status:
        why = MOUNT_STATUS.get(status, f"status {status}")
        kind = "permission" if status in (1, 13) else "missing" if status == 2 else "refused"
        raise NfsError(kind, f"{address.export} of {address.server} was not mounted: {why}.")  # type: ignore[arg-type]
    root = reader.opaque(MOST_HANDLE_BYTES)
    client = NfsClient(Connection(dial(nfs_port), credential, f"The file server {address.server}", timeout_s), root)
    client.learn_sizes()
    return client


def exports(address: Address, dial: DialPort | None = None, timeout_s: float = 5.0) -> list[str]:
    """The folders that the server offers."""
    dial, credential = tcp(address.server) if dial is None else dial, auth_sys()
    port = address.mount_port or _port(dial, MOUNT, MOUNT_VERSION, credential, address.server, timeout_s)
    asked = Connection(dial(port), credential, f"The MOUNT service of {address.server}", timeout_s)
    try:
        reader = asked.exchange([Call(EXPORT, b"", MOUNT, MOUNT_VERSION)])[0]
    finally:
        asked.hang_up()
    found: list[str] = []
    while reader.flag() and len(found) < MOST_EXPORTS:
        found.append(reader.string())
        while reader.flag():
            reader.string()
    return found


def _port(dial: DialPort, program: int, version: int, credential: bytes, server: str, timeout_s: float) -> int:
    """What the port mapper says; 0 if the service is not there."""
    asked = Connection(dial(PORTMAP_PORT), credential, f"The port mapper of {server}", timeout_s)
    try:
        arguments = u32(program) + u32(version) + u32(TCP) + u32(0)
        return asked.exchange([Call(GETPORT, arguments, PORTMAP, PORTMAP_VERSION)])[0].u32()
    finally:
        asked.hang_up()
