"""A LUN that several hosts share: a block device that can be reserved.

::

    host A ── reserve() ──┐            RESERVE(6): everybody else's commands end in RESERVATION CONFLICT
                          ├── LUN      until RELEASE(6), a reset, or the end of A's nexus
    host B ── read() ─────┘ conflict ──> waits a little, tries again; for a bounded time

``SharedDisk`` has one port a host over any block device of this process, ``FileLun`` shares an image file between
processes, ``vilab.storage.scsi.lun_disk.LunDisk`` talks CDBs to a target. ``PatientLun`` does the waiting.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar

from vilab.errors import AdminError
from vilab.events import EventLog
from vilab.protocols import BlockDevice, ReadableBytes
from vilab.storage.block import BlockError, ReservationConflict
from vilab.storage.disk_file import DiskFile
from vilab.storage.geometry import ShapedLike
from vilab.storage.raw_disk import RawDisk
from vilab.storage.still_held import StillHeld
from vilab.storage.vmfs.events import VmfsReservation
from vilab.storage.vmfs.time import SECOND_NS, Clock, Timing

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

T = TypeVar("T")


class Lun(BlockDevice, Protocol):
    """A block device whose every method may raise ``ReservationConflict``."""

    def reserve(self) -> None:
        """RESERVE(6). Again by the holder: nothing happens."""
        ...

    def release(self) -> None:
        """RELEASE(6). By somebody else than the holder: nothing happens."""
        ...


class SharedDisk:
    """One block device, several hosts in this process."""

    def __init__(self, device: BlockDevice) -> None:
        self.device = device
        self.reserved_by: str | None = None

    def port(self, host: str) -> SharedPort:
        return SharedPort(self, host)

    def drop(self, host: str) -> None:
        """The host's nexus is lost: so is its reservation."""
        if self.reserved_by == host:
            self.reserved_by = None


class SharedPort(ShapedLike):
    """How one host sees a ``SharedDisk``."""

    def __init__(self, shared: SharedDisk, host: str) -> None:
        self.shared, self.host, self._behind = shared, host, shared.device

    def _device(self) -> BlockDevice:
        if self.shared.reserved_by not in (None, self.host):
            raise ReservationConflict
        return self.shared.device

    def read(self, offset_bytes: int, size_bytes: int) -> bytes:
        return self._device().read(offset_bytes, size_bytes)

    def write(self, offset_bytes: int, data: ReadableBytes) -> None:
        self._device().write(offset_bytes, data)

    def flush(self) -> None:
        self._device().flush()

    def unmap(self, offset_bytes: int, size_bytes: int) -> None:
        self._device().unmap(offset_bytes, size_bytes)

    def reserve(self) -> None:
        self._device()
        self.shared.reserved_by = self.host

    def release(self) -> None:
        self.shared.drop(self.host)


class FileLun(ShapedLike):
    """An image file that several processes share. A lock of the operating system (flock) stands in for SCSI's
    reservation: exclusive while reserved, shared for the moment of any other command. It ends with the process, as a
    reservation ends with the nexus. Where the system has no such locks (Windows) one process at a time is right."""

    def __init__(self, path: Path, writable: bool = True) -> None:
        self._disk = self._behind = RawDisk.of(DiskFile(path, writable))
        self._lock = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        self.reserved = False
        if not self._disk.size_bytes:
            self.close()
            raise AdminError(f"{path} is empty: there is no VMFS volume.")

    def _take(self, how: int) -> None:
        try:
            fcntl.flock(self._lock, how | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN):
                raise ReservationConflict from None
            raise BlockError("medium", f"The image file cannot be locked: {error.strerror}.") from None

    @contextlib.contextmanager
    def _command(self) -> Iterator[None]:
        if self.reserved or fcntl is None:
            yield
            return
        self._take(fcntl.LOCK_SH)
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def read(self, offset_bytes: int, size_bytes: int) -> bytes:
        with self._command():
            return self._disk.read(offset_bytes, size_bytes)

    def write(self, offset_bytes: int, data: ReadableBytes) -> None:
        with self._command():
            self._disk.write(offset_bytes, data)

    def flush(self) -> None:
        with self._command():
            self._disk.flush()

    def unmap(self, offset_bytes: int, size_bytes: int) -> None:
        with self._command():
            self._disk.unmap(offset_bytes, size_bytes)

    def reserve(self) -> None:
        if not self.reserved and fcntl is not None:
            self._take(fcntl.LOCK_EX)
        self.reserved = True

    def release(self) -> None:
        if self.reserved and fcntl is not None:
            fcntl.flock(self._lock, fcntl.LOCK_UN)
        self.reserved = False

    def close(self) -> None:
        self._disk.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


