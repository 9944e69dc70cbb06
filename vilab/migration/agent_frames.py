"""The agent protocol between hosts: what is on the wire. Layout only; ``agent_session`` says who sends what, and when.

::

    initiator                                          responder
        │ ── hello ─────────────────────────────────────> │   nonce, name, datacenter, versions
        │ <───────────────────────────────── welcome ──── │   the same, the version chosen, its proof
        │ ── proof ─────────────────────────────────────> │   both know the secret, and each other's nonce
        │ <═══ frames, keyed for this session and this direction, numbered from 0 ═══> │

All numbers are big-endian. *Handshake*: this layout is the same in every version, so that any two can say why not.

====== ==== ==================================================================================================
offset size
====== ==== ==================================================================================================
0      8    ``vilabagt``
8      1    kind: 1 hello, 2 welcome, 3 proof, 4 refusal
9      1    oldest version that the sender speaks
10     1    newest
11     1    version chosen by a welcome; 0 elsewhere
12     2    size of what follows: at most 768
14          hello: nonce 32, name (size 1, UTF-8), datacenter (size 1, UTF-8); welcome: the same, then proof 32;
            proof: proof 32; refusal: a sentence, UTF-8
====== ==== ==================================================================================================

*Frame*, version 2, after the handshake. The body stands first: it is received where it stays.

====== ==== ==================================================================================================
offset size
====== ==== ==================================================================================================
0      8    sequence number: 0, 1, 2, ... in each direction
8      2    kind: 1 message, 2 refusal (the message is a sentence, UTF-8, and the last thing said)
10     2    0
12     4    size of the message, at most 4 MiB
16     4    size of the body, at most 16 MiB
20     12   header tag: HMAC-SHA256 of the 20 bytes before, its first 12. Checked before any size is believed
32          body: bytes, often pages
..          message: MessagePack
..     16   frame tag: HMAC-SHA256 of header, message and the hashes of the body; its first 16
====== ==== ==================================================================================================

The hashes of the body: XXH3 of 128 bits of every 4096 bytes of it, the last piece as long as it is, seeded from the
session's key. They are never sent. (Version 1 had one hash of the whole body.)

MODEL: XXH3 finds every accident and any change by somebody who does not know the seed and has not studied the function;
it is no cryptographic code. Nothing is encrypted either. Between machines, TLS (``agent_tcp``) does both.
"""

from __future__ import annotations

import struct
from enum import IntEnum

import msgspec

from vilab.protocols import ReadableBytes

MAGIC = b"vilabagt"
OLDEST_VERSION = NEWEST_VERSION = 2
NONCE_BYTES = PROOF_BYTES = 32
HANDSHAKE = struct.Struct(">8sBBBBH")
HANDSHAKE_BYTES = HANDSHAKE.size
MAX_HANDSHAKE_BYTES = 768
"""After its header: a welcome with two names of 255 bytes fits."""

HEADER = struct.Struct(">QHHII")
HEADER_TAG_BYTES = 12
HEADER_BYTES = HEADER.size + HEADER_TAG_BYTES
FRAME_TAG_BYTES = 16
MAX_MESSAGE_BYTES = 4 << 20
MAX_BODY_BYTES = 16 << 20


class Handshake(IntEnum):
    HELLO = 1
    WELCOME = 2
    PROOF = 3
    REFUSAL = 4


class Kind(IntEnum):
    MESSAGE = 1
    REFUSAL = 2


class FrameError(Exception):
    """These bytes are not what they should be. A clause for a sentence; never leaves a session."""


class HandshakeHeader(msgspec.Struct, frozen=True):
    kind: Handshake
    oldest: int
    newest: int
    chosen: int
    size_bytes: int


class Greeting(msgspec.Struct, frozen=True):
    """A hello, or a welcome without its proof."""

    nonce: bytes
    name: str
    datacenter: str


