"""Hosts as processes with two datastores, and a machine that writes numbered records while its disk moves.

::

    vilab host esx1 ──┬── ds1: a folder of this computer, or a VMFS volume behind an iSCSI target
    vilab host esx2 ──┴── ds2: a folder of this computer

    records   "put r7 record 107" and so on, each on the disk when the guest says so; 50 files, written over again
    noise     the rest of the disk, which nobody writes to: it has to be there in the end, byte for byte
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.host.storage_helpers import files_on
from tests.migration.host_processes import MB, SECRET, HostProcess, Terminal
from tests.migration.quick_host import QuickHost
from tests.storage.vmdk_judges import qemu_agrees
from tests.storage.vmfs_over_iscsi import target
from vilab.errors import AdminError
from vilab.host.host import Host
from vilab.host.vmx import parse, write
from vilab.host.vmx_disks import DiskSettings, add_disk
from vilab.migration import agent_requests as requests
from vilab.migration.agent_client import AgentClient
from vilab.migration.storage_vmotion import MethodName
from vilab.storage.disk_file import DiskFile
from vilab.storage.disks.disk_chain import open_chain
from vilab.storage.raw_disk import RawDisk
from vilab.storage.vmfs.file import open_to_read
from vilab.storage.vmfs.namespace import ReadOnlyVolume

NAMES, RECORD_FILES = ("ds1", "ds2"), 50
NOISE_FROM = 4 * MB
SHELL = b"shell> "
ON_DISK = "it is on the disk"
LEFT = {"web.vmx", "web.vmx.lck", "web.vmdk", "web-flat.vmdk", "web.vmsd", "web.vmsd.lock"}
"""What a machine's folder may consist of, with its swap file."""
LINES = {"displayName": "web", "memsize": "8", "vilab.image": "kernel-disk", "vilab.engine": "svm"}


class Site:
    """``san``: ds1 is a VMFS volume. ``kind``: of the disk."""

    def __init__(self, folder: Path, disk_mb: int = 16, kind: str = "vmfs", san: bool = False) -> None:
        self.folder, self.secret, self.image = folder, folder / "dc.key", folder / "lun.img"
        self.secret.write_bytes(SECRET)
        self.hosts: dict[str, HostProcess] = {}
        self._opened = contextlib.ExitStack()
        self.noise = random.Random(disk_mb).randbytes(disk_mb * MB - NOISE_FROM)
        self.local = NAMES[1:] if san else NAMES
        for name in self.local:
            (folder / name).mkdir()
        self._register(disk_mb, kind, san)
        self.portal = f"127.0.0.1:{self._opened.enter_context(target(self.image))}" if san else ""

    def _register(self, disk_mb: int, kind: str, san: bool) -> None:
        admin = Host(16, "admin")
        storage, where = admin.storage, "[ds1] web/web.vmx"
        if san:
            with self.image.open("wb") as file:
                file.truncate(320 * MB)
            path = storage.attach_image(self.image)
            storage.rescan()
            storage.create_vmfs(path, "ds1")
        else:
            storage.add_local("ds1", self.folder / "ds1")
        config = parse(b'.encoding = "UTF-8"\n', where)
        for key, value in LINES.items():
            config.set(key, value)
        storage.create_disk("[ds1] web/web.vmdk", disk_mb * MB, kind)
        mounted, _, place = storage.place("[ds1] web/web.vmdk")
        with open_chain(place, writable=True, files=mounted.files) as chain:
            chain.write(NOISE_FROM, self.noise)
        add_disk(config, DiskSettings("scsi0:0", "web.vmdk"))
        storage.write_file(where, write(config))
        admin.close()

    def start(self, name: str) -> HostProcess:
        stores = [word for each in self.local for word in ("--datastore", f"{each}={self.folder / each}")]
        command = [
            "host", "--name", name, "--listen", "127.0.0.1:0", "--secret", str(self.secret), "--memory", "40", *stores,
            *(("--iscsi", self.portal) if self.portal else ()),
        ]  # fmt: skip
        self.hosts[name] = QuickHost(name, command, self.folder)
        return self.hosts[name]

    def names(self, datastore: str) -> set[str]:
        """What is in the machine's folder there, without files that belong to nothing any more."""
        if datastore in self.local:
            folder = self.folder / datastore / "web"
            found = {each.name for each in folder.iterdir()} if folder.exists() else set()
        else:
            with self._volume() as volume:
                found = {each.name for each in volume.list("/web")} if volume.exists("/web") else set()
        return {name for name in found if not name.startswith(".vilab-") and not name.endswith(".vswp")}

    @contextlib.contextmanager
    def _volume(self) -> Iterator[ReadOnlyVolume]:
        """Past the target, which has the image for itself."""
        with contextlib.closing(DiskFile(self.image)) as file:
            yield ReadOnlyVolume(RawDisk.of(file))

    def has(self, datastore: str, name: str) -> bool:
        """Is that file in the machine's folder there?"""
        if datastore in self.local:
            return os.path.exists(self.folder / datastore / "web" / name)
        return name in self.names(datastore)

    def copied(self, datastore: str) -> float:
        """How much of the disk is there: 0 to 1, and more when all of it is."""
        if datastore not in self.local:
            return 0.5 if self.has(datastore, "web.vmx.moving") else 0.0
        for name in ("web-flat.vmdk", "web.vmdk"):
            with contextlib.suppress(OSError):
                return os.stat(self.folder / datastore / "web" / name).st_blocks * 512 / len(self.noise)
        return 0.0

    def fetch(self, datastore: str, at: Path) -> Path:
        """A copy of the machine's folder, for judges."""
        shutil.rmtree(at, ignore_errors=True)
        if datastore in self.local:
            shutil.copytree(self.folder / datastore / "web", at, ignore=shutil.ignore_patterns("*.vswp"))
        else:
            at.mkdir()
            with self._volume() as volume:
                for each in volume.list("/web"):
                    (at / each.name).write_bytes(open_to_read(volume, f"/web/{each.name}").read(0, each.size_bytes))
        return at

    def close(self) -> dict[str, int]:
        """What each host that was alive has ended with."""
        try:
            return {name: host.end() for name, host in self.hosts.items() if host.process.poll() is None}
        finally:
            for host in self.hosts.values():
                if host.process.poll() is None:
                    host.process.kill()
                    host.process.wait(20)
            self._opened.close()


