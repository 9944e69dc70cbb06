"""A machine's state as bytes, in parts, and back: what a ``.vmsn`` and a ``.vmss`` file hold of it.

::

    about     image without its bytes, engine options, memory size
    vm        vCPU, devices, time
    present   a bit for each page of guest memory: 1, it is in ``memory``; 0, it is all zeros
    memory    those pages, in order (without ``present``: all of them)
    pages     what was behind each page
    balloon   the host's end of the balloon driver's channel
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from vilab.addresses import PAGE_BYTES
from vilab.errors import AdminError
from vilab.guests.image import LoadedImage
from vilab.host.hosted_vm import Snapshot
from vilab.memory.balloon import BalloonState
from vilab.memory.client import MemoryConfig
from vilab.memory.managed_pmap import PmapState
from vilab.vmm.vm import VmState


class About(msgspec.Struct, frozen=True):
    """What has to be known before the machine can be made."""

    image: LoadedImage
    engine_options: dict[str, Any]
    memory_mb: int
    ramdisk_bytes: int


def to_parts(state: Snapshot) -> dict[str, bytes]:
    """A machine's state, by part."""
    about = About(state.image, state.engine_options, state.config.size_mb, state.ramdisk_bytes)
    vm = msgspec.structs.replace(state.vm, memory=b"")
    present, memory = _without_zeros(state.vm.memory)
    pack = msgspec.msgpack.encode
    return {
        "about": pack(about), "vm": pack(vm), "present": present, "memory": memory, "pages": pack(state.pages),
        "balloon": pack(state.balloon),
    }  # fmt: skip


def from_parts(parts: dict[str, bytes], name: str, config: MemoryConfig) -> Snapshot:
    """And back, for a machine with this name and this memory. Its folder, disks and cards are not in it.

    Raises
    ------
    AdminError : a part is missing or damaged (in words that go on from "... cannot be read: "), or the machine has more
        or less memory now.
    """
    try:
        about = msgspec.msgpack.decode(parts["about"], type=About)
        vm = msgspec.msgpack.decode(parts["vm"], type=VmState)
        pages = msgspec.msgpack.decode(parts["pages"], type=PmapState)
        balloon = msgspec.msgpack.decode(parts["balloon"], type=BalloonState)
        memory = parts["memory"]
    except KeyError as error:
        raise AdminError(f"The state of {name} cannot be read: its part {error} is missing.") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise AdminError(f"The state of {name} cannot be read: {str(error).rstrip('.')}.") from None
    if about.memory_mb != config.size_mb:
        raise AdminError(
            f"{name} had {about.memory_mb} MB of memory then and has {config.size_mb} MB now. Power it off, set "
            "memsize, and power it on again."
        )
    size_bytes = about.memory_mb << 20
    if "present" in parts:
        memory = _with_zeros(parts["present"], memory, size_bytes, name)
    if len(memory) != size_bytes or len(pages.states) != size_bytes // PAGE_BYTES:
        raise AdminError(f"The state of {name} cannot be read: it is not that of {about.memory_mb} MB of memory.")
    return Snapshot(
        name, about.image, about.engine_options, config, about.ramdisk_bytes,
        msgspec.structs.replace(vm, memory=memory), pages, balloon,
    )  # fmt: skip


def _without_zeros(memory: bytes) -> tuple[bytes, bytes]:
    """A bit for each page, and the pages that are not all zeros."""
    rows = np.frombuffer(memory, np.uint64).reshape(-1, PAGE_BYTES // 8)
    present = rows.any(axis=1)
    return np.packbits(present).tobytes(), rows[present].tobytes()


def _with_zeros(bits: bytes, content: bytes, size_bytes: int, name: str) -> bytes:
    count = size_bytes // PAGE_BYTES
    if len(bits) == -(-count // 8):
        present = np.unpackbits(np.frombuffer(bits, np.uint8), count=count).astype(np.bool_)
        if np.count_nonzero(present) * PAGE_BYTES == len(content):
            memory = np.zeros((count, PAGE_BYTES), np.uint8)
            memory[present] = np.frombuffer(content, np.uint8).reshape(-1, PAGE_BYTES)
            return memory.tobytes()
    raise AdminError(f"The state of {name} cannot be read: its map of pages does not fit the pages.")
