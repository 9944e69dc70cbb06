"""A host's view of a volume: names and files, to read and to change, beside other hosts.

::

    create, mkdir    directory locked, inode and (mkdir) a sub-block taken, name added      one change
    open to write    the inode's lock is taken and kept: nobody else can open it so
    remove           directory and inode locked, name and blocks gone; a large file's blocks in further changes
    rename           both directories locked; whatever had the new name is gone in the same change (if this host has it
                     open: when it is closed)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

from vilab.errors import AdminError
from vilab.events import EventLog
from vilab.storage.vmfs import directory, recovery
from vilab.storage.vmfs import layout as on_disk
from vilab.storage.vmfs.block_map import BlockMap
from vilab.storage.vmfs.catalog import Node, split_path
from vilab.storage.vmfs.errors import FileInUse, NoSuchFile, VmfsFull
from vilab.storage.vmfs.file import VmfsFile, VmfsReader, check_file, is_tbz, open_to_read
from vilab.storage.vmfs.lun import Lun
from vilab.storage.vmfs.member import Member
from vilab.storage.vmfs.namespace import Namespace
from vilab.storage.vmfs.time import Clock, Timing
from vilab.storage.vmfs.transaction import Transaction

T = TypeVar("T")


class Host(Namespace):
    """A volume mounted by one host. ``beat`` it every three seconds, or use it often enough; ``leave`` at the end.

    Parameters
    ----------
    uuid : 16 bytes, the host's own; nobody else may use it at the same time.
    clock : virtual or wall time, for heartbeats and retries.
    """

    def __init__(self, lun: Lun, uuid: bytes, clock: Clock, timing: Timing | None = None, log: EventLog | None = None):
        self.member = Member(lun, uuid, clock, timing, log)
        self.volume, self.catalog = self.member.volume, self.member.catalog
        self.open_files: dict[int, VmfsFile] = {}
        recovery.finish_all_left_over(self.member)

    def beat(self) -> None:
        """Renew the heartbeat if it is time. A change that the disk refused in the middle is finished: while it is not,
        other hosts wait for it. A lock that could not be given back when its file was closed (all paths were dead) is
        given back now."""
        self.member.keep_alive()
        if self.member.unsettled is not None:
            with self.member.reserved():
                pass
        for pos in sorted(self.member.held - self.open_files.keys()):
            self.member.let_go(pos, f"the file at {pos:#x}")

    def recover(self) -> int:
        """Watch the other hosts for as long as it takes, and clear up after those that are dead. How many."""
        return recovery.break_silent(self.member)

    def leave(self) -> None:
        for file in list(self.open_files.values()):
            file.close()
        self.member.leave()

    # --- how things are done ------------------------------------------------------------------------------------------

    def _patiently(self, operation: Callable[[], T]) -> T:
        return recovery.patiently(self.member, operation)

    def _look(self, node: Node) -> None:
        self.member.check_settled(node.header, f"inode {node.inode.id:#010x}")

    def _changing(self, what: str, operation: Callable[[Transaction], T]) -> T:
        """One change; before it, if a directory is full, another one that makes room."""

        def attempt() -> T:
            while True:
                try:
                    with self.member.change(what) as change:
                        return operation(change)
                except directory.DirectoryFull as full:
                    with self.member.change(what) as change:
                        directory.grow(change, full.inode_id)

        return self._patiently(attempt)

    def _parent(self, change: Transaction, path: str) -> tuple[Node, str]:
        """The directory that ``path`` is in, locked by the change, and the last name."""
        names = split_path(path)
        if not names:
            raise AdminError("The root of the volume stays as it is.")
        parent = self.catalog.find(change, "/".join(names[:-1]), change.look)
        if not parent.is_directory:
            raise NoSuchFile(f"/{'/'.join(names[:-1])} is not a directory.")
        change.take_node(parent)
        return parent, names[-1]

    def _child(self, change: Transaction, parent: Node, name: str) -> Node | None:
        record = self.catalog.look_up(change, parent, name)
        return None if record is None else change.look(self.catalog.node_of(change, record))

    # --- files --------------------------------------------------------------------------------------------------------

    def create(self, path: str, mode: int = 0o100600) -> VmfsFile:
        """A new, empty file, open for writing. Refused where there is something."""

        def make(change: Transaction) -> Node:
            parent, name = self._parent(change, path)
            if self._child(change, parent, name) is not None:
                raise AdminError(f"{path} exists already.")
            node = change.new_inode(
                held=True, links=1, type=on_disk.FILE, mode=mode, block_shift=on_disk.SUB_BLOCK_BYTES.bit_length() - 1
            )
            directory.add(change, parent, name.encode(), node)
            return node

        node = self._changing(f"create {path}", make)
        self.member.held.add(node.pos)
        return self._opened(node, path)

    def open(self, path: str, writable: bool = False) -> VmfsFile | VmfsReader:
        return self.open_to_write(path) if writable else self.open_to_read(path)

    def open_to_read(self, path: str) -> VmfsReader:
        return open_to_read(self, path)

    def open_to_write(self, path: str) -> VmfsFile:
        """Take the file's lock. ``FileInUse`` if a host that is alive has it."""

        def take() -> Node:
            with self.member.reserved():
                node = self.catalog.find(self.volume, path, self._look)
                check_file(node, path, writable=True)
                if self.member.holds(node.pos):
                    raise FileInUse(f"{path} is open on this host already.")
                header = self.member.hold(node.pos, path)
                return Node(node.pos, header, node.inode)

        return self._opened(self._patiently(take), path)

    def write_sector(self, path: str, data: bytes) -> bool:
        """All of a file that is one sector long and that nobody has open: in one write that nothing can split, safe on
        the disk when it returns. A host that was taken for dead does not come to it. ``False``: there is no such file.

        It takes a tenth of the commands of a new file that is given the name of the old one.
        """

        def write() -> bool:
            with self.member.reserved():
                try:
                    node = self.catalog.find(self.volume, path, self._look)
                except NoSuchFile:
                    return False
                if node.inode.type != on_disk.FILE or node.inode.size != on_disk.SECTOR:
                    return False
                if self.member.holds(node.pos):
                    raise FileInUse(f"{path} is open on this host.")
                self.member.is_stale(node.header, path)
                (block,) = self.catalog.block_ids(self.volume, node.inode, 0, 1)
                if not block or is_tbz(block):
                    return False
                ((pos, _),) = self.catalog.pieces(block, 0, on_disk.SECTOR)
                self.volume.write(pos, data)
                self.volume.flush()
                return True

        return self._patiently(write)

    def _opened(self, node: Node, path: str) -> VmfsFile:
        file = self.open_files[node.pos] = VmfsFile(self, node, path)
        return file

    def _closed(self, file: VmfsFile) -> None:
        self.open_files.pop(file.pos, None)
        self.member.let_go(file.pos, file.path)
        if self.member.gone is None:
            recovery.finish_left_over(self.member, self.member.slot)

    # --- names --------------------------------------------------------------------------------------------------------

    def mkdir(self, path: str, mode: int = 0o755) -> None:
        def make(change: Transaction) -> None:
            parent, name = self._parent(change, path)
            if self._child(change, parent, name) is not None:
                raise AdminError(f"{path} exists already.")
            node = change.new_inode(
                held=False,
                links=2,
                type=on_disk.DIRECTORY,
                mode=mode,
                block_shift=on_disk.SUB_BLOCK_BYTES.bit_length() - 1,
            )
            node = directory.fill_new(change, node, parent)
            directory.add(change, parent, name.encode(), node, links=1)

        self._changing(f"mkdir {path}", make)

    def rmdir(self, path: str) -> None:
        def unmake(change: Transaction) -> None:
            parent, name = self._parent(change, path)
            node = self._existing(change, parent, name, path)
            if not node.is_directory:
                raise AdminError(f"{path} is not a directory.")
            change.take_node(node)
            self._check_empty(change, node, path)
            directory.remove(change, parent, name.encode(), links=-1)
            self._free_all(change, node)

        self._changing(f"rmdir {path}", unmake)

    def remove(self, path: str) -> None:
        """Delete a file. Refused while a host that is alive has it open."""

        def unlink(change: Transaction) -> None:
            parent, name = self._parent(change, path)
            node = self._existing(change, parent, name, path)
            if node.is_directory or node.inode.type == on_disk.SYSTEM:
                raise AdminError(f"{path} is a {on_disk.TYPE_NAMES[node.inode.type]}, not a file that can be removed.")
            self._take_unused(change, node, path)
            directory.remove(change, parent, name.encode())
            self._free_all(change, node)

        self._changing(f"remove {path}", unlink)
        recovery.finish_left_over(self.member, self.member.slot)

    def rename(self, path: str, to: str) -> None:
        """Take the place of what ``to`` names, if that is a file, or an empty directory where a directory is moved."""
        if split_path(path) == split_path(to):
            self.stat(path)
            return

        def move(change: Transaction) -> None:
            parent, name = self._parent(change, path)
            node = self._existing(change, parent, name, path)
            if node.inode.type == on_disk.SYSTEM:
                raise AdminError(f"{path} is a system file and stays where it is.")
            if node.is_directory and split_path(to)[: len(split_path(path))] == split_path(path):
                raise AdminError(f"{path} cannot be moved into itself.")
            there, new_name = self._parent(change, to)
            same = there.pos == parent.pos
            target = self._child(change, there, new_name)
            links = 1 if node.is_directory else 0
            if target is not None:
                self._make_way(change, node, target, to)
                there = directory.remove(change, there, new_name.encode(), links=-1 if target.is_directory else 0)
                parent = there if same else parent
            parent = directory.remove(change, parent, name.encode(), links=-links)
            directory.add(change, parent if same else there, new_name.encode(), node, links=links)
            if node.is_directory and not same:
                change.take_node(node)
                directory.point(change, node, b"..", there)

        self._changing(f"rename {path}", move)
        recovery.finish_left_over(self.member, self.member.slot)

    def _make_way(self, change: Transaction, node: Node, target: Node, to: str) -> None:
        if target.inode.type == on_disk.SYSTEM or target.is_directory != node.is_directory:
            raise AdminError(f"{to} is a {on_disk.TYPE_NAMES[target.inode.type]} and cannot be replaced.")
        if target.is_directory:
            change.take_node(target)
            self._check_empty(change, target, to)
        elif self.member.holds(target.pos):
            self._keep_until_closed(change, target)
            return
        else:
            self._take_unused(change, target, to)
        self._free_all(change, target)

    # --- parts --------------------------------------------------------------------------------------------------------

    def _existing(self, change: Transaction, parent: Node, name: str, path: str) -> Node:
        node = self._child(change, parent, name)
        if node is None:
            raise NoSuchFile(f"There is no {path} on the volume.")
        return node

    def _take_unused(self, change: Transaction, node: Node, path: str) -> None:
        if self.member.holds(node.pos):
            raise FileInUse(f"{path} is open on this host.")
        change.take(node.pos, on_disk.INODE_MAGIC, path)

    def _keep_until_closed(self, change: Transaction, node: Node) -> None:
        """A file that this host has open loses its name to another one: its blocks go when it is closed."""
        change.take(node.pos, on_disk.INODE_MAGIC, "inode")
        change.put_inode(node.pos, msgspec.structs.replace(node.inode, links=0))
        if not recovery.put_on_list(change, self.member.slot, node.inode.id, node.inode.generation):
            raise VmfsFull("Too many deleted files are not cleared up yet; try again.")

    def _check_empty(self, change: Transaction, node: Node, path: str) -> None:
        if len(self.catalog.records(change, node)) > 2:
            raise AdminError(f"{path} is not empty.")

    def _free_all(self, change: Transaction, node: Node) -> None:
        """An inode without a name: its blocks and itself, now or (large files) in changes that follow."""
        inode = msgspec.structs.replace(node.inode, links=0)
        if inode.type == on_disk.RDM or inode.type == on_disk.SYMLINK:
            change.put_inode(node.pos, inode)
            change.free(inode.id)
            return
        blocks = BlockMap(change, node.pos, inode)
        reached = blocks.free_from(0)
        blocks.set_size(reached * blocks.unit)
        inode = blocks.save()
        if not reached:
            change.free(inode.id)
        elif not recovery.put_on_list(change, self.member.slot, inode.id, inode.generation):
            raise VmfsFull("Too many deleted files are not cleared up yet; try again.")