STEP_NS = 50_000_000
"""A host that is at work on the volume has reserved it for less than that, as a rule."""


class PatientLun(ShapedLike):
    """A LUN whose conflicts are waited for: after ``retry_ns``, twice that, ..., ``conflict_ns`` in all.

    ``steps``: for ``STEP_NS`` only, then ``StillHeld``; who asks again is refused after ``conflict_ns`` in all.
    """

    def __init__(self, lun: Lun, clock: Clock, timing: Timing, log: EventLog, host: str) -> None:
        self.lun, self.clock, self.timing, self.log, self.host = lun, clock, timing, log, host
        self._behind = lun
        self.reserved_at_ns: int | None = None
        self.steps = False
        self._refused_ns: tuple[int, int] | None = None
        """When the conflict was seen first that is not over, and when last."""

    def _insist(self, command: Callable[[], T]) -> T:
        pause, begun_ns = self.timing.retry_ns, self.clock.now_ns
        while True:
            try:
                done = command()
            except ReservationConflict:
                self._say("conflict", 0)
                self._check_patience(begun_ns, self.clock.now_ns)
                self.clock.wait(pause)
                pause = min(2 * pause, SECOND_NS // 20)
            else:
                self._refused_ns = None
                return done

    def _check_patience(self, begun_ns: int, now_ns: int) -> None:
        since_ns = begun_ns
        if self._refused_ns is not None and now_ns - self._refused_ns[1] < self.timing.dead_ns:
            since_ns = min(since_ns, self._refused_ns[0])
        if now_ns >= since_ns + self.timing.conflict_ns:
            self._refused_ns = None
            seconds = self.timing.conflict_ns / SECOND_NS
            raise BlockError(
                "medium",
                f"The LUN has been reserved by another host for {seconds:g} s. If no host is at work on it, reset the "
                "LUN: a reservation ends with a reset.",
            ) from None
        if self.steps and now_ns >= begun_ns + STEP_NS:
            self._refused_ns = since_ns, now_ns
            seconds = (now_ns - since_ns) / SECOND_NS
            raise StillHeld(f"The LUN is reserved by another host, for {seconds:.1f} s so far.") from None

    def read(self, offset_bytes: int, size_bytes: int) -> bytes:
        return self._insist(lambda: self.lun.read(offset_bytes, size_bytes))

    def write(self, offset_bytes: int, data: ReadableBytes) -> None:
        self._insist(lambda: self.lun.write(offset_bytes, data))

    def flush(self) -> None:
        self._insist(self.lun.flush)

    def unmap(self, offset_bytes: int, size_bytes: int) -> None:
        self._insist(lambda: self.lun.unmap(offset_bytes, size_bytes))

    @contextlib.contextmanager
    def reserved(self) -> Iterator[None]:
        """The LUN is this host's alone in between. Inside of another one: nothing more."""
        if self.reserved_at_ns is not None:
            yield
            return
        self._insist(self.lun.reserve)
        self.reserved_at_ns = self.clock.now_ns
        self._say("reserved", 0)
        try:
            yield
        finally:
            held, self.reserved_at_ns = self.clock.now_ns - self.reserved_at_ns, None
            with contextlib.suppress(ReservationConflict):  # a reset, and another host was quicker: not ours any more
                self.lun.release()
            self._say("released", held)

    def _say(self, action: str, held_ns: int) -> None:
        if self.log.active:
            self.log.emit(VmfsReservation(self.clock.now_ns, self.host, action, held_ns))
