"""Block devices: what one may be asked, how it refuses, and the simplest one.

::

    offset_bytes ──┐
    | sector 0 | sector 1 | sector 2 | ...           | size_bytes
               └── size_bytes of a request ──┘         all of them multiples of sector_bytes

The Protocol itself is ``vilab.protocols.BlockDevice``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from vilab.errors import AdminError, VmmBug
from vilab.protocols import BlockDevice, ReadableBytes
from vilab.storage.geometry import ShapedBySize

SECTOR_BYTES = 512

Refusal = Literal["medium", "no_space", "read_only", "away"]


class BlockError(AdminError):
    """A disk could not do what it was asked; nothing of the request may be relied upon.

    ``kind``: ``medium`` (a file is damaged, gone or unreadable), ``no_space`` (it cannot grow), ``read_only``,
    ``away`` (a server or path is not to be reached now: try again).
    """

    def __init__(self, kind: Refusal, sentence: str) -> None:
        self.kind: Refusal = kind
        super().__init__(sentence)


class ReservationConflict(BlockError):
    """Another initiator has reserved the disk; the command did nothing and can be repeated."""

    def __init__(self, sentence: str = "The LUN is reserved by another host.") -> None:
        super().__init__("medium", sentence)


class ReservationLost(BlockError):
    """This host's reservation has ended (a reset, a lost session) in the middle of what was done under it."""

    def __init__(self, sentence: str) -> None:
        super().__init__("medium", sentence)


def check_range(device: BlockDevice, offset_bytes: int, size_bytes: int) -> None:
    """``VmmBug`` unless the range is whole sectors of the disk: whoever drives a disk has to check that before."""
    if (offset_bytes | size_bytes) % device.sector_bytes:
        raise VmmBug(f"{size_bytes} bytes at {offset_bytes} are not whole sectors of {device.sector_bytes} bytes.")
    if offset_bytes < 0 or size_bytes < 0 or offset_bytes + size_bytes > device.size_bytes:
        raise VmmBug(f"{size_bytes} bytes at {offset_bytes} leave a disk of {device.size_bytes} bytes.")


ZEROS = bytes(1 << 20)


def write_zeros(write: Callable[[int, bytes], None], offset_bytes: int, size_bytes: int) -> None:
    """Zeros through ``write(offset_bytes, data)``, a megabyte at a time."""
    while size_bytes:
        some = min(size_bytes, len(ZEROS))
        write(offset_bytes, ZEROS[:some])
        offset_bytes, size_bytes = offset_bytes + some, size_bytes - some


class MemoryDisk(ShapedBySize):
    """A disk in memory, for tests and lessons."""

    sector_bytes = SECTOR_BYTES

    def __init__(self, content: ReadableBytes | int, read_only: bool = False) -> None:
        """``content``: the bytes, or how many zero bytes."""
        self.content = bytearray(content)
        self.read_only = read_only
        if len(self.content) % SECTOR_BYTES:
            raise AdminError(f"A disk consists of whole sectors; {len(self.content)} bytes are none.")

    @property
    def size_bytes(self) -> int:
        return len(self.content)

    def read(self, offset_bytes: int, size_bytes: int) -> bytes:
        check_range(self, offset_bytes, size_bytes)
        return bytes(self.content[offset_bytes : offset_bytes + size_bytes])

    def write(self, offset_bytes: int, data: ReadableBytes) -> None:
        size = memoryview(data).nbytes
        check_range(self, offset_bytes, size)
        if self.read_only:
            raise BlockError("read_only", "This disk in memory is read-only.")
        self.content[offset_bytes : offset_bytes + size] = data

    def flush(self) -> None:
        pass

    def unmap(self, offset_bytes: int, size_bytes: int) -> None:
        self.write(offset_bytes, bytes(size_bytes))
