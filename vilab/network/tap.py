"""A TAP device: a cable from a port of this network into the network stack of the Linux underneath.

::

    Linux                                              vilab
    vilab0 (ip address, ping, tcpdump) ── /dev/net/tun ── Tap ──> port.transmit       poll()
                                                              <── receive

    open("/dev/net/tun"), ioctl(TUNSETIFF, name, IFF_TAP | IFF_NO_PI): each read is a frame, each write is one

Needs CAP_NET_ADMIN. The device is there while the file is open, also after it was moved to another network namespace.
Nothing blocks: whoever drives the network calls ``poll``, and may wait for ``fileno()`` in between. A frame that Linux
has no room for is dropped.

Source: Linux, Documentation/networking/tuntap.rst.
"""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path

import msgspec

from vilab.errors import AdminError
from vilab.network.ethernet import HEADER_BYTES
from vilab.protocols import NetworkPort

DEVICE = Path("/dev/net/tun")
TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000
NAME_BYTES = 15
CAP_NET_ADMIN = 12
READ_BYTES = 65_536


class TapStatistics(msgspec.Struct):
    """``out``: into Linux. ``dropped``: it did not take them, as while the interface is down."""

    frames_in: int = 0
    frames_out: int = 0
    dropped: int = 0


def why_not() -> str | None:
    """Why there can be no TAP device here, in a sentence; ``None``: there can."""
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        return f"A TAP device needs {DEVICE}, which is not there or may not be opened."
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return "A TAP device needs CAP_NET_ADMIN, and /proc does not say whether it is there."
    capabilities = next((int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:")), 0)
    if not capabilities >> CAP_NET_ADMIN & 1:
        return "A TAP device needs CAP_NET_ADMIN: be root, in a container with --cap-add NET_ADMIN."
    return None


def open_tap(name: str) -> int:
    """The file of a new TAP device. Raises ``AdminError``."""
    if not 1 <= len(name.encode()) <= NAME_BYTES or not name.isascii() or not name.isalnum():
        raise AdminError(f"{name!r} is no name for a TAP device: 1 to {NAME_BYTES} letters and digits are.")
    reason = why_not()
    if reason is not None:
        raise AdminError(reason)
    file = -1
    try:
        file = os.open(DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.ioctl(file, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    except OSError as error:
        if file >= 0:
            os.close(file)
        raise AdminError(f"The TAP device {name} cannot be made: {error.strerror}.") from None
    return file


class Tap:
    """A ``NetworkInterface`` for ``port``.

    Parameters
    ----------
    file : from ``open_tap``, or anything else where each read and write is a frame; belongs to the tap from now on.
    """

    def __init__(self, port: NetworkPort, file: int) -> None:
        self.port, self._file = port, file
        self.statistics = TapStatistics()
        os.set_blocking(file, False)
        port.plug(self)

    def fileno(self) -> int:
        return self._file

    def receive(self, frame: bytes) -> None:
        if self._file < 0:
            return
        try:
            os.write(self._file, frame)
            self.statistics.frames_out += 1
        except OSError:
            self.statistics.dropped += 1

    def link_changed(self, up: bool) -> None:
        """MODEL: Linux sees a link always."""

    def wants_multicast(self, destination: bytes) -> bool:
        return True

    def poll(self, max_frames: int = 64) -> int:
        """Frames that Linux has sent go to the port now. Returns how many."""
        for count in range(max_frames):
            if self._file < 0:
                return count
            try:
                frame = os.read(self._file, READ_BYTES)
            except OSError:  # nothing there, or the interface is down
                return count
            if len(frame) < HEADER_BYTES:
                return count
            self.statistics.frames_in += 1
            self.port.transmit(frame)
        return max_frames

    def close(self) -> None:
        """The device is gone."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
