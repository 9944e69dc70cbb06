"""A virtual machine as a file: suspended in one process, resumed in another.

::

    offset  bytes
         0      8   "vilabVM\\n"
         8      4   version of this format, little-endian; another version is refused
        12     32   SHA-256 of everything behind it
        44      4   n
        48      n   header, JSON: engine and its options, memory size, the image without its bytes, how many pages
      48+n      4   m
      52+n      m   state record, msgpack: vCPU, time, devices (``VmState`` without its memory)
    52+n+m    ...   zlib: a bit for each page of guest memory (1: it is here), then those pages in order

Pages of zeros are left out. Caches do not travel: translations and shadow or nested tables start empty, so the guest
takes the hidden faults and translation misses of a fresh start, and under bt, svm, trap and para virtual time runs a
little differently from a run that was never suspended. On the bare machine nothing differs.

A file is read completely and checked before anything is made of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from vilab.addresses import PAGE_BYTES
from vilab.clock import VirtualClock
from vilab.errors import AdminError
from vilab.events import EventLog
from vilab.guests.image import LoadedImage
from vilab.protocols import Console, NetworkPort
from vilab.vmm.network import AttachedCard, CardRecord, Unplugged
from vilab.vmm.scsi_disks import DiskRecord, ScsiAdapter, reattach
from vilab.vmm.vm import ENGINES, VirtualMachine, VmState

MAGIC = b"vilabVM\n"
VERSION = 1
FIXED = struct.Struct("<8sI32s")
LENGTH = struct.Struct("<I")
COMPRESSION = 1
"""The fastest: most of a file is pages of code and text, which any level halves."""
MOST_MEMORY_BYTES = 4 << 30


class Header(msgspec.Struct, frozen=True):
    """What has to be known before the machine can be made.

    ``image`` has no segments: its bytes are in the guest's memory. ``instructions``: how many were executed, where they
    are counted. ``prompt`` and ``said`` belong to whoever types (``Typist``). ``disks``: to be opened again.
    """

    engine: str
    engine_options: dict[str, Any]
    memory_bytes: int
    image: LoadedImage
    pages: int
    instructions: int | None = None
    prompt: bytes = b""
    said: bytes = b""
    disks: tuple[DiskRecord, ...] = ()
    cards: tuple[CardRecord, ...] = ()


class Suspended(msgspec.Struct, frozen=True):
    """A file that has been read and checked."""

    header: Header
    state: VmState

    def resume(
        self,
        console: Console | None = None,
        log: EventLog | None = None,
        adapters: Sequence[ScsiAdapter] | None = None,
        ports: Sequence[NetworkPort] = (),
        clock: VirtualClock | None = None,
    ) -> VirtualMachine:
        """The machine, ready to run on. Raises ``AdminError`` if it does not fit this vilab.

        ``adapters``: disks in the place of those that the file names, with the content that those had.
        ``ports``: for its network cards; without them their cables are pulled. ``clock``: the one that the ports know.
        """
        header = self.header
        log = log if log is not None else EventLog()
        active, log.active = log.active, False  # it does not power on
        vm: VirtualMachine | None = None
        opened = () if adapters is not None else reattach(header.disks, header.image.name)
        try:
            cables = ports or [Unplugged() for _ in header.cards]
            cards = [AttachedCard(c.kind, p, c.address) for c, p in zip(header.cards, cables, strict=True)]
            vm = VirtualMachine(
                header.image, header.engine, header.memory_bytes, console=console, log=log,
                count_instructions=None if header.instructions is None else 1 << 60,
                engine_options=dict(header.engine_options), adapters=opened if adapters is None else adapters,
                cards=cards, clock=clock,
            )  # fmt: skip
            vm.load_state(self.state)
            if header.instructions is not None:
                vm.cpu.set_instructions(header.instructions)
        except (AdminError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            if vm is not None:
                vm.close()
            for adapter in opened:
                adapter.close()
            if isinstance(error, AdminError):
                raise
            raise AdminError(f"The state of {header.image.name} does not fit this vilab ({error}).") from None
        log.active = active
        return vm


def encode(
    vm: VirtualMachine,
    engine_options: dict[str, Any] | None = None,
    instructions: int | None = None,
    prompt: bytes = b"",
    said: bytes = b"",
) -> bytes:
    """The file's bytes. The machine stands between two instructions and goes on as if nothing had been."""
    state = vm.save_state(memory=False)
    pages = np.frombuffer(vm.pmap.content(), np.uint8).reshape(-1, PAGE_BYTES)
    here = pages.any(axis=1)
    image = msgspec.structs.replace(vm.image, segments=(), zeroed=())
    for bus in vm.buses:
        bus.flush()
    disks = tuple(record for adapter in vm.adapters for record in adapter.records())
    header = Header(
        vm.engine.name,
        engine_options or {},
        vm.memory_bytes,
        image,
        int(here.sum()),
        instructions,
        prompt,
        said,
        disks,
        tuple(card.record for card in vm.cards),
    )
    packer = zlib.compressobj(COMPRESSION)
    body = bytearray()
    for part in (msgspec.json.encode(header), msgspec.msgpack.encode(state)):
        body += LENGTH.pack(len(part)) + part
    body += packer.compress(np.packbits(here).tobytes())
    body += packer.compress(pages[here].tobytes())
    body += packer.flush()
    return FIXED.pack(MAGIC, VERSION, hashlib.sha256(body).digest()) + body


