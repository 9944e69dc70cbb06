"""From names to bytes: the resource files, inodes, the blocks of a file, directories. Reading only.

::

    path ── directory records ──> inode ── kind 2: blocks[i]                       -> sub-blocks of 64 KiB
                                           kind 1: blocks[i]                       -> file blocks
                                           kind 3: blocks[i div 1024] -> pointer block [i mod 1024] -> file blocks

    an id of 0 is a hole; with the TBZ flag a file block is allocated, and reads as zeros

``Catalog`` knows where things are and keeps no content: ``read`` says whether the volume is asked, or a transaction
with changes of its own.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import msgspec

from vilab.errors import AdminError
from vilab.storage.vmfs import block_id as ids
from vilab.storage.vmfs import layout as on_disk
from vilab.storage.vmfs.block_id import FILE_BLOCK, INODE, POINTER_BLOCK, SUB_BLOCK
from vilab.storage.vmfs.errors import NoSuchFile, VmfsDamage
from vilab.storage.vmfs.layout import DirectoryRecord, Header, Inode
from vilab.storage.vmfs.resource import FILE_NAMES, Resource
from vilab.storage.vmfs.volume import Readable, Volume

MOST_DIRECTORY_BYTES = on_disk.RECORD_BYTES * 32768
MOST_DEPTH = 64
_BY_KIND = {FILE_BLOCK: FILE_BLOCK, SUB_BLOCK: SUB_BLOCK, POINTER_BLOCK: FILE_BLOCK}


class Node(msgspec.Struct, frozen=True):
    """An inode, where it lies, and the lock on it."""

    pos: int
    header: Header
    inode: Inode

    @property
    def is_directory(self) -> bool:
        return self.inode.type == on_disk.DIRECTORY


class Catalog:
    """The resource files of an open volume.

    Raises
    ------
    AdminError : one of them is missing or damaged.
    """

    def __init__(self, volume: Volume) -> None:
        self.volume = volume
        self.block_bytes = volume.block_bytes
        self.resources: dict[int, Resource] = {}
        base = max(1, on_disk.FDC_BASE_AT // self.block_bytes)
        most = volume.blocks
        # The first block of .fdc.sf is always there, and holds the system files' inodes.
        self.resources[INODE] = Resource(INODE, volume, [base], self.block_bytes, 1 << 26)
        self.root = self.node(volume, ids.ROOT)
        if not self.root.is_directory:
            raise VmfsDamage("The volume is damaged: its root is no directory.")
        system = {
            record.name.split(b"\0", 1)[0].decode("latin-1"): record for record in self.records(volume, self.root)
        }
        for kind in (FILE_BLOCK, POINTER_BLOCK, INODE, SUB_BLOCK):
            name = FILE_NAMES[kind]
            if name not in system:
                raise VmfsDamage(f"The volume is damaged: {name} is not in the root directory.")
            inode = self.node(volume, system[name].inode).inode
            count = -(-inode.size // self.block_bytes)
            if count > most or inode.kind == SUB_BLOCK:
                raise VmfsDamage(f"The volume is damaged: {name} cannot consist of {count} blocks.")
            blocks = [self.number(block) for block in self.block_ids(volume, inode, 0, count)]
            self.resources[kind] = Resource(
                kind, volume, blocks, self.block_bytes, most if kind == FILE_BLOCK else 1 << 26
            )

    # --- inodes and blocks --------------------------------------------------------------------------------------------

    def number(self, block: int) -> int:
        """The number of an id's item in its resource file; the resource file need not be open for a file block."""
        kind = ids.kind_of(block)
        resource = self.resources.get(kind)
        number = ids.number_of(block, 0 if resource is None else resource.header.per_entry)
        if kind == FILE_BLOCK:
            if number >= self.volume.blocks:
                raise VmfsDamage(
                    f"The volume is damaged: file block {number} is named, there are {self.volume.blocks}."
                )
        else:
            assert resource is not None
            resource.check_number(number)
        return number

    def node(self, read: Readable, inode_id: int) -> Node:
        """The inode with this block id. ``VmfsDamage`` if there is none."""
        if ids.kind_of(inode_id) != INODE:
            raise VmfsDamage(f"The volume is damaged: {inode_id:#010x} is no inode's id.")
        pos = self.resources[INODE].item_pos(self.number(inode_id))
        data = read.read(pos, on_disk.INODE_BYTES)
        header, inode = Header.decode(data), Inode.decode(data)
        most = on_disk.INODE_BLOCKS * on_disk.POINTERS * self.block_bytes
        if header.magic != on_disk.INODE_MAGIC or inode.id != inode_id or inode.type not in on_disk.TYPE_NAMES:
            raise VmfsDamage(f"The volume is damaged: there is no inode {inode_id:#010x} where it should be.")
        if inode.kind not in _BY_KIND or inode.size > most:
            raise VmfsDamage(f"The volume is damaged: inode {inode_id:#010x} has a size or kind that cannot be.")
        return Node(pos, header, inode)

    def unit_bytes(self, inode: Inode) -> int:
        """What one block of the file holds."""
        return on_disk.SUB_BLOCK_BYTES if inode.kind == SUB_BLOCK else self.block_bytes

    def block_ids(self, read: Readable, inode: Inode, first: int, count: int) -> list[int]:
        """The ids of blocks ``first`` on, 0 for holes."""
        if inode.kind != POINTER_BLOCK:
            found = list(inode.blocks[first : first + count])
            found += [0] * (count - len(found))
        else:
            found = []
            while len(found) < count:
                index, inside = divmod(first + len(found), on_disk.POINTERS)
                some = min(count - len(found), on_disk.POINTERS - inside)
                pointer = inode.blocks[index] if index < on_disk.INODE_BLOCKS else 0
                found += self.pointers(read, pointer, inside, some) if pointer else [0] * some
        expected = _BY_KIND[inode.kind]
        for block in found:
            if block and ids.kind_of(block) != expected:
                raise VmfsDamage(f"The volume is damaged: inode {inode.id:#010x} names {block:#010x} as a block.")
        return found

    def pointers(self, read: Readable, block: int, first: int = 0, count: int = on_disk.POINTERS) -> list[int]:
        """Ids in a pointer block."""
        if ids.kind_of(block) != POINTER_BLOCK:
            raise VmfsDamage(f"The volume is damaged: {block:#010x} is no pointer block.")
        pos = self.resources[POINTER_BLOCK].item_pos(self.number(block))
        return list(struct.unpack(f"<{count}I", read.read(pos + 4 * first, 4 * count)))

    def pieces(self, block: int, offset_bytes: int, size_bytes: int) -> list[tuple[int, int]]:
        """(logical position, size) of a range of a file block or sub-block."""
        number = self.number(block)
        if ids.kind_of(block) == FILE_BLOCK:
            return [(number * self.block_bytes + offset_bytes, size_bytes)]
        return self.resources[SUB_BLOCK].item_pieces(number, offset_bytes, size_bytes)

    # --- content ------------------------------------------------------------------------------------------------------

    def content(self, read: Readable, inode: Inode, offset_bytes: int, size_bytes: int) -> bytes:
        """Bytes of a file or directory, as many as there are before its end."""
        size_bytes = max(0, min(size_bytes, inode.size - offset_bytes))
        if not size_bytes:
            return b""
        unit = self.unit_bytes(inode)
        first, last = offset_bytes // unit, (offset_bytes + size_bytes - 1) // unit
        places: list[tuple[int | None, int]] = []
        inside, left = offset_bytes - first * unit, size_bytes
        for block in self.block_ids(read, inode, first, last - first + 1):
            some = min(left, unit - inside)
            if not block or (block & ids.TBZ and ids.kind_of(block) == FILE_BLOCK):
                places.append((None, some))
            else:
                places += self.pieces(block, inside, some)
            inside, left = 0, left - some
        return b"".join(bytes(size) if pos is None else read.read(pos, size) for pos, size in _joined(places))

    # --- directories --------------------------------------------------------------------------------------------------

    def records(self, read: Readable, node: Node) -> list[DirectoryRecord]:
        """All of a directory, ``.`` and ``..`` too."""
        size = node.inode.size
        if not node.is_directory:
            raise AdminError("It is not a directory.")
        if size % on_disk.RECORD_BYTES or size > MOST_DIRECTORY_BYTES:
            raise VmfsDamage(f"The volume is damaged: a directory of {size} bytes cannot be ({node.inode.id:#010x}).")
        data = self.content(read, node.inode, 0, size)
        return [
            DirectoryRecord.decode(data[at : at + on_disk.RECORD_BYTES]) for at in range(0, size, on_disk.RECORD_BYTES)
        ]

    def find(self, read: Readable, path: str, look: Callable[[Node], object] = lambda _node: None) -> Node:
        """The node at a path from the root. ``NoSuchFile`` if there is none. ``look`` is shown each directory on the
        way before it is read, and what was found."""
        node = self.node(read, ids.ROOT)
        look(node)
        walked = ""
        for name in split_path(path):
            if not node.is_directory:
                raise NoSuchFile(f"{walked} is not a directory: there is no {path} in it.")
            record = self.look_up(read, node, name)
            if record is None:
                raise NoSuchFile(f"There is no {path} on the volume.")
            node = self.node_of(read, record)
            look(node)
            walked += f"/{name}"
        return node

    def look_up(self, read: Readable, directory: Node, name: str) -> DirectoryRecord | None:
        wanted = name.encode()
        return next((r for r in self.records(read, directory) if record_name(r) == wanted), None)

    def node_of(self, read: Readable, record: DirectoryRecord) -> Node:
        node = self.node(read, record.inode)
        if node.inode.generation != record.generation or not node.inode.links or node.inode.type != record.type:
            raise VmfsDamage(
                f"The volume is damaged: {record_name(record).decode('utf-8', 'replace')!r} names an inode that is not "
                "its own any more."
            )
        return node


