"""Resource files: what can be allocated, and the bitmaps that say what is free.

::

    .sbc.sf   | header | area 0: 32 entries of 1 KiB | their items ...          | area 1 ...
                          │
                          └ entry 5: lock | id 5, total 16, free 3 | bitmap  ── items 80 to 95, 1 = free

    number n:  entry = n div per_entry,  item = n mod per_entry;  its data follows the entries of its area

File blocks have no data in ``.fbb.sf``: number n is the n-th block of the volume.
"""

from __future__ import annotations

from collections.abc import Sequence

from vilab.storage.vmfs import layout as on_disk
from vilab.storage.vmfs.block_id import FILE_BLOCK, INODE, KIND_NAMES, POINTER_BLOCK, SUB_BLOCK
from vilab.storage.vmfs.errors import VmfsDamage
from vilab.storage.vmfs.layout import ResourceHeader
from vilab.storage.vmfs.volume import Readable

FILE_NAMES = {FILE_BLOCK: ".fbb.sf", SUB_BLOCK: ".sbc.sf", POINTER_BLOCK: ".pbc.sf", INODE: ".fdc.sf"}
MAGICS = {
    FILE_BLOCK: on_disk.FBB_MAGIC,
    SUB_BLOCK: on_disk.SBC_MAGIC,
    POINTER_BLOCK: on_disk.PBC_MAGIC,
    INODE: on_disk.FDC_MAGIC,
}
_ITEM_BYTES = {FILE_BLOCK: 0, SUB_BLOCK: on_disk.SUB_BLOCK_BYTES, POINTER_BLOCK: 4096, INODE: on_disk.INODE_BYTES}
_MOST_PER_ENTRY = {FILE_BLOCK: on_disk.BITMAP_BYTES * 8, SUB_BLOCK: 16, POINTER_BLOCK: 16, INODE: 1024}
_MOST_PER_AREA = 1024


class Resource:
    """One resource file, where its blocks are known.

    Parameters
    ----------
    blocks : the file blocks that the file consists of, in order.
    """

    def __init__(self, kind: int, read: Readable, blocks: Sequence[int], block_bytes: int, most_items: int) -> None:
        self.kind, self.blocks, self.block_bytes = kind, blocks, block_bytes
        self.name, self.magic = FILE_NAMES[kind], MAGICS[kind]
        self.header = ResourceHeader.decode(read.read(self.pieces(0, on_disk.SECTOR)[0][0], on_disk.SECTOR))
        header = self.header
        area = header.per_area * (on_disk.ENTRY_BYTES + header.per_entry * header.item_bytes)
        sound = (
            header.item_bytes == _ITEM_BYTES[kind]
            and 0 < header.per_entry <= _MOST_PER_ENTRY[kind]
            and 0 < header.per_area <= _MOST_PER_AREA
            and header.area_bytes == area
            and header.header_bytes % on_disk.ENTRY_BYTES == 0
            and 0 < header.header_bytes <= block_bytes
            and header.items <= min(most_items, header.areas * header.per_area * header.per_entry)
        )
        if not sound:
            raise VmfsDamage(f"The volume is damaged: the header of {self.name} contradicts itself.")

    @property
    def entries(self) -> int:
        return -(-self.header.items // self.header.per_entry)

    def pieces(self, offset_bytes: int, size_bytes: int) -> list[tuple[int, int]]:
        """(logical position, size) of a range of the resource file."""
        found: list[tuple[int, int]] = []
        while size_bytes:
            index, inside = divmod(offset_bytes, self.block_bytes)
            if index >= len(self.blocks):
                raise VmfsDamage(f"The volume is damaged: {self.name} is shorter than its header says.")
            some = min(size_bytes, self.block_bytes - inside)
            pos = self.blocks[index] * self.block_bytes + inside
            if found and sum(found[-1]) == pos:
                found[-1] = found[-1][0], found[-1][1] + some
            else:
                found.append((pos, some))
            offset_bytes, size_bytes = offset_bytes + some, size_bytes - some
        return found

    def entry_offset(self, entry: int) -> int:
        area, inside = divmod(entry, self.header.per_area)
        return self.header.header_bytes + area * self.header.area_bytes + inside * on_disk.ENTRY_BYTES

    def entry_pos(self, entry: int) -> int:
        """Where the entry's metadata header lies."""
        if not 0 <= entry < self.entries:
            raise VmfsDamage(f"The volume is damaged: there is no entry {entry} in {self.name}.")
        return self.pieces(self.entry_offset(entry), on_disk.ENTRY_BYTES)[0][0]

    def check_number(self, number: int) -> None:
        if not 0 <= number < self.header.items:
            raise VmfsDamage(
                f"The volume is damaged: {KIND_NAMES[self.kind]} {number} is named, there are {self.header.items}."
            )

    def item_offset(self, number: int) -> int:
        """Where an item's data begins in the resource file."""
        header = self.header
        area, inside = divmod(number, header.per_area * header.per_entry)
        begin = header.header_bytes + area * header.area_bytes + header.per_area * on_disk.ENTRY_BYTES
        return begin + inside * header.item_bytes

    def item_pieces(self, number: int, offset_bytes: int, size_bytes: int) -> list[tuple[int, int]]:
        """Where a range of an item's data lies."""
        self.check_number(number)
        if self.kind == FILE_BLOCK:
            return [(number * self.block_bytes + offset_bytes, size_bytes)]
        return self.pieces(self.item_offset(number) + offset_bytes, size_bytes)

    def item_pos(self, number: int) -> int:
        """Where an item's data begins; for items that no block of the file splits (all but sub-blocks)."""
        return self.item_pieces(number, 0, on_disk.SECTOR)[0][0]