def decode(data: bytes, name: str = "The file") -> Suspended:
    """From the file's bytes. Raises ``AdminError``: what is wrong with it, in one sentence."""
    if data[: len(MAGIC)] != MAGIC[: len(data)] or not data:
        raise AdminError(f"{name} is not a suspended machine: it does not begin as vilab's files do.")
    if len(data) < FIXED.size:
        raise AdminError(f"{name} is truncated: it ends in its first {FIXED.size} bytes.")
    _, version, digest = FIXED.unpack_from(data)
    if version != VERSION:
        raise AdminError(
            f"{name} has version {version} of the format, and this vilab reads version {VERSION}: "
            "resume it with the vilab that wrote it."
        )
    body = data[FIXED.size :]
    if hashlib.sha256(body).digest() != digest:
        raise AdminError(f"{name} is damaged or truncated: its checksum is not that of its content.")
    try:
        header_bytes, rest = _part(body)
        state_bytes, rest = _part(rest)
        header = msgspec.json.decode(header_bytes, type=Header)
        state = msgspec.msgpack.decode(state_bytes, type=VmState)
        _check(header)
        state.memory = _memory(rest, header)
    except (msgspec.DecodeError, zlib.error, ValueError) as error:
        raise AdminError(f"{name} cannot be resumed: {str(error).rstrip('.')}.") from None
    return Suspended(header, state)


def _part(data: bytes) -> tuple[bytes, bytes]:
    if len(data) < LENGTH.size:
        raise ValueError("a part of it is missing")
    (length,) = LENGTH.unpack_from(data)
    if len(data) < LENGTH.size + length:
        raise ValueError("a part of it is missing")
    return data[LENGTH.size : LENGTH.size + length], data[LENGTH.size + length :]


def _check(header: Header) -> None:
    if header.engine not in ENGINES:
        raise ValueError(f"it ran under an engine {header.engine!r}, which this vilab does not have")
    if header.memory_bytes % PAGE_BYTES or not 0 < header.memory_bytes < MOST_MEMORY_BYTES:
        raise ValueError(f"{header.memory_bytes} bytes of guest memory are not possible")
    if not 0 <= header.pages <= header.memory_bytes // PAGE_BYTES:
        raise ValueError(f"{header.pages} pages are more than its memory has")


def _memory(packed: bytes, header: Header) -> bytes:
    page_count = header.memory_bytes // PAGE_BYTES
    bitmap_bytes = -(-page_count // 8)
    unpacker = zlib.decompressobj()
    wanted = bitmap_bytes + header.pages * PAGE_BYTES
    content = unpacker.decompress(packed, wanted + 1)
    if len(content) != wanted or not unpacker.eof or unpacker.unused_data:
        raise ValueError("its memory has another length than its header says")
    here = np.unpackbits(np.frombuffer(content, np.uint8, bitmap_bytes), count=page_count).astype(bool)
    if int(here.sum()) != header.pages:
        raise ValueError("its map of pages does not fit their number")
    memory = np.zeros((page_count, PAGE_BYTES), np.uint8)
    memory[here] = np.frombuffer(content, np.uint8, offset=bitmap_bytes).reshape(-1, PAGE_BYTES)
    return memory.tobytes()


def can_be_written(path: Path) -> None:
    """Say so before the guest runs, not after. Raises ``AdminError``."""
    if path.is_dir() or not path.absolute().parent.is_dir() or not os.access(path.absolute().parent, os.W_OK):
        raise AdminError(f"{path} cannot be written: there is no folder for it, or it is one itself.")


def write(path: Path, data: bytes) -> None:
    """All of it or nothing: a file that was there stays until the new one is complete."""
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    _attempt(lambda: _replace(partial, path, data), path, "written")


def read(path: Path) -> Suspended:
    """Read and check. Raises ``AdminError``."""
    found: list[bytes] = []
    _attempt(lambda: found.append(path.read_bytes()), path, "read")
    return decode(found[0], str(path))


def _replace(partial: Path, path: Path, data: bytes) -> None:
    try:
        partial.write_bytes(data)
        partial.replace(path)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def _attempt(work: Callable[[], object], path: Path, done: str) -> None:
    try:
        work()
    except OSError as error:
        raise AdminError(f"{path} cannot be {done}: {error.strerror or error}.") from None
