"""Block ids: 32 bits that name a file block, a sub-block, a pointer block or a file descriptor.

::

    31                                        6 5   3 2   0
    | file block's number                      |flags| 1   |      flags bit 2 (0x20): to be zeroed (TBZ)
    | item  | entry                            |     | 2   |      sub-block:     item of 4 bits
    | item  | entry                            |     | 3   |      pointer block: item of 4 bits
    | item of 10 bits    | entry of 16 bits    |     | 4   |      file descriptor (inode)
                                                      0           the whole id 0: a hole

A number counts the items of a resource file through all its entries: entry * items per entry + item.
"""

from __future__ import annotations

from typing import Final

from vilab.errors import VmmBug
from vilab.storage.vmfs.errors import VmfsDamage

FILE_BLOCK, SUB_BLOCK, POINTER_BLOCK, INODE = 1, 2, 3, 4
KIND_NAMES: Final = {FILE_BLOCK: "file block", SUB_BLOCK: "sub-block", POINTER_BLOCK: "pointer block", INODE: "inode"}
TBZ: Final = 0x20

_ITEM_SHIFT: Final = {SUB_BLOCK: 28, POINTER_BLOCK: 28, INODE: 22}
_PER_ENTRY: Final = {SUB_BLOCK: 16, POINTER_BLOCK: 16, INODE: 32}
MOST_FILE_BLOCKS: Final = 1 << 26


def block_id(kind: int, number: int) -> int:
    """The id of item ``number`` of a resource file."""
    if kind == FILE_BLOCK:
        if not 0 <= number < MOST_FILE_BLOCKS:
            raise VmmBug(f"There is no id for file block {number}.")
        return number << 6 | kind
    entry, item = divmod(number, _PER_ENTRY[kind])
    return item << _ITEM_SHIFT[kind] | entry << 6 | kind


def kind_of(block: int) -> int:
    return block & 7


def number_of(block: int, per_entry: int) -> int:
    """The item's number; ``per_entry`` as its resource file says."""
    kind = block & 7
    if kind == FILE_BLOCK:
        return block >> 6
    if kind not in _ITEM_SHIFT:
        raise VmfsDamage(f"The volume is damaged: {block:#010x} is no block id.")
    shift = _ITEM_SHIFT[kind]
    item, entry = block >> shift, (block & (1 << shift) - 1) >> 6
    if item >= per_entry:
        raise VmfsDamage(f"The volume is damaged: {block:#010x} names item {item} of an entry that has {per_entry}.")
    return entry * per_entry + item


ROOT: Final = block_id(INODE, 0)
"""The root directory's inode; .fbb.sf, .fdc.sf, .pbc.sf, .sbc.sf and .vh.sf have the next ones."""
