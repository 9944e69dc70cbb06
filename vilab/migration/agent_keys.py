"""Proofs and keys out of a datacenter's secret: who knows it can make them, who listens cannot.

::

    mac(key, label, data) = HMAC-SHA256(key, label | 0 byte | data)                                        RFC 2104

    root      = mac(secret, "vilab agent", datacenter)
    its proof = mac(root, "proof of the responder", hello | welcome without its proof)
    our proof = mac(root, "proof of the initiator", hello | welcome | header of the proof)
    session   = mac(root, "session", hello | welcome | proof)
    frame key = mac(session, "frames of the initiator", nothing)                   and others for what the responder
    body seed = mac(session, "bodies of the initiator", nothing), its first 8      sends, with its name in them

A proof covers all that was said before, both nonces and versions with it: one of another session, one of the other
role, or one about a conversation that was changed on its way is none.

There is no forward secrecy: with the secret, old recordings can be forged and checked (they were never encrypted).
"""

from __future__ import annotations

import hmac
from typing import Literal

import msgspec

from vilab.migration.agent_frames import FRAME_TAG_BYTES, HEADER_TAG_BYTES
from vilab.protocols import ReadableBytes

Role = Literal["initiator", "responder"]


def _mac(key: bytes, label: str, data: bytes = b"") -> bytes:
    return hmac.digest(key, label.encode() + b"\0" + data, "sha256")


def root_key(secret: bytes, datacenter: str) -> bytes:
    return _mac(secret, "vilab agent", datacenter.encode())


def proof(root: bytes, role: Role, transcript: bytes) -> bytes:
    """Of the one whose role it is, about everything that both have said so far."""
    return _mac(root, f"proof of the {role}", transcript)


class DirectionKeys(msgspec.Struct, frozen=True):
    """For all frames of one direction of one session."""

    frame: bytes
    body_seed: int

    def header_tag(self, header: bytes) -> bytes:
        return hmac.digest(self.frame, header, "sha256")[:HEADER_TAG_BYTES]

    def frame_tag(self, header: bytes, message: ReadableBytes, hashes: bytes) -> bytes:
        """``header`` with its tag. ``hashes``: of the body (``page_hashes``), empty if there is none."""
        return hmac.digest(self.frame, b"".join((header, message, hashes)), "sha256")[:FRAME_TAG_BYTES]


def direction_keys(root: bytes, transcript: bytes, sender: Role) -> DirectionKeys:
    session = _mac(root, "session", transcript)
    return DirectionKeys(
        _mac(session, f"frames of the {sender}"),
        int.from_bytes(_mac(session, f"bodies of the {sender}")[:8], "big"),
    )
