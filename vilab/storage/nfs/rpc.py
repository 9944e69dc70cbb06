"""ONC RPC version 2 over a stream: calls out, replies in, as a state machine over bytes.

A record is cut into fragments, each behind four bytes of which the top bit says "the last one"::

    | 1 | length:31 | xid | 0 CALL  | rpc 2 | program | version | procedure | credential | verifier | arguments ...
    | 1 | length:31 | xid | 1 REPLY | 0 accepted | verifier | 0 success                            | results ...
                                    |            |          | 1..5: program, version, procedure, arguments, server
                                    | 1 denied   | 0 rpc version, 1 credential

Replies come in any order; the xid says whose they are. Source: RFC 5531.
"""

from __future__ import annotations

import struct

from vilab.storage.nfs.errors import NfsError
from vilab.storage.nfs.xdr import XdrReader, opaque, string, u32

CALL, REPLY = 0, 1
RPC_VERSION = 2
AUTH_NONE, AUTH_SYS = 0, 1
LAST_FRAGMENT = 1 << 31
MOST_RECORD_BYTES = (1 << 20) + 4096
"""A megabyte of data and what belongs around it: nothing that is asked for here is longer."""
MOST_FRAGMENTS = 1024

REFUSED = {
    1: "it does not offer this service",
    2: "it does not speak this version",
    3: "it does not know this procedure",
    4: "it could not read the arguments",
    5: "it has a fault of its own",
}
AUTH_REFUSED = {1: "bad credential", 2: "credential rejected", 5: "credential too weak", 7: "not this kind of one"}


def auth_sys(machine: str = "vilab", uid: int = 0, gid: int = 0) -> bytes:
    """A credential as ESX sends it: numbers that the server believes. Source: RFC 5531, appendix A."""
    body = b"".join((u32(0), string(machine), u32(uid), u32(gid), u32(1), u32(gid)))
    return u32(AUTH_SYS) + opaque(body)


NO_AUTH = u32(AUTH_NONE) + u32(0)


def record(message: bytes) -> bytes:
    """One message as one fragment."""
    return struct.pack(">I", LAST_FRAGMENT | len(message)) + message


class Records:
    """Cuts a stream into messages again."""

    def __init__(self, most_bytes: int = MOST_RECORD_BYTES) -> None:
        self.most_bytes = most_bytes
        self._stream = bytearray()
        self._message = bytearray()
        self._fragments = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that are complete now. ``NfsError`` if the stream is none of records."""
        self._stream += data
        done = []
        while len(self._stream) >= 4:
            head = int.from_bytes(self._stream[:4], "big")
            size = head & (LAST_FRAGMENT - 1)
            self._fragments += 1
            if len(self._message) + size > self.most_bytes or self._fragments > MOST_FRAGMENTS:
                raise NfsError(
                    "protocol",
                    f"What answers is no file server: it announces a message of {len(self._message) + size} bytes in "
                    f"{self._fragments} fragments.",
                )
            if len(self._stream) < 4 + size:
                self._fragments -= 1
                break
            self._message += self._stream[4 : 4 + size]
            del self._stream[: 4 + size]
            if head & LAST_FRAGMENT:
                done.append(bytes(self._message))
                self._message.clear()
                self._fragments = 0
        return done


class RpcClient:
    """One connection's end: numbers the calls, sorts the replies. No socket, no clock."""

    def __init__(self, credential: bytes, first_xid: int = 1) -> None:
        self.credential = credential
        self._xid = first_xid & 0xFFFF_FFFF
        self.begin_connection()

    def begin_connection(self) -> None:
        """A new stream: half a message of the old one is worth nothing."""
        self._records = Records()
        self._waiting: set[int] = set()
        self._replies: dict[int, bytes] = {}

    def call(self, program: int, version: int, procedure: int, arguments: bytes) -> tuple[int, bytes]:
        """(xid, what to send)"""
        xid = self._xid
        self._xid = (xid + 1) & 0xFFFF_FFFF
        self._waiting.add(xid)
        head = struct.pack(">6I", xid, CALL, RPC_VERSION, program, version, procedure)
        return xid, record(head + self.credential + NO_AUTH + arguments)

    def receive(self, data: bytes) -> None:
        """Bytes from the server. Answers to what nobody waits for any more are dropped."""
        for message in self._records.feed(data):
            if len(message) < 8:
                raise NfsError("protocol", f"What answers is no file server: a message of {len(message)} bytes.")
            xid = int.from_bytes(message[:4], "big")
            if xid in self._waiting:
                self._waiting.discard(xid)
                self._replies[xid] = message

    def answered(self, xid: int) -> bool:
        return xid in self._replies

    def forget(self, xid: int) -> None:
        self._waiting.discard(xid)
        self._replies.pop(xid, None)

    def result(self, xid: int) -> XdrReader:
        """The results of a call that has been answered. ``NfsError``: the RPC layer of the server refused it."""
        return open_reply(self._replies.pop(xid))


def open_reply(message: bytes) -> XdrReader:
    """Behind the reply's header."""
    reader = XdrReader(message)
    reader.u32()
    if reader.u32() != REPLY:
        raise NfsError("protocol", "What answers is no file server: it sends a call where a reply is due.")
    if reader.u32():
        why = "another version of RPC"
        if reader.u32():
            why = AUTH_REFUSED.get(reader.u32(), "the credential")
        raise NfsError("permission", f"The file server does not accept calls from here: {why}.")
    reader.u32()
    reader.opaque(400)
    status = reader.u32()
    if status:
        raise NfsError("protocol", f"The file server refuses the call: {REFUSED.get(status, f'status {status}')}.")
    return reader
