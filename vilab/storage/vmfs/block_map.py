"""The blocks of one file while it is changed: holes filled, blocks freed, small files becoming large ones.

::

    up to 64 KiB      kind 2   blocks[0] = a sub-block
    up to 256 blocks  kind 1   blocks[0 .. 255] = file blocks                 256 MiB with blocks of 1 MiB
    more              kind 3   blocks[0 .. 255] = pointer blocks, each with 1,024 ids       256 GiB

A file grows through the kinds and does not go back before it is empty.
"""

from __future__ import annotations

import msgspec

from vilab.storage.vmfs import block_id as ids
from vilab.storage.vmfs import layout as on_disk
from vilab.storage.vmfs.block_id import FILE_BLOCK, POINTER_BLOCK, SUB_BLOCK
from vilab.storage.vmfs.errors import VmfsDamage, VmfsFull
from vilab.storage.vmfs.layout import INODE_BLOCKS, POINTERS, SECTOR, Inode
from vilab.storage.vmfs.transaction import Transaction, pack_ids


class BlockMap:
    """``inode`` with changes that ``save`` puts into the transaction."""

    def __init__(self, change: Transaction, pos: int, inode: Inode) -> None:
        self.change, self.catalog, self.pos, self.inode = change, change.catalog, pos, inode
        self.blocks = list(inode.blocks)
        self.count, self.tbz = inode.block_count, inode.tbz_count

    @property
    def unit(self) -> int:
        return self.catalog.unit_bytes(self.inode)

    def _now(self) -> Inode:
        return msgspec.structs.replace(
            self.inode, blocks=tuple(self.blocks), block_count=self.count, tbz_count=self.tbz
        )

    def save(self) -> Inode:
        self.inode = msgspec.structs.replace(self._now(), changed_s=self.change.member.clock.unix_s())
        self.change.put_inode(self.pos, self.inode)
        return self.inode

    def set_size(self, size: int) -> None:
        """Only the number; an empty file is of the smallest kind again."""
        self.inode = msgspec.structs.replace(self.inode, size=size)
        if not size and not any(self.blocks):
            self._become(SUB_BLOCK)

    def _become(self, kind: int) -> None:
        unit = on_disk.SUB_BLOCK_BYTES if kind == SUB_BLOCK else self.catalog.block_bytes
        self.inode = msgspec.structs.replace(self.inode, kind=kind, block_bytes=unit, block_shift=unit.bit_length() - 1)

    # --- one block ----------------------------------------------------------------------------------------------------

    def get(self, index: int) -> int:
        return self.catalog.block_ids(self.change, self._now(), index, 1)[0]

    def set(self, index: int, block: int) -> None:
        if self.inode.kind != POINTER_BLOCK:
            self.blocks[index] = block
            return
        slot, inside = divmod(index, POINTERS)
        pointer = self.blocks[slot]
        if not pointer:
            pointer = self.blocks[slot] = self._new_pointer_block()
        pos = self.catalog.resources[POINTER_BLOCK].item_pos(self.catalog.number(pointer))
        self.change.write(pos + 4 * inside, pack_ids([block]))

    def _new_pointer_block(self) -> int:
        number = self.change.allocate(POINTER_BLOCK, self.inode.id)
        pos = self.catalog.resources[POINTER_BLOCK].item_pos(number)
        self.change.write(pos, bytes(4 * POINTERS))
        return ids.block_id(POINTER_BLOCK, number)

    def fill(self, index: int) -> int:
        """Put a block into a hole; its content is the caller's matter. Its id."""
        kind = SUB_BLOCK if self.inode.kind == SUB_BLOCK else FILE_BLOCK
        block = ids.block_id(kind, self.change.allocate(kind, self.inode.id))
        self.set(index, block)
        self.count += 1
        return block

    def no_more_tbz(self, index: int, block: int) -> int:
        """The block will have been written as a whole: the flag goes."""
        self.set(index, block & ~ids.TBZ)
        self.tbz = max(0, self.tbz - 1)
        return block & ~ids.TBZ

    # --- larger -------------------------------------------------------------------------------------------------------

    def make_room(self, size: int) -> None:
        """Become the kind that can have so many bytes."""
        most = INODE_BLOCKS * POINTERS * self.catalog.block_bytes
        if size > most:
            raise VmfsFull(f"A file of {size} bytes cannot be: {most} are the most with this block size.")
        if self.inode.kind == SUB_BLOCK and size > on_disk.SUB_BLOCK_BYTES:
            self._to_file_blocks()
        if self.inode.kind == FILE_BLOCK and size > INODE_BLOCKS * self.catalog.block_bytes:
            self._to_pointer_blocks()

    def _to_file_blocks(self) -> None:
        old, size = self.blocks[0], min(self.inode.size, on_disk.SUB_BLOCK_BYTES)
        content = self.catalog.content(self.change, self._now(), 0, size)
        self.blocks = [0] * INODE_BLOCKS
        self._become(FILE_BLOCK)
        if old:
            self.count -= 1
            block = self.fill(0)
            pos = self.catalog.pieces(block, 0, SECTOR)[0][0]
            self.change.write_data(pos, content.ljust(on_disk.SUB_BLOCK_BYTES, b"\0"))
            self.change.zero_data(pos, self.catalog.block_bytes)
            self.change.free(old)

    def _to_pointer_blocks(self) -> None:
        old = self.blocks
        self.blocks = [0] * INODE_BLOCKS
        self._become(POINTER_BLOCK)
        if any(old):
            pointer = self.blocks[0] = self._new_pointer_block()
            pos = self.catalog.resources[POINTER_BLOCK].item_pos(self.catalog.number(pointer))
            self.change.write(pos, pack_ids(old))

    # --- smaller ------------------------------------------------------------------------------------------------------

    def free_from(self, first: int) -> int:
        """Free blocks from the end down to ``first``, or as far as one change can go. All from there on are free."""
        if self.inode.kind != POINTER_BLOCK:
            for index in range(INODE_BLOCKS - 1, first - 1, -1):
                if self.blocks[index]:
                    if self.change.nearly_full:
                        return index + 1
                    self._free(self.blocks[index])
                    self.blocks[index] = 0
            return first
        for slot in range(INODE_BLOCKS - 1, first // POINTERS - 1, -1):
            if self.blocks[slot]:
                reached = self._free_pointed(slot, max(0, first - slot * POINTERS))
                if reached is not None:
                    return reached
        return first

    def _free_pointed(self, slot: int, first: int) -> int | None:
        """Free what a pointer block names from ``first`` on, and itself if that is all. ``None``: done."""
        pointer = self.blocks[slot]
        pointed = self.catalog.pointers(self.change, pointer)
        reached = None
        for index in range(POINTERS - 1, first - 1, -1):
            if pointed[index]:
                if self.change.nearly_full:
                    reached = slot * POINTERS + index + 1
                    break
                self._free(pointed[index])
                pointed[index] = 0
        if not any(pointed):
            self.change.free(pointer)
            self.blocks[slot] = 0
        else:
            pos = self.catalog.resources[POINTER_BLOCK].item_pos(self.catalog.number(pointer))
            self.change.write(pos, pack_ids(pointed))
        return reached

    def _free(self, block: int) -> None:
        if ids.kind_of(block) not in (FILE_BLOCK, SUB_BLOCK):
            raise VmfsDamage(f"The volume is damaged: inode {self.inode.id:#010x} names {block:#010x} as a block.")
        if block & ids.TBZ and ids.kind_of(block) == FILE_BLOCK:
            self.tbz = max(0, self.tbz - 1)
        self.change.free(block)
        self.count = max(0, self.count - 1)
