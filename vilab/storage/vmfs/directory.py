"""Directories while they are changed: one name added, taken away, pointed elsewhere.

::

    | . | .. | a | b | c | d |        remove b:   the last record moves into the hole, the directory ends earlier
    | . | .. | a | d | c |
"""

from __future__ import annotations

import msgspec

from vilab.storage.vmfs import layout as on_disk
from vilab.storage.vmfs.block_map import BlockMap
from vilab.storage.vmfs.catalog import MOST_DIRECTORY_BYTES, Node, record_name
from vilab.storage.vmfs.errors import NoSuchFile, VmfsFull
from vilab.storage.vmfs.layout import RECORD_BYTES, DirectoryRecord
from vilab.storage.vmfs.transaction import Transaction


class DirectoryFull(Exception):
    """Internal: the directory needs another block first, in a change of its own (``grow``)."""

    def __init__(self, inode_id: int) -> None:
        super().__init__()
        self.inode_id = inode_id


def _put(change: Transaction, directory: Node, index: int, record: DirectoryRecord) -> None:
    at, data = index * RECORD_BYTES, record.encode()
    unit = change.catalog.unit_bytes(directory.inode)
    while data:
        number, inside = divmod(at, unit)
        block = change.catalog.block_ids(change, directory.inode, number, 1)[0]
        if not block:
            raise DirectoryFull(directory.inode.id)
        pos, some = change.catalog.pieces(block, inside, min(len(data), unit - inside))[0]
        change.write(pos, data[:some])
        at, data = at + some, data[some:]


def _resize(change: Transaction, directory: Node, size: int, links: int = 0) -> Node:
    inode = msgspec.structs.replace(
        directory.inode,
        size=size,
        links=directory.inode.links + links,
        changed_s=change.member.clock.unix_s(),
    )
    change.put_inode(directory.pos, inode)
    return Node(directory.pos, directory.header, inode)


def _capacity(directory: Node, unit: int) -> int:
    """What fits without becoming another kind."""
    return unit * (1 if directory.inode.kind == 2 else on_disk.INODE_BLOCKS)


def add(change: Transaction, directory: Node, name: bytes, node: Node, links: int = 0) -> Node:
    """Put a name into a directory that is locked. ``DirectoryFull``: ``grow`` it, then once more."""
    size = directory.inode.size
    if size + RECORD_BYTES > MOST_DIRECTORY_BYTES:
        raise VmfsFull(f"The directory is full: it has {size // RECORD_BYTES} names.")
    if size + RECORD_BYTES > _capacity(directory, change.catalog.unit_bytes(directory.inode)):
        raise DirectoryFull(directory.inode.id)
    record = DirectoryRecord(type=node.inode.type, inode=node.inode.id, generation=node.inode.generation, name=name)
    _put(change, directory, size // RECORD_BYTES, record)
    return _resize(change, directory, size + RECORD_BYTES, links)


def remove(change: Transaction, directory: Node, name: bytes, links: int = 0) -> Node:
    """Take a name out of a directory that is locked."""
    records = change.catalog.records(change, directory)
    index = _index_of(records, name)
    if index != len(records) - 1:
        _put(change, directory, index, records[-1])
    return _resize(change, directory, (len(records) - 1) * RECORD_BYTES, links)


def point(change: Transaction, directory: Node, name: bytes, node: Node) -> None:
    """Let a name of a locked directory mean another inode (``..`` of a directory that moves)."""
    records = change.catalog.records(change, directory)
    index = _index_of(records, name)
    _put(
        change,
        directory,
        index,
        msgspec.structs.replace(
            records[index], inode=node.inode.id, generation=node.inode.generation, type=node.inode.type
        ),
    )


def _index_of(records: list[DirectoryRecord], name: bytes) -> int:
    for index, record in enumerate(records):
        if record_name(record) == name:
            return index
    raise NoSuchFile(f"There is no {name.decode('utf-8', 'replace')!r} in the directory.")


def fill_new(change: Transaction, node: Node, parent: Node) -> Node:
    """The two records that every directory begins with, into one that has just been made."""
    blocks = BlockMap(change, node.pos, node.inode)
    blocks.fill(0)
    blocks.set_size(2 * RECORD_BYTES)
    made = Node(node.pos, node.header, blocks.save())
    for index, (name, target) in enumerate(((b".", made), (b"..", parent))):
        record = DirectoryRecord(
            type=on_disk.DIRECTORY, inode=target.inode.id, generation=target.inode.generation, name=name
        )
        _put(change, made, index, record)
    return made


def grow(change: Transaction, inode_id: int) -> None:
    """Room for one more record: another block, or another kind. Its content stays as it is."""
    directory = change.catalog.node(change, inode_id)
    change.take_node(directory)
    blocks = BlockMap(change, directory.pos, directory.inode)
    size = directory.inode.size + RECORD_BYTES
    blocks.make_room(size)
    for index in range((size - 1) // blocks.unit + 1):
        if not blocks.get(index):
            for pos, some in change.catalog.pieces(blocks.fill(index), 0, blocks.unit):
                change.zero_data(pos, some)
    blocks.save()