def _joined(places: list[tuple[int | None, int]]) -> list[tuple[int | None, int]]:
    """Pieces that lie one behind the other, as one."""
    found: list[tuple[int | None, int]] = []
    for pos, size in places:
        if found and ((pos is None) if found[-1][0] is None else pos == sum(found[-1])):  # type: ignore[arg-type]
            found[-1] = found[-1][0], found[-1][1] + size
        else:
            found.append((pos, size))
    return found


def record_name(record: DirectoryRecord) -> bytes:
    return record.name.split(b"\0", 1)[0]


def split_path(path: str) -> list[str]:
    """The names of a path in the volume; it may not leave the root. Every name has to fit into a record."""
    names: list[str] = []
    for name in path.split("/"):
        if name in ("", "."):
            continue
        if name == "..":
            raise AdminError(f"{path!r} is refused: a path on a volume goes down from its root, without '..'.")
        check_name(name)
        names.append(name)
    if len(names) > MOST_DEPTH:
        raise AdminError(f"A path of {len(names)} names is refused; {MOST_DEPTH} are the most.")
    return names


def check_name(name: str) -> None:
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise AdminError(f"{name!r} cannot be a name on a volume: it is not text.") from None
    if not 0 < size < on_disk.NAME_BYTES or "\0" in name or "/" in name or name in (".", ".."):
        raise AdminError(f"{name!r} cannot be a name on a volume: 1 to {on_disk.NAME_BYTES - 1} bytes, no slash.")
