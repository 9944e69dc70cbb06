"""An open file: reads, writes anywhere, growth, truncation.

::

    write, all blocks there, not past the end      straight to the data: no lock, no journal, no reservation
    write into a hole, past the end, into TBZ      one change: blocks taken, data written, then inode and bitmaps
    a reader beside a writer on another host       looks at the inode again for every read

Whoever writes holds the file's lock until ``close``. What has been written is read back at once by everybody; ``flush``
promises that it survives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from vilab.errors import AdminError
from vilab.protocols import ReadableBytes
from vilab.storage.block import BlockError, check_range
from vilab.storage.geometry import ShapedBySize
from vilab.storage.vmfs import block_id as ids
from vilab.storage.vmfs import layout as on_disk
from vilab.storage.vmfs.block_id import FILE_BLOCK, POINTER_BLOCK
from vilab.storage.vmfs.block_map import BlockMap
from vilab.storage.vmfs.catalog import Catalog, Node
from vilab.storage.vmfs.errors import NoSuchFile
from vilab.storage.vmfs.layout import INODE_MAGIC, POINTERS, SECTOR, Inode
from vilab.storage.vmfs.namespace import Namespace
from vilab.storage.vmfs.volume import Volume

if TYPE_CHECKING:
    from vilab.storage.vmfs.host import Host

ReadAt: TypeAlias = Callable[[int, int], bytes]
WriteAt: TypeAlias = Callable[[int, ReadableBytes], None]

CHANGE_BYTES = 16 << 20
"""So much data at most is written within one change, while the LUN is reserved."""


class VmfsReader:
    """A file that is only read."""

    def __init__(self, volume: Namespace, node: Node, path: str) -> None:
        self.namespace, self.path = volume, path
        self.inode_id, self.generation = node.inode.id, node.inode.generation

    def _with_inode(self, use: Callable[[Inode], bytes | int | None]) -> bytes | int | None:
        catalog, volume = self.namespace.catalog, self.namespace.volume

        def read(look: Callable[[Node], None]) -> bytes | int | None:
            node = catalog.node(volume, self.inode_id)
            look(node)
            if node.inode.generation != self.generation or not node.inode.links:
                raise NoSuchFile(f"{self.path} has been deleted.")
            return use(node.inode)

        return self.namespace._settled(read)

    @property
    def size_bytes(self) -> int:
        size = self._with_inode(lambda inode: inode.size)
        assert isinstance(size, int)
        return size

    def read(self, offset_bytes: int, size_bytes: int) -> bytes:
        """As many of the bytes as the file has."""
        catalog, volume = self.namespace.catalog, self.namespace.volume
        data = self._with_inode(lambda inode: catalog.content(volume, inode, offset_bytes, size_bytes))
        assert isinstance(data, bytes)
        return data

    def next_data(self, offset_bytes: int) -> int:
        """The first byte, that one on, which is not in a hole; the file's size if there is none."""
        catalog, volume = self.namespace.catalog, self.namespace.volume
        found = self._with_inode(lambda inode: next_data(catalog, volume, inode, offset_bytes))
        assert isinstance(found, int)
        return found

    def close(self) -> None:
        pass


def check_file(node: Node, path: str, writable: bool = False) -> None:
    if node.inode.type != on_disk.FILE and (writable or node.inode.type != on_disk.SYSTEM):
        raise AdminError(f"{path} is a {on_disk.TYPE_NAMES[node.inode.type]}, not a file that can be opened.")


def open_to_read(volume: Namespace, path: str) -> VmfsReader:
    """A file of a volume, by whoever has it open: a host, or a reader that is none."""
    node = volume._settled(lambda look: volume.catalog.find(volume.volume, path, look))
    check_file(node, path)
    return VmfsReader(volume, node, path)


