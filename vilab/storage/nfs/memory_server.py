"""An NFSv3 server over a volume in memory: for lessons and tests that have no server, and for its bad days.

::

    bytes ──> records ──> call ──> procedure ──> volume ──> reply ──> bytes

    frozen     takes calls and answers none, until it thaws: then all of them, in their order
    stopped    every stream breaks, nobody listens
    restart    another write verifier; what was not committed may be gone

No socket: ``MemoryLink`` joins a client in the same process, ``serve`` answers whatever bytes came over TCP.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from vilab.storage.nfs import layout as nfs
from vilab.storage.nfs.errors import NfsError
from vilab.storage.nfs.link import Dial, Link, LinkLost, LinkSilent
from vilab.storage.nfs.rpc import CALL, REPLY, RPC_VERSION, Records, record
from vilab.storage.nfs.server_calls import FAILURE_TAIL, PROCEDURES, handle_of
from vilab.storage.nfs.volume import MemoryVolume, Refused
from vilab.storage.nfs.xdr import XdrReader, string, u32

SUCCESS, NO_PROGRAM, NO_PROCEDURE, GARBAGE = 0, 1, 3, 4


class MemoryServer:
    """One export, ``/export``.

    ``before`` is called with the number of the NFS procedure before each call is done; what it raises goes to whoever
    asked.
    """

    def __init__(self, volume: MemoryVolume | None = None, export: str = "/export") -> None:
        self.volume = MemoryVolume() if volume is None else volume
        self.export = export
        self.verifier = 1
        self.epoch = 1
        """Streams of an earlier one are broken."""
        self.running, self.frozen = True, False
        self.port = nfs.NFS_PORT
        self.before: Callable[[int], None] | None = None
        self.calls = 0

    def stop(self) -> None:
        self.running = False

    def restart(self, survives: Callable[[], bool] = lambda: False) -> int:
        """Start again; so many unstable writes were lost."""
        self.running, self.frozen = True, False
        self.verifier += 1
        self.epoch += 1
        return self.volume.lose_memory(survives)

    def dial(self, _port: int = 0) -> Dial:
        def run(_timeout_s: float) -> Link:
            if not self.running:
                raise LinkLost("Connection refused")
            return MemoryLink(self)

        return run

    # --- RPC ----------------------------------------------------------------------------------------------------------

    def answer(self, message: bytes) -> bytes:
        """The reply to one call, as a record; nothing to what is no call."""
        reader = XdrReader(message)
        try:
            xid, kind, version, program, _, procedure = (reader.u32() for _ in range(6))
            if kind != CALL or version != RPC_VERSION:
                return b""
            for _ in ("credential", "verifier"):
                reader.u32()
                reader.opaque(400)
        except NfsError:
            return b""
        try:
            status, body = self._dispatch(program, procedure, reader)
        except NfsError:
            status, body = GARBAGE, b""
        return record(struct.pack(">6I", xid, REPLY, 0, 0, 0, status) + body)

    def _dispatch(self, program: int, procedure: int, reader: XdrReader) -> tuple[int, bytes]:
        if procedure == nfs.NULL:
            return SUCCESS, b""
        if program == nfs.PORTMAP:
            return (SUCCESS, u32(self.port)) if procedure == nfs.GETPORT else (NO_PROCEDURE, b"")
        if program == nfs.MOUNT:
            return self._mount(procedure, reader)
        if program != nfs.NFS:
            return NO_PROGRAM, b""
        run = PROCEDURES.get(procedure)
        if run is None:
            return NO_PROCEDURE, b""
        self.calls += 1
        if self.before is not None:
            self.before(procedure)
        try:
            return SUCCESS, u32(0) + run(self.volume, self.verifier, reader)
        except Refused as refused:
            return SUCCESS, u32(refused.status) + FAILURE_TAIL.get(procedure, u32(0))

    def _mount(self, procedure: int, reader: XdrReader) -> tuple[int, bytes]:
        if procedure == nfs.EXPORT:
            return SUCCESS, u32(1) + string(self.export) + u32(0) + u32(0)
        if procedure == nfs.UMNT:
            return SUCCESS, b""
        if procedure != nfs.MNT:
            return NO_PROCEDURE, b""
        if reader.string() != self.export:
            return SUCCESS, u32(2)
        return SUCCESS, u32(0) + handle_of(MemoryVolume.ROOT) + u32(1) + u32(1)


class MemoryLink:
    """A stream to a server in the same process."""

    def __init__(self, server: MemoryServer) -> None:
        self.server = server
        self.epoch = server.epoch
        self._records = Records()
        self._held: list[bytes] = []
        self._out = bytearray()

    def _alive(self) -> None:
        if not self.server.running or self.server.epoch != self.epoch:
            raise LinkLost("Connection reset by peer")

    def send(self, data: bytes) -> None:
        self._alive()
        self._held += self._records.feed(data)

    def receive(self, timeout_s: float) -> bytes:
        self._alive()
        if self.server.frozen:
            raise LinkSilent
        held, self._held = self._held, []
        for message in held:
            self._out += self.server.answer(message)
            self._alive()
        if not self._out:
            raise LinkSilent
        out, self._out = bytes(self._out), bytearray()
        return out

    def close(self) -> None:
        """What was sent and not yet worked off is worked off: a server does not take calls back."""
        if self.server.running and self.server.epoch == self.epoch:
            for message in self._held:
                self.server.answer(message)
        self._held = []
