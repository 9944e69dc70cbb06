"""Commands on blocks: read, write, verify, write same, unmap, compare and write.

::

    lba                     lba + blocks                        total_blocks
     |<------- blocks ------->|                                      |
    -+------------------------+--------------------------------------+
     offset_bytes = lba * sector_bytes        lba < total, lba + blocks <= total, else 21/00

Every check is made before the first byte is touched. MODEL: there is no cache below that DPO or FUA on a read could
talk about; FUA on a write, and any write while the caching page has WCE off, flushes the device.
Source: SBC-3, chapter 5.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from vilab.protocols import ReadableBytes
from vilab.storage.scsi.request import Request
from vilab.storage.scsi.sense import ScsiError, Sense, SenseKey, bad_cdb, bad_data, illegal

MAX_TRANSFER_BYTES = 32 << 20
"""Of one READ, WRITE, VERIFY or ORWRITE; the block limits page tells it."""
MAX_WRITE_SAME_BYTES = 64 << 20
MAX_UNMAP_BLOCKS = 1 << 20
MAX_UNMAP_DESCRIPTORS = 256
MAX_COMPARE_BLOCKS = 255
_PIECE_BYTES = 1 << 20


@runtime_checkable
class AllocationMap(Protocol):
    """A disk that can say what it stores: whether the sector at an offset is, and for how many bytes that goes on."""

    def allocation(self, offset_bytes: int) -> tuple[bool, int]: ...


def _range(request: Request, blocks: int | None = None, limit_bytes: int = MAX_TRANSFER_BYTES) -> tuple[int, int]:
    """Offset and size in bytes of what the CDB names, if it is all there and not too much at once."""
    cdb = request.cdb
    lba = cdb.value("lba")
    if blocks is None:
        blocks = cdb.value("blocks")
    total = request.total_blocks
    if lba >= total or blocks > total - lba:
        raise illegal(0x2100)
    sector_bytes = request.device.sector_bytes
    if blocks * sector_bytes > limit_bytes:
        raise cdb.refuse("blocks")
    return lba * sector_bytes, blocks * sector_bytes


def _refuse_protection(request: Request) -> None:
    if request.cdb.raw[1] & 0xE0:
        raise bad_cdb(1, 7)


def _check_writable(request: Request) -> None:
    if request.device.read_only:
        raise ScsiError(Sense(SenseKey.DATA_PROTECT, 0x2700))
    if request.state.software_write_protect:
        raise ScsiError(Sense(SenseKey.DATA_PROTECT, 0x2702))


def _settle(request: Request, fua: bool) -> None:
    if fua or not request.state.write_cache:
        request.device.flush()


def read(request: Request) -> bytes:
    _refuse_protection(request)
    offset, size = _range(request)
    return request.device.read(offset, size) if size else b""


def read6(request: Request) -> bytes:
    offset, size = _range(request, request.cdb.raw[4] or 256)  # 0 blocks mean 256 (SBC-3, 5.10)
    return request.device.read(offset, size)


def _store(request: Request, offset: int, size: int) -> None:
    """Write what has come of ``size`` bytes, in whole blocks: a transport may have been told of fewer."""
    data = request.data
    if len(data) != size:
        size = min(size, len(data) // request.device.sector_bytes * request.device.sector_bytes)
        data = memoryview(data)[:size]
    if size:
        request.device.write(offset, data)


def write(request: Request) -> bytes:
    _refuse_protection(request)
    offset, size = _range(request)
    _check_writable(request)
    _store(request, offset, size)
    _settle(request, bool(request.cdb.raw[1] & 0x08))
    return b""


def write6(request: Request) -> bytes:
    offset, size = _range(request, request.cdb.raw[4] or 256)
    _check_writable(request)
    _store(request, offset, size)
    _settle(request, False)
    return b""


def _exactly(request: Request, size: int) -> bytes:
    """The data, if it is as much as the CDB speaks of: half a comparison is none."""
    if len(request.data) != size:
        raise bad_cdb(request.cdb.command.length - 2)
    return bytes(request.data)


def first_difference(ours: ReadableBytes, theirs: ReadableBytes) -> int:
    """Index of the first byte that differs; both have one length and do differ."""
    low, high = 0, len(ours)
    while high - low > 1:
        middle = (low + high) // 2
        if ours[low:middle] == theirs[low:middle]:
            low = middle
        else:
            high = middle
    return low


def _compare(request: Request, offset: int, expected: bytes) -> None:
    found = request.device.read(offset, len(expected)) if expected else b""
    if found != expected:
        lba = (offset + first_difference(found, expected)) // request.device.sector_bytes
        raise ScsiError(Sense(SenseKey.MISCOMPARE, 0x1D00, information=lba))


def write_and_verify(request: Request) -> bytes:
    _refuse_protection(request)
    bytchk = request.cdb.value("bytchk")
    if bytchk > 1:
        raise request.cdb.refuse("bytchk")
    offset, size = _range(request)
    _check_writable(request)
    _store(request, offset, size)
    request.device.flush()
    if bytchk == 1 and len(request.data) >= size:
        _compare(request, offset, bytes(request.data[:size]))
    return b""


def verify(request: Request) -> bytes:
    """BYTCHK 0: the blocks can be read. 1: they equal the data. 3: each equals the one block of data."""
    _refuse_protection(request)
    bytchk = request.cdb.value("bytchk")
    if bytchk == 2:
        raise request.cdb.refuse("bytchk")
    offset, size = _range(request)
    if not size:
        return b""
    if bytchk == 0:
        request.device.read(offset, size)
    elif bytchk == 1:
        _compare(request, offset, _exactly(request, size))
    else:
        sector_bytes = request.device.sector_bytes
        _compare(request, offset, _exactly(request, sector_bytes) * (size // sector_bytes))
    return b""


def write_same(request: Request) -> bytes:
    """One block, over and over. With UNMAP, zeros may be unmapped instead, as unmapped blocks read as zeros (LBPRZ);
    other data are written all the same. MODEL: only the 16-byte form takes UNMAP (LBPWS10 is 0)."""
    cdb = request.cdb
    _refuse_protection(request)
    if cdb.value("pbdata"):
        raise cdb.refuse("pbdata")
    if cdb.value("lbdata"):
        raise cdb.refuse("lbdata")
    if cdb.value("anchor"):
        raise cdb.refuse("anchor")
    _check_writable(request)
    unmap_asked = bool(cdb.value("unmap"))
    if unmap_asked and not (request.thin and cdb.command.length == 16):
        raise cdb.refuse("unmap")
    blocks = cdb.value("blocks") or max(request.total_blocks - cdb.value("lba"), 0)  # 0: to the end (WSNZ is 0)
    offset, size = _range(request, blocks, MAX_WRITE_SAME_BYTES)
    sector_bytes = request.device.sector_bytes
    no_data = "ndob" in cdb.command.fields and cdb.value("ndob")
    block = bytes(sector_bytes) if no_data else _exactly(request, sector_bytes)
    if unmap_asked and not any(block):
        request.device.unmap(offset, size)
    else:
        piece = block * (min(size, _PIECE_BYTES) // sector_bytes)
        for at in range(0, size, len(piece)):
            request.device.write(offset + at, memoryview(piece)[: size - at])
    _settle(request, False)
    return b""


def unmap(request: Request) -> bytes:
    """The data: 8 bytes of header, then 16 bytes a range: u64 lba, u32 blocks (SBC-3, 5.28.2)."""
    if request.cdb.value("anchor"):
        raise request.cdb.refuse("anchor")
    data = bytes(request.data[: request.cdb.value("parameter_bytes")])
    if not request.cdb.value("parameter_bytes"):
        return b""
    if len(data) < 8:
        raise illegal(0x1A00)
    count = int.from_bytes(data[2:4], "big") // 16
    if 8 + 16 * count > len(data):
        raise illegal(0x1A00)
    ranges = []
    for at in range(8, 8 + 16 * count, 16):
        lba, blocks = int.from_bytes(data[at : at + 8], "big"), int.from_bytes(data[at + 8 : at + 12], "big")
        if blocks > request.total_blocks - lba:  # no blocks at the very end are no error
            raise illegal(0x2100)
        ranges.append((lba, blocks))
    if count > MAX_UNMAP_DESCRIPTORS or sum(blocks for _, blocks in ranges) > MAX_UNMAP_BLOCKS:
        raise bad_data(2)
    _check_writable(request)
    sector_bytes = request.device.sector_bytes
    for lba, blocks in ranges:
        if blocks:
            request.device.unmap(lba * sector_bytes, blocks * sector_bytes)
    _settle(request, False)
    return b""


def compare_and_write(request: Request) -> bytes:
    """Twice the blocks come along: what must be there, and what to put there if it is. Nothing gets in between."""
    _refuse_protection(request)
    offset, size = _range(request)
    _check_writable(request)
    data = _exactly(request, 2 * size)
    if not size:
        return b""
    found = request.device.read(offset, size)
    if found != data[:size]:
        at = first_difference(found, data[:size])
        raise ScsiError(Sense(SenseKey.MISCOMPARE, 0x1D00, information=at))
    request.device.write(offset, data[size:])
    _settle(request, bool(request.cdb.value("fua")))
    return b""


def or_write(request: Request) -> bytes:
    _refuse_protection(request)
    offset, size = _range(request)
    _check_writable(request)
    data = _exactly(request, size)
    if size:
        found = int.from_bytes(request.device.read(offset, size), "little")
        request.device.write(offset, (found | int.from_bytes(data, "little")).to_bytes(size, "little"))
    _settle(request, bool(request.cdb.value("fua")))
    return b""


def pre_fetch(request: Request) -> bytes:
    """MODEL: nothing is fetched; GOOD (not CONDITION MET) says that the blocks are not all in a cache now."""
    _range(request, limit_bytes=request.device.size_bytes)
    return b""


def synchronize_cache(request: Request) -> bytes:
    """MODEL: the range is checked, then everything is flushed, at once even if IMMED is set."""
    _range(request, limit_bytes=request.device.size_bytes)
    request.device.flush()
    return b""


def get_lba_status(request: Request) -> bytes:
    """One descriptor: mapped (0) or deallocated (1), and for how long that goes on."""
    lba, total, device = request.cdb.value("lba"), request.total_blocks, request.device
    if lba >= total:
        raise illegal(0x2100)
    stored, size = True, device.size_bytes
    if isinstance(device, AllocationMap):
        stored, size = device.allocation(lba * device.sector_bytes)
    blocks = max(1, min(size // device.sector_bytes, total - lba, 0xFFFF_FFFF))
    descriptor = lba.to_bytes(8, "big") + blocks.to_bytes(4, "big") + bytes((0 if stored else 1, 0, 0, 0))
    return request.answer((4 + len(descriptor)).to_bytes(4, "big") + bytes(4) + descriptor)
