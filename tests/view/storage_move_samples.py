"""Moves as a log has them, made by hand: a disk of four squares, a guest that writes before and behind the copy."""

from __future__ import annotations

from vilab.events import Event
from vilab.migration.storage_vmotion_events import (
    StorageBytesCopied,
    StorageMoveBegan,
    StorageMoveEnded,
    StorageRoundBegan,
    StorageRoundCopied,
    StorageSwitched,
)
from vilab.view.storage_move_run import FolderChanged, GuestWrote

K = 1024
SQUARE = 64 * K
OLD, NEW = "[san1] web/web.vmx", "[nfs1] web/web.vmx"
FOLDER = ("web.vmdk", "web.vmx")


def wrote(at: int, offset: int, size: int = 4 * K) -> Event:
    return GuestWrote(at, "web", offset, size)


def files(at: int, source: tuple[str, ...], destination: tuple[str, ...] = ()) -> Event:
    return FolderChanged(at, "web", source, destination)


def copied(at: int, number: int, square: int, size: int = SQUARE, offset: int = 0) -> Event:
    return StorageBytesCopied(at, "web", "scsi0:0", number, square * SQUARE + offset, size, size)


def began(method: str, squares: int = 4) -> list[Event]:
    return [
        files(0, FOLDER), StorageMoveBegan(0, "web", OLD, NEW, method, 1, squares * SQUARE),
        files(0, (*FOLDER, "web.vmx.copying")), files(0, (*FOLDER, "web.vmx.copying"), ("web.vmx.moving",)),
        files(0, (*FOLDER, "web.vmx.copying"), ("web.vmdk", "web.vmx.moving")),
    ]  # fmt: skip


def switched(at: int, total: int, rounds: int, stopped: int, disks: tuple[str, ...] = ("web.vmdk",)) -> list[Event]:
    new = ("web.vmdk", "web.vmx")
    return [
        files(at, (*disks, "web.vmx", "web.vmx.switching"), ("web.vmdk", "web.vmx.moving")),
        files(at, (*disks, "web.vmx", "web.vmx.switching"), new), StorageSwitched(at, "web", OLD, NEW, stopped),
        files(at, (*disks, "web.vmx.switching"), new), files(at, ("web.vmx.switching",), new), files(at, (), new),
        StorageMoveEnded(at, "web", True, "", "", total, rounds, at),
    ]  # fmt: skip


def changed_blocks() -> list[Event]:
    """Square 0 is written behind the copy, square 3 ahead of it; then 0 once more, while round 2 is copied."""
    return [
        *began("changed blocks"), StorageRoundBegan(1, "web", 1, 4 * SQUARE), copied(1, 1, 0),
        wrote(2, 0), wrote(2, 3 * SQUARE), copied(2, 1, 1), copied(3, 1, 2), copied(4, 1, 3),
        StorageRoundCopied(5, "web", 1, 4 * SQUARE, SQUARE), StorageRoundBegan(5, "web", 2, SQUARE), copied(5, 2, 0),
        wrote(6, 8 * K), StorageRoundCopied(6, "web", 2, SQUARE, SQUARE), StorageRoundBegan(6, "web", 3, SQUARE),
        copied(6, 3, 0), StorageRoundCopied(6, "web", 3, SQUARE, 0, stopped=True),
        *switched(6, 6 * SQUARE, 3, SQUARE),
    ]  # fmt: skip


def snapshot() -> list[Event]:
    """The same guest with redo logs: what is ahead of the copy goes into them as well."""
    one = ("web-000001.vmdk", *FOLDER, "web.vmx.copying")
    two = ("web-000001.vmdk", "web-000002.vmdk", *FOLDER, "web.vmx.copying")
    new = ("web.vmdk", "web.vmx.moving")
    return [
        *began("snapshot"), files(1, one, new), StorageRoundBegan(1, "web", 1, 4 * SQUARE), copied(1, 1, 0),
        wrote(2, 0), wrote(2, 3 * SQUARE), copied(2, 1, 1), copied(3, 1, 2), copied(4, 1, 3),
        StorageRoundCopied(5, "web", 1, 4 * SQUARE, 8 * K), files(5, two, new),
        StorageRoundBegan(5, "web", 2, 8 * K), copied(5, 2, 0, 4 * K), copied(5, 2, 3, 4 * K),
        wrote(6, 8 * K), StorageRoundCopied(6, "web", 2, 8 * K, 4 * K), StorageRoundBegan(6, "web", 3, 4 * K),
        copied(6, 3, 0, 4 * K, 8 * K), StorageRoundCopied(6, "web", 3, 4 * K, 0, stopped=True),
        *switched(6, 4 * SQUARE + 12 * K, 3, 4 * K, ("web-000001.vmdk", "web-000002.vmdk", "web.vmdk")),
    ]  # fmt: skip


def given_up() -> list[Event]:
    """The destination is full in the middle of round 1."""
    why = "web was not moved to nfs1 and runs on where it is: there is no space left on nfs1."
    return [
        *began("changed blocks"), StorageRoundBegan(1, "web", 1, 4 * SQUARE), copied(1, 1, 0), wrote(2, 0),
        files(2, (*FOLDER, "web.vmx.staying"), ("web.vmdk", "web.vmx.moving")), files(2, (*FOLDER, "web.vmx.staying")),
        StorageMoveEnded(2, "web", False, why, "", SQUARE, 1, 2), files(2, FOLDER),
    ]  # fmt: skip


ALL = {"changed blocks": changed_blocks, "snapshot": snapshot, "given up": given_up}