class Mover(threading.Thread):
    """Asks for a move, and hears what comes of it: ``said``, or ``refused``. ``phases``: what was told meanwhile."""

    def __init__(self, host: HostProcess, to: str, method: MethodName) -> None:
        super().__init__()
        self._client, self._to, self._method = AgentClient(host.address, SECRET), to, method
        self.phases: list[str] = []
        self.said = self.refused = ""
        self.start()

    def run(self) -> None:
        try:
            self.said = self._client.move_storage("web", self._to, self._method, self._hear)
        except AdminError as error:
            self.refused = str(error)
        self._client.close()

    def _hear(self, progress: requests.Progress) -> None:
        self.phases.append(progress.phase)


class Records:
    """What the guest has been told to write, and what it has said is on the disk. ``first``: of this terminal."""

    def __init__(self, host: HostProcess, first: int = 0) -> None:
        self.terminal = Terminal(host, "web", SHELL)
        self.terminal.until_prompt()
        self.first = self.typed = first

    def type(self, count: int) -> None:
        """At once; the guest works on them one after the other."""
        numbers = range(self.typed, self.typed + count)
        lines = "".join(f"put r{number % RECORD_FILES} record {number}\n" for number in numbers)
        self.terminal.host.client.type("web", lines.encode())
        self.typed += count

    @property
    def on_disk(self) -> int:
        """So many are, as far as it has said."""
        return self.first + self.terminal.read().count(ON_DISK)


def records(count: int) -> dict[str, bytes]:
    """The files after so many."""
    return {f"r{number % RECORD_FILES}": f"record {number}\n".encode() for number in range(count)}


def judge(site: Site, good: str, least: int, most: int) -> int:
    """The machine is in this folder alone, with nothing of a move: its disk is sound, with what nobody has written to,
    and with the first so many records, which are counted."""
    (other,) = set(NAMES) - {good}
    assert site.names(other) == set(), site.names(other)
    names = site.names(good)
    assert {"web.vmx", "web.vmdk"} <= names <= LEFT, names
    folder = site.fetch(good, site.folder / "web")
    assert b"vilab.move" not in (folder / "web.vmx").read_bytes()
    with open_chain(folder / "web.vmdk") as chain:
        assert len(chain.links) == 1
        content = chain.read(0, chain.size_bytes)
        files = files_on(chain)
    assert content[NOISE_FROM:] == site.noise
    qemu_agrees(folder / "web.vmdk", content)
    count = max((int(text.split()[1]) for text in files.values()), default=-1) + 1
    assert files == records(count)
    assert least <= count <= most
    return count
