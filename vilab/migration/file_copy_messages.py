"""What the agents of two hosts say to each other while a machine's folder goes from one to the other.

::

    source                                                    destination
    CopyOffer      the configuration is the body     ──>      compared with what is here; folder made, and locked
                                                     <──      CopyAccepted, or CopyGaveUp(why)
    FileData ...   extents of one file               ──>      written; zeros are not sent
    FileEnd        its digest                        ──>      synced, read again
                                                     <──      FileTaken: the digest of what was read
    (the source reads its files once more: nobody has changed them)
    CopyEnd        every digest was the same         ──>      folder synced, ``web.vmx.moving`` says that it is whole
                                                     <──      CopyWhole
    (the source writes ``web.vmx.leaving``)
    CopyCommit                                       ──>      web.vmx.moving becomes web.vmx
                                                     <──      CopyDecided: "moved"
    (the source removes its folder)
    CopySettled                                      ──>      the number is forgotten, the folder free
                                                     <──      CopySettled
    CopyGaveUp     either, before ``CopyCommit``: what has come is removed
    CopyBusy       either, now and then: it is still reading

    CopyDecide     on another connection: where is it, of that number?
                                                     <──      CopyDecided: "moved", "withdrawn", "claimed", "unknown"

A message with another number than the copy's is refused. MODEL: VirtualCenter copies folders between hosts by NFC,
whose messages are not published; nothing is compressed here.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from vilab.migration.descriptions import HostDescription

Size = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
Number = Annotated[str, msgspec.Meta(pattern="^[0-9A-Za-z]{0,64}$")]
Decision = Literal["moved", "withdrawn", "claimed", "unknown"]

BUSY_NS = 1_000_000_000
"""Who is reading says so that often."""
PIECE_BYTES = 64 << 10
"""Extents begin at multiples of it, and end there or at the end of the file."""
MOST_FILES = 4096


class CopyMessage(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """``number``: of this copy; random. Empty where it is not known yet."""

    number: Number


class FileOffered(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``size_bytes``: where it ends; ``data_bytes``: about so much of it is no hole. ``thick``: its space is taken in
    advance, as it was."""

    name: str
    size_bytes: Size
    data_bytes: Size
    thick: bool = False


class CopyOffer(CopyMessage, frozen=True, tag=True):
    """``home``: the configuration at the source; ``where``: what it is to be at the destination. ``clone_name``: the
    new machine's, if the old one stays; empty for a move. ``source``: the host."""

    home: str
    where: str
    source: HostDescription
    files: tuple[FileOffered, ...]
    clone_name: str = ""


class CopyAccepted(CopyMessage, frozen=True, tag=True):
    """There is room, and a folder."""


class FileData(CopyMessage, frozen=True, tag=True):
    """``file``: its place in the offer. ``extents``: (offset, bytes) of what the body is, in order."""

    file: int
    extents: tuple[tuple[Size, Size], ...]


class FileEnd(CopyMessage, frozen=True, tag=True):
    """All of it was sent. ``digest``: see ``file_copy_pieces``."""

    file: int
    digest: bytes


class FileTaken(CopyMessage, frozen=True, tag=True):
    """``digest``: of what is on the destination's disk."""

    file: int
    digest: bytes


class CopyEnd(CopyMessage, frozen=True, tag=True):
    pass


class CopyWhole(CopyMessage, frozen=True, tag=True):
    """It would outlast a power cut."""


class CopyCommit(CopyMessage, frozen=True, tag=True):
    pass


class CopyDecided(CopyMessage, frozen=True, tag=True):
    """``decision``: "moved": the machine is at the destination. "withdrawn": it is not, and will not be. "claimed": a
    person has said that it is at the destination. "unknown": nothing there says; ``why``: a sentence."""

    decision: Decision
    why: str = ""


class CopySettled(CopyMessage, frozen=True, tag=True):
    """The source has done what was decided. ``where``: as in the offer."""

    where: str


class CopyBusy(CopyMessage, frozen=True, tag=True):
    """There is nothing to say yet, but somebody."""


class CopyGaveUp(CopyMessage, frozen=True, tag=True):
    """``why``: a sentence."""

    why: str


class CopyDecide(CopyMessage, frozen=True, tag=True):
    """``finish``: if it is there as a whole and nothing was decided yet, it has moved; otherwise, it has not.
    ``withdraw``: a person has said that it is at the source: also where it had moved, if it does not run."""

    home: str
    where: str
    finish: bool
    withdraw: bool = False


FileCopyMessage = (
    CopyOffer | CopyAccepted | FileData | FileEnd | FileTaken | CopyEnd | CopyWhole | CopyCommit | CopyDecided
    | CopySettled | CopyBusy | CopyGaveUp | CopyDecide
)  # fmt: skip