class VmfsFile:
    """A file that this host may write. Made by ``Host.open`` and ``Host.create``."""

    def __init__(self, host: Host, node: Node, path: str) -> None:
        self.host, self.member, self.catalog, self.path = host, host.member, host.catalog, path
        self.pos, self.inode = node.pos, node.inode
        self.closed = self.uncertain = False

    @property
    def size_bytes(self) -> int:
        return self.inode.size

    def _ready(self) -> None:
        if self.closed:
            raise AdminError(f"{self.path} is closed.")
        self.member.keep_alive()
        if self.uncertain:  # a change has failed: it may have happened all the same
            with self.member.reserved():
                self.inode = self.catalog.node(self.host.volume, self.inode.id).inode
            self.uncertain = False

    # --- reading ------------------------------------------------------------------------------------------------------

    def read(self, offset_bytes: int, size_bytes: int) -> bytes:
        """As many of the bytes as the file has."""
        self._ready()
        return self.catalog.content(self.host.volume, self.inode, offset_bytes, size_bytes)

    def next_data(self, offset_bytes: int) -> int:
        self._ready()
        return next_data(self.catalog, self.host.volume, self.inode, offset_bytes)

    # --- writing ------------------------------------------------------------------------------------------------------

    def write(self, offset_bytes: int, data: ReadableBytes) -> None:
        """Anywhere; the file grows as far as needed, with a hole in between.

        Raises
        ------
        AdminError : the volume is full (what came before stays written), this host was fenced.
        """
        view = memoryview(data).cast("B")
        while view.nbytes:
            self._ready()
            room = CHANGE_BYTES - offset_bytes % self.catalog.block_bytes
            some = min(view.nbytes, room)
            if not self._overwrite(offset_bytes, view[:some]):
                self._extend(offset_bytes, view[:some])
            offset_bytes, view = offset_bytes + some, view[some:]

    def _overwrite(self, offset: int, data: memoryview) -> bool:
        """Write where everything is there already; ``False`` if it is not."""
        end = offset + data.nbytes
        if end > self.inode.size:
            return False
        unit = self.catalog.unit_bytes(self.inode)
        first = offset // unit
        blocks = self.catalog.block_ids(self.host.volume, self.inode, first, (end - 1) // unit - first + 1)
        if any(not block or is_tbz(block) for block in blocks):
            return False
        volume = self.host.volume
        for index, block in enumerate(blocks, first):
            begin, stop = max(offset, index * unit), min(end, (index + 1) * unit)
            piece = data[begin - offset : stop - offset]
            self._write_block(block, begin - index * unit, piece, volume.read, volume.write)
        return True

    def _write_block(self, block: int, inside: int, data: memoryview, read: ReadAt, write: WriteAt) -> None:
        """Bytes into a block, what else is in their sectors kept."""
        end = inside + data.nbytes
        first, last = inside // SECTOR * SECTOR, -(-end // SECTOR) * SECTOR
        places = self.catalog.pieces(block, first, last - first)
        if last - first != data.nbytes:
            old = b"".join(read(pos, some) for pos, some in places)
            data = memoryview(old[: inside - first] + bytes(data) + old[end - first :])
        _write_pieces(places, data, write)

    def _write_fresh(self, blocks: BlockMap, block: int, inside: int, data: memoryview) -> None:
        """The first write into a block: zeros around it, and all of it certain before anybody sees the block."""
        change, end = blocks.change, inside + data.nbytes
        first, last = inside // SECTOR * SECTOR, -(-end // SECTOR) * SECTOR
        for begin, stop in ((0, first), (last, blocks.unit)):
            for pos, some in self.catalog.pieces(block, begin, stop - begin) if stop > begin else ():
                change.zero_data(pos, some)
        whole = memoryview(bytes(inside - first) + bytes(data) + bytes(last - end))
        _write_pieces(self.catalog.pieces(block, first, last - first), whole, change.write_data)

    def _extend(self, offset: int, data: memoryview) -> None:
        end = offset + data.nbytes

        def extend(blocks: BlockMap) -> None:
            change, size = blocks.change, blocks.inode.size
            blocks.make_room(max(end, size))
            if offset > size:
                self._zero_tail(blocks, offset)
            at = offset
            while at < end:
                index, inside = divmod(at, blocks.unit)
                block, fresh = blocks.get(index), False
                if not block:
                    block, fresh = blocks.fill(index), True
                elif is_tbz(block):
                    block, fresh = blocks.no_more_tbz(index, block), True
                piece = data[at - offset : at - offset + min(end - at, blocks.unit - inside)]
                if fresh:
                    self._write_fresh(blocks, block, inside, piece)
                else:
                    self._write_block(block, inside, piece, change.read_data, change.write_data)
                at += piece.nbytes
            blocks.set_size(max(end, size))

        self._change(f"write {self.path}", extend)

    def _zero_tail(self, blocks: BlockMap, until: int) -> None:
        """The file is about to grow: what its last block has behind the old end must read as zeros."""
        old = blocks.inode.size
        stop = min(until, -(-old // blocks.unit) * blocks.unit)
        if old >= stop:
            return
        index, inside = divmod(old, blocks.unit)
        block = blocks.get(index)
        if block and not is_tbz(block):
            change = blocks.change
            self._write_block(block, inside, memoryview(bytes(stop - old)), change.read_data, change.write_data)

    def _change(self, what: str, use: Callable[[BlockMap], None]) -> None:
        """One change of this file's inode and blocks."""

        def attempt() -> Inode:
            with self.member.change(what) as change:
                change.take(self.pos, INODE_MAGIC, self.path)
                blocks = BlockMap(change, self.pos, self.catalog.node(change, self.inode.id).inode)
                use(blocks)
                return blocks.save()

        try:
            self.inode = self.host._patiently(attempt)
        except BaseException:
            self.uncertain = True
            raise

    # --- size ---------------------------------------------------------------------------------------------------------

    def truncate(self, size_bytes: int) -> None:
        """Cut off, or grow by a hole."""
        self._ready()
        if size_bytes < 0:
            raise AdminError("A file cannot have less than no bytes.")
        while self.inode.size != size_bytes:
            self._truncate_some(size_bytes)

    def _truncate_some(self, size: int) -> None:
        def resize(blocks: BlockMap) -> None:
            old = blocks.inode.size
            if size > old:
                blocks.make_room(size)
                self._zero_tail(blocks, size)
                blocks.set_size(size)
            else:
                first = -(-size // blocks.unit)
                reached = blocks.free_from(first)
                blocks.set_size(size if reached == first else min(old, reached * blocks.unit))

        self._change(f"resize {self.path}", resize)

    def allocate(self, size_bytes: int) -> None:
        """Give every block up to there its place, filled with zeros; the file is at least so large then."""
        if size_bytes > self.inode.size:
            self.truncate(size_bytes)
        unit = self.catalog.unit_bytes(self.inode)
        for index in range(-(-size_bytes // unit)):
            begin = index * unit
            if self.next_data(begin) != begin:
                self._extend(begin, memoryview(bytes(min(unit, size_bytes - begin))))

    def flush(self) -> None:
        self._ready()
        self.host.volume.flush()

    def close(self) -> None:
        """Give the lock back."""
        if not self.closed:
            self.closed = True
            self.host._closed(self)


def next_data(catalog: Catalog, volume: Volume, inode: Inode, offset: int) -> int:
    unit = catalog.unit_bytes(inode)
    index, count = offset // unit, -(-inode.size // unit)
    while index < count:
        if inode.kind == POINTER_BLOCK and index % POINTERS == 0 and not inode.blocks[index // POINTERS]:
            index += POINTERS
            continue
        some = min(count - index, POINTERS - index % POINTERS)
        for block in catalog.block_ids(volume, inode, index, some):
            if block and not is_tbz(block):
                return max(offset, index * unit)
            index += 1
    return inode.size


def is_tbz(block: int) -> bool:
    return bool(block & ids.TBZ) and ids.kind_of(block) == FILE_BLOCK


def _write_pieces(places: list[tuple[int, int]], data: memoryview, write: WriteAt) -> None:
    for pos, some in places:
        write(pos, data[:some])
        data = data[some:]


class VmfsDisk(ShapedBySize):
    """A file as a block device, for whatever expects one; its size is what it was when it was opened."""

    sector_bytes = SECTOR

    def __init__(self, file: VmfsFile | VmfsReader) -> None:
        self.file = file
        self.size_bytes = file.size_bytes // SECTOR * SECTOR

    @property
    def read_only(self) -> bool:
        return isinstance(self.file, VmfsReader)

    def read(self, offset_bytes: int, size_bytes: int) -> bytes:
        check_range(self, offset_bytes, size_bytes)
        return self.file.read(offset_bytes, size_bytes).ljust(size_bytes, b"\0")

    def write(self, offset_bytes: int, data: ReadableBytes) -> None:
        check_range(self, offset_bytes, memoryview(data).nbytes)
        if isinstance(self.file, VmfsReader):
            raise BlockError("read_only", f"{self.file.path} was opened for reading only.")
        self.file.write(offset_bytes, data)

    def flush(self) -> None:
        if isinstance(self.file, VmfsFile):
            self.file.flush()

    def unmap(self, offset_bytes: int, size_bytes: int) -> None:
        """Zeros; the blocks stay allocated."""
        while size_bytes:
            some = min(size_bytes, 1 << 20)
            self.write(offset_bytes, bytes(some))
            offset_bytes, size_bytes = offset_bytes + some, size_bytes - some