class FrameHeader(msgspec.Struct, frozen=True):
    sequence: int
    kind: int
    message_bytes: int
    body_bytes: int

    @property
    def rest_bytes(self) -> int:
        """What follows the header."""
        return self.body_bytes + self.message_bytes + FRAME_TAG_BYTES


def foreign(start: ReadableBytes) -> str:
    """What speaks like that, if it is not this protocol; empty if it may be. As many bytes as have come."""
    seen = bytes(start[: len(MAGIC)])
    if MAGIC.startswith(seen):
        return ""
    if seen.startswith(b"\x16\x03"):
        return "speaks TLS where none is expected"
    if seen.startswith((b"GET ", b"HEAD ", b"POST ", b"PUT ", b"OPTIONS ", b"CONNECT ", b"HTTP/", b"PRI * HT")):
        return "speaks HTTP"
    if seen.startswith(b"SSH-"):
        return "speaks SSH"
    return f"does not speak the agent protocol of vilab (it begins with {seen.hex(' ')})"


def encode_handshake(kind: Handshake, payload: bytes, versions: tuple[int, int], chosen: int = 0) -> bytes:
    return HANDSHAKE.pack(MAGIC, kind, *versions, chosen, len(payload)) + payload


def decode_handshake(start: ReadableBytes) -> HandshakeHeader:
    """From the first ``HANDSHAKE_BYTES``. Raises ``FrameError``."""
    magic, kind, oldest, newest, chosen, size_bytes = HANDSHAKE.unpack_from(start)
    if magic != MAGIC:
        raise FrameError(foreign(start))
    if kind not in Handshake.__members__.values():
        raise FrameError(f"says something unknown in the handshake (kind {kind})")
    if size_bytes > MAX_HANDSHAKE_BYTES:
        raise FrameError(f"announces {size_bytes} bytes in the handshake, where {MAX_HANDSHAKE_BYTES} are the most")
    return HandshakeHeader(Handshake(kind), oldest, newest, chosen, size_bytes)


def encode_greeting(greeting: Greeting) -> bytes:
    name, datacenter = greeting.name.encode(), greeting.datacenter.encode()
    return greeting.nonce + bytes([len(name)]) + name + bytes([len(datacenter)]) + datacenter


def decode_greeting(payload: bytes) -> tuple[Greeting, bytes]:
    """The greeting, and what stands behind it. Raises ``FrameError``."""
    nonce, rest = payload[:NONCE_BYTES], payload[NONCE_BYTES:]
    texts = []
    for _ in range(2):
        size = rest[0] if rest else 0
        text, rest = rest[1 : 1 + size], rest[1 + size :]
        if not size or len(text) < size:
            raise FrameError("sends a greeting that is too short")
        texts.append(text)
    try:
        name, datacenter = (text.decode() for text in texts)
    except UnicodeDecodeError:
        raise FrameError("sends a name that is no text") from None
    if not (name.isprintable() and datacenter.isprintable()):
        raise FrameError("sends a name that cannot be printed")
    return Greeting(nonce, name, datacenter), rest


def encode_header(header: FrameHeader) -> bytes:
    """Without its tag."""
    return HEADER.pack(header.sequence, header.kind, 0, header.message_bytes, header.body_bytes)


def decode_header(start: ReadableBytes) -> FrameHeader:
    """From bytes whose tag is right. Raises ``FrameError`` for what no honest peer of this version says."""
    sequence, kind, zero, message_bytes, body_bytes = HEADER.unpack_from(start)
    if kind not in Kind.__members__.values() or zero:
        raise FrameError(f"sends a frame of an unknown kind ({kind})")
    if message_bytes > MAX_MESSAGE_BYTES:
        raise FrameError(f"announces a message of {message_bytes} bytes, where {MAX_MESSAGE_BYTES} are the most")
    if body_bytes > MAX_BODY_BYTES:
        raise FrameError(f"announces a body of {body_bytes} bytes, where {MAX_BODY_BYTES} are the most")
    return FrameHeader(sequence, kind, message_bytes, body_bytes)
