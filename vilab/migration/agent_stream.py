"""Frames of an established session: each direction has its keys and counts.

::

    FrameSender.frame(kind, message, body) ──> [header, part, part, ..., message and tag]
    Intake ──> FrameReceiver.next() ──> kind, message, body       its header is checked first, the whole at the end

Nobody sees anything of a frame before its tag was found right.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence

import msgspec

from vilab.addresses import PAGE_BYTES
from vilab.migration import agent_frames as wire
from vilab.migration.agent_frames import FrameError
from vilab.migration.agent_intake import Intake
from vilab.migration.agent_keys import DirectionKeys
from vilab.migration.page_hashes import hashes_of
from vilab.protocols import ReadableBytes

SMALL_BYTES = 2048
"""A body whose parts are shorter than this on average is copied: it costs less than to hand them on."""


def gathered(body: Sequence[ReadableBytes]) -> tuple[list[ReadableBytes], int]:
    """The same bytes in parts that are worth it, and how many they are."""
    views = [memoryview(part) for part in body]
    size = sum([view.nbytes for view in views])
    if len(views) > 1 and size < SMALL_BYTES * len(views):
        return ([b"".join(views)] if size else []), size
    return [part for part, view in zip(body, views, strict=True) if view.nbytes], size


class FrameSender:
    """``number`` of the next frame."""

    def __init__(self, keys: DirectionKeys) -> None:
        self.keys = keys
        self.number = 0

    def frame(
        self, kind: wire.Kind, message: bytes, parts: Sequence[ReadableBytes] = (), body_bytes: int = 0,
        hashes: bytes = b"",
    ) -> list[ReadableBytes]:  # fmt: skip
        """``parts``, ``body_bytes``: as from ``gathered``. ``hashes``: of that body, ``hashes_of_body``."""
        head = wire.encode_header(wire.FrameHeader(self.number, kind, len(message), body_bytes))
        head += self.keys.header_tag(head)
        tail = message + self.keys.frame_tag(head, message, hashes)
        self.number += 1
        return [head, *parts, tail] if parts else [head + tail]


class Frame(msgspec.Struct):
    kind: int
    message: memoryview
    body: memoryview
    hashes: bytes


class FrameReceiver:
    """``number`` of the next frame.

    Parameters
    ----------
    sent_with : the keys of the other direction, to know a mirror by.
    mirrored : what to say to one.
    """

    def __init__(self, keys: DirectionKeys, intake: Intake, sent_with: DirectionKeys, mirrored: FrameError) -> None:
        self.keys = keys
        self.number = 0
        self._intake, self._sent_with, self._mirrored = intake, sent_with, mirrored
        self._head: bytes | None = None
        self._header: wire.FrameHeader
        self._hashes: list[bytes] = []
        self._hashed_bytes = 0

    @property
    def between_frames(self) -> bool:
        return self._head is None and not self._intake.held_bytes

    @property
    def at_the_first(self) -> bool:
        """Not even the header of the first frame has come."""
        return self.number == 0 and self._head is None

    def next(self) -> Frame | None:
        """``None``: it has not all come yet. Raises ``FrameError``."""
        if self._head is None:
            head = self._intake.take(wire.HEADER_BYTES)
            if head is None:
                return None
            self._header = self._checked(bytes(head))
            self._head = bytes(head)
            self._hashes, self._hashed_bytes = [], 0
        header = self._header
        rest = self._intake.take(header.rest_bytes)
        # A body is hashed as it comes: it is in the processor's cache then.
        fresh = (self._intake.partial() if rest is None else rest)[self._hashed_bytes : header.body_bytes]
        if rest is None:
            fresh = fresh[: len(fresh) & -PAGE_BYTES]
        self._hashes.append(hashes_of((fresh,), self.keys.body_seed))
        self._hashed_bytes += len(fresh)
        if rest is None:
            return None
        end = header.body_bytes + header.message_bytes
        message = rest[header.body_bytes : end]
        hashes = b"".join(self._hashes)
        tag = self.keys.frame_tag(self._head, message, hashes)
        if not hmac.compare_digest(tag, rest[end:]):
            raise FrameError(f"sends frame {header.sequence} with a wrong checksum: it was changed on its way")
        self._head = None
        self.number += 1
        return Frame(header.kind, message, rest[: header.body_bytes], hashes)

    def _checked(self, head: bytes) -> wire.FrameHeader:
        fields, tag = head[: wire.HEADER.size], head[wire.HEADER.size :]
        if not hmac.compare_digest(self.keys.header_tag(fields), tag):
            if hmac.compare_digest(self._sent_with.header_tag(fields), tag):
                raise self._mirrored
            raise FrameError("sends a frame that does not belong to this session, or was changed on its way")
        header = wire.decode_header(fields)
        if header.sequence != self.number:
            raise FrameError(
                f"sends frame {header.sequence} where {self.number} is due: frames were lost, repeated or reordered"
            )
        return header
