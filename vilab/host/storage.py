"""The storage of a host: what it sees, what is mounted under which name, and where a path leads.

::

    add_portal, add_adapter, attach_image ──rescan──> LUNs ──┬── VMFS volumes, mounted under their labels
                                                             └── raw device mappings
    add_nfs, add_local ───────────────────────────────────────── other datastores; "local" is always there

    "[datastore1] web/web.vmdk"  ──place──>  the datastore's files, and a path in them

Heartbeats and lock renewals keep the host's clock, or this computer's where the peers are other programs
(``storage_time``). One host is one member of a volume: its UUID and its name on file servers come from its name.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from vilab.clock import VirtualClock
from vilab.errors import AdminError
from vilab.events import EventLog
from vilab.host.datastore_path import DatastorePath, parse_path
from vilab.host.host_files import HostFiles
from vilab.host.luns import Adapter, HostLuns
from vilab.host.mounted import DatastoreInfo, Mounted, MountedLocal, MountedNfs, MountedVmfs
from vilab.host.software_initiator import Dial
from vilab.host.storage_time import WALL, Keeps, VolumeTime
from vilab.storage.block import SECTOR_BYTES, BlockError
from vilab.storage.datastore import LocalDatastore
from vilab.storage.disk_file import Files
from vilab.storage.disks.rdm import create_mapping
from vilab.storage.disks.vmdk_create import Space, create
from vilab.storage.iscsi.chap import Credentials
from vilab.storage.luns.paths import MultipathLun
from vilab.storage.nfs.datastore import NfsDatastore
from vilab.storage.nfs.health import HeartbeatSettings
from vilab.storage.nfs.lock import LockSettings, Owner
from vilab.storage.nfs.mount import DialPort, mount, parse_url
from vilab.storage.vmfs import mkfs as vmfs_mkfs
from vilab.storage.vmfs.errors import VmfsDamage
from vilab.storage.vmfs.time import Timing
from vilab.storage.vmfs.volume import Volume

LOCAL = "local"
MOST_BYTES = 64 << 20


class Rescanned(msgspec.Struct, frozen=True):
    """What a rescan has found that was not there before, and what it could not look at, in sentences."""

    luns: tuple[str, ...]
    datastores: tuple[str, ...]
    problems: tuple[str, ...]


class StorageOptions(msgspec.Struct, frozen=True):
    """``directory``: of the datastore ``local``; a temporary one, once it is needed, if it is not given.

    ``keeps``: whose time VMFS heartbeats and NFS locks keep: see ``storage_time``. ``uuid``: the host's 16 bytes, made
    from its name if they are not given; no other host on the same volume may have them. ``timing``, ``locks``,
    ``heartbeat``: the advanced settings of VMFS, NFS locks and NFS.
    """

    directory: Path | None = None
    keeps: Keeps = "virtual"
    uuid: bytes | None = None
    timing: Timing | None = None
    locks: LockSettings | None = None
    heartbeat: HeartbeatSettings | None = None


class HostStorage:
    """``clock``: the host's; hosts that share LUNs in one program share it."""

    def __init__(self, host: str, clock: VirtualClock, log: EventLog, options: StorageOptions | None = None) -> None:
        self.options = options or StorageOptions()
        self.host, self.log = host, log
        self.clock = WALL if self.options.keeps == "wall" else clock
        self.uuid = self.options.uuid or hashlib.sha256(f"host {host}".encode()).digest()[:16]
        self.adapters = HostLuns(host, f"iqn.2006-06.org.example:{host}", self.clock, log)
        self.own_files = HostFiles(self.adapters.luns)
        """Of this computer, wherever they are."""
        self._directory = self.options.directory
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._mounted: dict[str, Mounted] = {}

    @property
    def luns(self) -> dict[str, MultipathLun]:
        return self.adapters.luns

    @property
    def owner(self) -> Owner:
        return Owner(self.host, self.uuid)

    # --- devices ------------------------------------------------------------------------------------------------------

    def attach_image(self, image: Path) -> str:
        """A file as a disk inside of this host; the name of its path. Then rescan."""
        return self.adapters.local.attach(image)

    def add_adapter(self, adapter: Adapter) -> None:
        """A Fibre Channel adapter. Then rescan."""
        self.adapters.add_adapter(adapter)

    def add_portal(
        self, portal: str, target: str | None = None, credentials: Credentials | None = None,
        mutual: Credentials | None = None, dial: Dial | None = None,
    ) -> list[str]:  # fmt: skip
        """iSCSI targets behind ``HOST:PORT``; all that it offers, or one. Then rescan."""
        return self.adapters.iscsi.add_portal(portal, target, credentials, mutual, dial)

    def rescan(self) -> Rescanned:
        """Look for LUNs, and mount the volumes on them that are not mounted. Nothing that is in use is disturbed."""
        before, mounted = set(self.luns), set(self._mounted)
        problems = self.adapters.rescan()
        for each in list(self._mounted.values()):
            if isinstance(each, MountedVmfs) and each.state == "fenced" and not each.users:
                self.remove(each.name)  # to become a member anew
        taken = {each.lun for each in self._mounted.values() if isinstance(each, MountedVmfs)}
        for lun in list(self.luns.values()):
            if lun not in taken:
                problems += self._mount_found(lun)
        return Rescanned(
            tuple(name for name in self.luns if name not in before),
            tuple(name for name in self._mounted if name not in mounted),
            tuple(problems),
        )

    def _mount_found(self, lun: MultipathLun) -> list[str]:
        try:
            label = Volume(lun).label
        except VmfsDamage as error:
            return [f"{lun.identity.name}: {error}"]
        except BlockError as error:
            return [f"{lun.identity.name}: {error}"]
        except AdminError:
            return []  # no volume
        try:
            self._mount(self._free_name(label), lun)
        except AdminError as error:
            return [f"{label} on {lun.identity.name} was not mounted: {error}"]
        return []

    def _free_name(self, label: str) -> str:
        name, number = label, 0
        while name in self._mounted or name == LOCAL:
            number += 1
            name = f"{label} ({number})"
        return name

    # --- datastores ---------------------------------------------------------------------------------------------------

    def create_vmfs(self, lun: str, name: str, erase: bool = False) -> DatastoreInfo:
        """A new volume on a LUN, mounted. ``lun``: as ``HostLuns.find`` takes it. ``erase``: whatever is on it."""
        self._check_free(name)
        found = self.adapters.find(lun)
        for each in self._mounted.values():
            if isinstance(each, MountedVmfs) and each.lun is found:
                raise AdminError(f"{found.identity.name} was not formatted: the datastore {each.name} is on it.")
        if not erase and _has_volume(found):
            raise AdminError(f"{found.identity.name} was not formatted: there is a volume on it. Rescan to mount it.")
        vmfs_mkfs.make(found, VolumeTime(self.clock).unix_s(), name)
        return self._mount(name, found).info()

    def _mount(self, name: str, lun: MultipathLun) -> Mounted:
        mounted = MountedVmfs(name, lun, self.uuid, self.clock, self.luns, self.options.timing, self.log)
        self._mounted[name] = mounted
        return mounted

    def add_local(self, name: str, folder: Path) -> DatastoreInfo:
        """A folder of this computer."""
        self._check_free(name)
        self._mounted[name] = MountedLocal(LocalDatastore(folder, name), self.luns)
        return self._mounted[name].info()

    def add_nfs(self, name: str, url: str, dial: DialPort | None = None, timeout_s: float = 5.0) -> DatastoreInfo:
        """An export: ``nfs://server/export``. ``dial``: another way to it than TCP."""
        self._check_free(name)
        client = mount(parse_url(url), dial, timeout_s=timeout_s)
        datastore = NfsDatastore(name, client, self.clock, self.log, self.options.heartbeat)
        self._mounted[name] = MountedNfs(datastore, url, self.owner, self.luns, self.options.locks)
        return self._mounted[name].info()

    def _check_free(self, name: str) -> None:
        if name in self._mounted or name == LOCAL:
            raise AdminError(f"{self.host} has a datastore {name!r} already; give the new one another name.")
        if not name.strip() or any(each in name for each in "[]/"):
            raise AdminError(f"{name!r} cannot be the name of a datastore: it has to be some text without [ ] and /.")

    def remove(self, name: str) -> None:
        """Give a datastore up; what is on it stays there. Refused while a machine uses it."""
        mounted = self.mounted(name)
        if mounted.users:
            users = ", ".join(user.name for user in mounted.users)
            raise AdminError(f"{name} was not removed: it has open files of {users}. Power off first.")
        mounted.close()
        del self._mounted[name]

    def datastores(self) -> list[DatastoreInfo]:
        """All of them, ``local`` first."""
        self.mounted(LOCAL)
        return [self._mounted[name].info() for name in (LOCAL, *self._others())]

    def describe(self) -> str:
        """LUNs with their paths, and datastores, as a table."""
        rows = [self.adapters.describe(), ""]
        for info in self.datastores():
            free, capacity = info.free_bytes or 0, info.capacity_bytes or 0
            size = f"{free >> 20} of {capacity >> 20} MB free" if capacity else ""
            rows.append(f"{info.name:16} {info.kind:6} {info.state:9} {size:28} {', '.join(info.users)}".rstrip())
        return "\n".join(rows)

    def mounted(self, name: str) -> Mounted:
        """``AdminError`` where there is none with this name."""
        if name == LOCAL and name not in self._mounted:
            self._mounted[LOCAL] = MountedLocal(LocalDatastore(self._local_directory(), LOCAL), self.luns)
        found = self._mounted.get(name)
        if found is None:
            raise AdminError(f"{self.host} has no datastore {name!r}; it has {', '.join([LOCAL, *self._others()])}.")
        return found

    def _others(self) -> list[str]:
        return sorted(name for name in self._mounted if name != LOCAL)

    def _local_directory(self) -> Path:
        if self._directory is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="vilab-local-")
            self._directory = Path(self._temporary.name)
        return self._directory

    @contextlib.contextmanager
    def stepwise(self, steps: bool = True) -> Iterator[None]:
        """In between, locks of a host that may be dead are not waited for: whatever needs them raises ``StillHeld``,
        and who asks again, often enough, goes on watching that host. ``False``: they are waited for after all."""
        with contextlib.ExitStack() as stack:
            for each in self._mounted.values():
                stack.enter_context(each.stepwise(steps))
            yield

    # --- files --------------------------------------------------------------------------------------------------------

    def place(self, text: str) -> tuple[Mounted, DatastorePath, Path]:
        """The datastore of ``[name] path``, the path, and what stands for it in the datastore's ``files``."""
        path = parse_path(text)
        mounted = self.mounted(path.datastore)
        if mounted.state == "fenced":
            raise AdminError(f"The datastore {mounted.name} is lost to this host: rescan, to mount it again.")
        return mounted, path, mounted.root / path.path

    def read_file(self, text: str) -> bytes:
        """All of a file. ``AdminError`` for one that is too large for that."""
        mounted, path, _ = self.place(text)
        file = mounted.datastore.open(path.path)
        try:
            if file.size_bytes > MOST_BYTES:
                raise AdminError(f"{path} has {file.size_bytes} bytes, too many to be read at once.")
            return file.read_some(0, file.size_bytes)
        finally:
            file.close()

    def write_file(self, text: str, content: bytes) -> None:
        """A file with this content, in the place of what is there; its folder is made if it is missing."""
        mounted, path, place = self.place(text)
        self._make_folder(mounted, path)
        mounted.files.replace(place, content)

    def create_disk(self, text: str, size_bytes: int, create_type: str = "vmfs", space: Space = "thin") -> None:
        """A new virtual disk; its folder is made if it is missing."""
        self._create(
            text, lambda place, files: create(place, size_bytes // SECTOR_BYTES, create_type, space, files=files)
        )

    def create_rdm(self, text: str, lun: str, physical: bool = False) -> None:
        """A raw device mapping of a LUN. Refused for one that has a datastore of this host on it."""
        found = self.adapters.find(lun)
        for each in self._mounted.values():
            if isinstance(each, MountedVmfs) and each.lun is found:
                raise AdminError(f"{found.identity.name} was not mapped: the datastore {each.name} is on it.")
        self._create(text, lambda place, files: create_mapping(place, found.identity.name, found, physical, files))

    def _create(self, text: str, make: Callable[[Path, Files], object]) -> None:
        mounted, path, place = self.place(text)
        self._make_folder(mounted, path)
        make(place, mounted.files)

    @staticmethod
    def _make_folder(mounted: Mounted, path: DatastorePath) -> None:
        folder = ""
        for name in path.folder.split("/") if path.folder else ():
            folder = f"{folder}/{name}" if folder else name
            if not mounted.datastore.exists(folder):
                mounted.datastore.make_folder(folder)

    # --- the end ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Leave every volume, unmount every export. Raises ``AdminError`` for the first that could not be left."""
        problems: list[AdminError] = []
        for each in self._mounted.values():
            try:
                each.close()
            except AdminError as error:
                problems.append(error)
        self._mounted.clear()
        self.adapters.close()
        if self._temporary is not None:
            self._temporary.cleanup()
        if problems:
            raise problems[0]

    def cut_power(self) -> None:
        """No heartbeat and no byte more; what others see is a host that has died."""
        for each in self._mounted.values():
            each.cut_power()
        self._mounted.clear()
        self.own_files.cut_power()
        self.adapters.cut_power()


def _has_volume(lun: MultipathLun) -> bool:
    try:
        Volume(lun)
    except VmfsDamage:
        return True
    except BlockError:
        raise
    except AdminError:
        return False
    return True
