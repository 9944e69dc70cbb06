"""A disk in memory of which only what is not zero takes room: a LUN of many megabytes for lessons and tests.

::

    page 0   page 1   page 2   page 3 ...          4 KiB each
    | data | hole   | hole   | data | ...          a page that becomes all zeros is a hole again
"""

from __future__ import annotations

from pathlib import Path

from vilab.errors import AdminError
from vilab.protocols import ReadableBytes
from vilab.storage.block import SECTOR_BYTES, check_range
from vilab.storage.geometry import ShapedBySize

PAGE_BYTES = 4096
_HOLE = bytes(PAGE_BYTES)


class PagedDisk(ShapedBySize):
    """A block device. Copies share what neither has changed."""

    sector_bytes = SECTOR_BYTES
    read_only = False

    def __init__(self, size_bytes: int, pages: dict[int, bytes] | None = None) -> None:
        if size_bytes % PAGE_BYTES:
            raise AdminError(f"A disk in memory consists of whole pages of {PAGE_BYTES} bytes; {size_bytes} are none.")
        self.size_bytes = size_bytes
        self.pages = {} if pages is None else pages

    def copy(self) -> PagedDisk:
        return PagedDisk(self.size_bytes, dict(self.pages))

    def read(self, offset_bytes: int, size_bytes: int) -> bytes:
        check_range(self, offset_bytes, size_bytes)
        if not size_bytes:
            return b""
        first, last = offset_bytes // PAGE_BYTES, (offset_bytes + size_bytes - 1) // PAGE_BYTES
        data = b"".join(self.pages.get(page, _HOLE) for page in range(first, last + 1))
        return data[offset_bytes - first * PAGE_BYTES :][:size_bytes]

    def write(self, offset_bytes: int, data: ReadableBytes) -> None:
        content = memoryview(bytes(data))
        check_range(self, offset_bytes, content.nbytes)
        while content.nbytes:
            page, inside = divmod(offset_bytes, PAGE_BYTES)
            some = min(PAGE_BYTES - inside, content.nbytes)
            self._put(page, inside, content[:some])
            offset_bytes, content = offset_bytes + some, content[some:]

    def _put(self, page: int, inside: int, part: memoryview) -> None:
        if part.nbytes == PAGE_BYTES:
            new = bytes(part)
        else:
            old = self.pages.get(page, _HOLE)
            new = old[:inside] + bytes(part) + old[inside + part.nbytes :]
        if new != _HOLE:
            self.pages[page] = new
        else:
            self.pages.pop(page, None)

    def unmap(self, offset_bytes: int, size_bytes: int) -> None:
        check_range(self, offset_bytes, size_bytes)
        first, last = -(-offset_bytes // PAGE_BYTES), (offset_bytes + size_bytes) // PAGE_BYTES
        if first >= last:
            self.write(offset_bytes, bytes(size_bytes))
            return
        self.write(offset_bytes, bytes(first * PAGE_BYTES - offset_bytes))
        for page in range(first, last):
            self.pages.pop(page, None)
        self.write(last * PAGE_BYTES, bytes(offset_bytes + size_bytes - last * PAGE_BYTES))

    def flush(self) -> None:
        pass

    def save(self, image: Path) -> Path:
        """As an image file with holes."""
        with image.open("wb") as file:
            for page, data in sorted(self.pages.items()):
                file.seek(page * PAGE_BYTES)
                file.write(data)
            file.truncate(self.size_bytes)
        return image
