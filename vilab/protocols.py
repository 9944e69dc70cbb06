"""The small protocols that let rooms on different floors meet."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

import msgspec

ReadableBytes: TypeAlias = bytes | bytearray | memoryview
"""What can be written somewhere."""


class PortDevice(Protocol):
    """Answers on I/O ports. Sizes are 1, 2 or 4 bytes; values are unsigned."""

    def read_port(self, port: int, size_bytes: int) -> int: ...

    def write_port(self, port: int, size_bytes: int, value: int) -> None: ...


class MmioDevice(Protocol):
    """Answers on a range of guest physical memory. Offsets count from the range's start."""

    def read_mmio(self, offset: int, size_bytes: int) -> int: ...

    def write_mmio(self, offset: int, size_bytes: int, value: int) -> None: ...


class InterruptLine(Protocol):
    """One input of an interrupt controller."""

    def set_level(self, high: bool) -> None: ...


class InterruptController(Protocol):
    """What an engine asks when it could deliver an interrupt."""

    def pending(self) -> bool:
        """Is an interrupt waiting that the controller would let through?"""
        ...

    def acknowledge(self) -> int:
        """INTA: the vector of the waiting interrupt, which is now in service."""
        ...


class Stateful(Protocol):
    """State is a value: a typed record out, the same record in, nothing lost."""

    def save_state(self) -> Any:
        """A ``msgspec.Struct`` that holds everything needed to go on elsewhere."""
        ...

    def load_state(self, state: Any) -> None: ...


class Console(Protocol):
    """The far end of a serial line."""

    def write(self, data: bytes) -> None: ...

    def read_available(self) -> bytes:
        """Input that has arrived since the last call; empty if none."""
        ...


class Geometry(msgspec.Struct, frozen=True):
    """Cylinders, heads, sectors a track: what a BIOS and old guests want to hear about a disk that has none."""

    cylinders: int
    heads: int
    sectors: int


class BlockDevice(Protocol):
    """A disk: bytes at an offset, in whole sectors.

    Everything happens at once and in the order of the calls; ``vilab/storage/timed.py`` puts it on the virtual clock.
    What has been written is read back at once; only ``flush`` promises that it survives a crash.

    An offset or size that is no multiple of ``sector_bytes`` or leaves the disk is the caller's defect (``VmmBug``);
    what the disk itself cannot do is ``vilab.storage.block.BlockError``.
    """

    @property
    def size_bytes(self) -> int: ...

    @property
    def sector_bytes(self) -> int: ...

    @property
    def geometry(self) -> Geometry:
        """``vilab.storage.geometry.ShapedBySize`` has the answer of a disk that knows its size only."""
        ...

    @property
    def read_only(self) -> bool: ...

    def read(self, offset_bytes: int, size_bytes: int) -> bytes: ...

    def write(self, offset_bytes: int, data: ReadableBytes) -> None: ...

    def flush(self) -> None:
        """Whatever was written before is on the disk when this returns."""
        ...

    def unmap(self, offset_bytes: int, size_bytes: int) -> None:
        """The range is not needed any more: it reads as zeros from now on, and its space may be freed."""
        ...


class ScsiAnswer(Protocol):
    """How a SCSI command has ended. ``status`` as in SAM-4 5.3; ``sense_bytes`` as the initiator gets them."""

    @property
    def status(self) -> int: ...

    @property
    def data_in(self) -> bytes: ...

    @property
    def sense_bytes(self) -> bytes: ...


class ScsiBus(Protocol):
    """A SCSI bus as the host adapter on it sees it: up to 16 targets, the adapter being one of them.

    A command is begun, takes its time, and is finished by the adapter when that is over: only then does anything of
    it happen. Tags are the adapter's; each command under way has another one.
    """

    def present(self, target: int) -> bool:
        """Does a target with this number answer when it is selected?"""
        ...

    def begin(self, target: int, lun: int, tag: int, cdb: bytes) -> tuple[int, int]:
        """A command for a target that is there: how many bytes of data it wants, and when it will be done (ns)."""
        ...

    def finish(self, target: int, tag: int, data_out: ReadableBytes) -> ScsiAnswer | int | None:
        """Its time has come: carry it out. ``None``: somebody else has aborted it. A number: the disk is away, and the
        command goes on waiting; finish it then (ns)."""
        ...

    def abort(self, target: int, tag: int) -> bool:
        """Withdraw a command that was begun. False: there is none."""
        ...

    def reset(self, target: int | None = None, lun: int | None = None) -> None:
        """The whole bus, one target, or one of its logical units: what was under way there is gone."""
        ...

    def save_state(self) -> bytes:
        """What targets remember, but for the bytes on their disks."""
        ...

    def load_state(self, state: bytes) -> None: ...


class Lun(BlockDevice, Protocol):
    """A disk on a storage network: a block device that also carries out any SCSI command.

    Reads and writes go on over another path where one fails. Where none is left, ``vilab.storage.block.BlockError`` of
    the kind ``away``; a command that was sent may have been carried out then, or not.
    """

    def submit(self, cdb: bytes, data_out: ReadableBytes = b"") -> tuple[int, bytes, bytes]:
        """One command from beginning to end: status (SAM-4, 5.3), data for the initiator, sense data."""
        ...


class NetworkInterface(Protocol):
    """A network card, or anything else that is plugged into a port, as the port sees it.

    A frame is what is on the wire between preamble and frame check sequence: destination address first, with an 802.1Q
    tag if it has one, without the FCS. Nobody changes a frame that somebody else holds: it is ``bytes``.
    """

    def receive(self, frame: bytes) -> None:
        """A frame has arrived."""
        ...

    def link_changed(self, up: bool) -> None:
        """The cable was pulled, or plugged in again."""
        ...

    def wants_multicast(self, destination: bytes) -> bool:
        """Does its filter let this multicast address through? Broadcast is not asked for."""
        ...


class NetworkPort(Protocol):
    """What a network card is plugged into."""

    @property
    def link_up(self) -> bool: ...

    def plug(self, interface: NetworkInterface) -> None:
        """Frames for this port go to ``interface`` from now on."""
        ...

    def transmit(self, frame: bytes) -> None:
        """A frame leaves the card now."""
        ...

    def listen(self, address: bytes, promiscuous: bool) -> None:
        """What the driver has programmed: the unicast address that it answers to, and whether it wants every frame."""
        ...

    def save_state(self) -> bytes:
        """Frames on their way to the card, which it does not have yet."""
        ...

    def load_state(self, state: bytes) -> None: ...
