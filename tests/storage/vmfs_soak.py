"""Processes that share one volume and are killed at random: ``python -m tests.storage.vmfs_soak --kills 200``.

::

    coordinator ── starts ──> worker 0 .. 3: each a host on the LUN; its own folder /w0 .. /w3, all VMs in /vms
                └─ SIGKILL, again and again; a new worker (with a new UUID) goes on in the dead one's folder

    power-on     the VM's lock on the volume, and a lock of the operating system beside it as a witness: whoever gets
                 the one and not the other has found an object with two owners
    log          a worker writes down, outside of the volume, what it is about to do and that it is done: a new worker,
                 and the coordinator at the end, find every acknowledged file, and of what was under way all or nothing

The LUN: ``--lun file:IMAGE`` (flock stands in for RESERVE), or ``--lun MODULE:FUNCTION:ARGUMENT``, which is called as
``FUNCTION(ARGUMENT, NAME)`` in every process and returns a ``vilab.storage.vmfs.lun.Lun``. The image is checked at the
end.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib
import json
import os
import random
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

from vilab.errors import AdminError
from vilab.storage.disk_file import DiskFile
from vilab.storage.raw_disk import RawDisk
from vilab.storage.vmfs.errors import FileInUse, HostFenced, NoSuchFile, VmfsFull
from vilab.storage.vmfs.file import open_to_read
from vilab.storage.vmfs.host import Host
from vilab.storage.vmfs.layout import EXTENT_BYTES
from vilab.storage.vmfs.lun import FileLun, Lun
from vilab.storage.vmfs.mkfs import OVERHEAD_BYTES, make
from vilab.storage.vmfs.namespace import Namespace
from vilab.storage.vmfs.time import SECOND_NS, Timing, WallTime

TIMING = Timing(renew_ns=SECOND_NS // 2, dead_ns=5 * SECOND_NS, look_ns=SECOND_NS // 5, conflict_ns=60 * SECOND_NS)
FENCED, TWO_OWNERS, LOST = 3, 4, 5
VMS = 4
State = dict[str, str]
"""Name in the worker's folder to the digest of the content."""


def open_lun(spec: str, name: str) -> Lun:
    kind, _, rest = spec.partition(":")
    if kind == "file":
        return FileLun(Path(rest))
    function, _, argument = rest.partition(":")
    lun: Lun = getattr(importlib.import_module(kind), function)(argument, name)
    return lun


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def found_in(volume: Namespace, folder: str) -> State:
    files = [entry for entry in volume.list(folder) if not entry.is_directory]
    return {each.name: digest(open_to_read(volume, f"{folder}/{each.name}").read(0, each.size_bytes)) for each in files}


class Log:
    """What one folder's workers have promised, one JSON object a line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state: State = {}
        self.under_way: State | None = None
        """What the state becomes, if what was begun last happens."""
        for line in path.read_text().splitlines() if path.exists() else ():
            with contextlib.suppress(json.JSONDecodeError):  # the last line of a process that was killed
                record = json.loads(line)
                if "begin" in record:
                    self.under_way = record["begin"]
                else:
                    self.state, self.under_way = record["state"], None

    def fits(self, found: State) -> bool:
        return found in (self.state, self.under_way)

    def begin(self, becomes: State) -> None:
        self._write({"begin": becomes})

    def done(self, state: State) -> None:
        self.state, self.under_way = state, None
        self._write({"state": state})

    def _write(self, record: object) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")


# --- a worker ---------------------------------------------------------------------------------------------------------


class Worker:
    def __init__(self, spec: str, number: int, folder: Path, seed: int) -> None:
        self.lot = random.Random(seed)
        self.host = Host(open_lun(spec, f"w{number}-{seed}"), secrets.token_bytes(16), WallTime(), TIMING)
        self.home, self.folder = f"/w{number}", folder
        self.log = Log(folder / f"w{number}.log")
        self.contents: dict[str, bytes] = {}
        self.count = 0

    def run(self) -> int:
        self.settle()
        while True:
            self.host.beat()
            if self.lot.random() < 0.3:
                if not self.power_on():
                    return TWO_OWNERS
            else:
                self.change()

    def settle(self) -> None:
        """What the worker before left, once it is not alive any more: its open files can be had."""
        found = found_in(self.host, self.home)
        if not self.log.fits(found):
            print(f"{self.home}: found {found}, promised {self.log.state} or {self.log.under_way}", file=sys.stderr)
            raise SystemExit(LOST)
        for name in found:
            reader = open_to_read(self.host, f"{self.home}/{name}")
            self.contents[name] = reader.read(0, reader.size_bytes)
        self.log.done(found)

    def _state(self) -> State:
        return {name: digest(data) for name, data in self.contents.items()}

    def change(self) -> None:
        lot, names = self.lot, sorted(self.contents)
        kind = lot.choice(("create", "append", "append", "rename", "remove")) if names else "create"
        if kind == "create" and len(names) > 20:
            kind = "remove"
        after, name = dict(self.contents), lot.choice(names) if names else ""
        self.count += 1
        new = f"f{os.getpid()}-{self.count}"
        data = lot.randbytes(lot.choice((10, 600, 5000, 70_000, 300_000)))
        if kind == "create":
            after[new] = b""
        elif kind == "append":
            if len(after[name]) > 3_000_000:
                return
            after[name] += data
        elif kind == "rename":
            new = lot.choice([each for each in names if each != name] + [new])
            after[new] = after.pop(name)
        else:
            del after[name]
        self.log.begin({each: digest(content) for each, content in after.items()})
        try:
            self.do(kind, f"{self.home}/{name}", f"{self.home}/{new}", data)
        except VmfsFull:
            self.log.done(self._state())
            return
        self.contents = after
        self.log.done(self._state())

    def do(self, kind: str, path: str, new: str, data: bytes) -> None:
        if kind == "create":
            self.host.create(new).close()
        elif kind == "append":
            file = self.host.open_to_write(path)
            file.write(file.size_bytes, data)
            file.close()
        elif kind == "rename":
            self.host.rename(path, new)
        else:
            self.host.remove(path)

    def power_on(self) -> bool:
        """Take a VM's lock for a moment. ``False``: somebody else had it at the same time."""
        import fcntl

        number = self.lot.randrange(VMS)
        try:
            file = self.host.open_to_write(f"/vms/vm{number}.vmx")
        except FileInUse:
            return True
        with (self.folder / f"vm{number}.witness").open("a") as witness:
            deadline = time.monotonic() + 10  # one that was fenced finds out when it looks at its heartbeat next
            while True:
                try:
                    fcntl.flock(witness, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        print(f"vm{number} has two owners", file=sys.stderr)
                        return False
                    time.sleep(0.05)
                    self.host.beat()
            file.write(file.size_bytes % 1_000_000, b"%-15d\n" % os.getpid())
            time.sleep(self.lot.random() * 0.05)
            self.host.beat()
            fcntl.flock(witness, fcntl.LOCK_UN)
        file.close()
        return True


def work(spec: str, number: int, folder: Path, seed: int) -> int:
    try:
        return Worker(spec, number, folder, seed).run()
    except HostFenced:
        return FENCED


# --- the coordinator --------------------------------------------------------------------------------------------------


def new_image(image: Path, extents: int = 2) -> None:
    with contextlib.closing(DiskFile(image, create=True)) as file:
        file.resize(OVERHEAD_BYTES + extents * EXTENT_BYTES)
        make(RawDisk.of(file), int(time.time()), erase=False)


def prepare(spec: str, processes: int) -> None:
    host = Host(open_lun(spec, "prepare"), secrets.token_bytes(16), WallTime(), TIMING)
    host.mkdir("/vms")
    for number in range(VMS):
        host.create(f"/vms/vm{number}.vmx").close()
    for number in range(processes):
        host.mkdir(f"/w{number}")
    host.leave()


def soak(spec: str, folder: Path, processes: int, kills: int, seed: int, pause_s: float = 0.4) -> dict[str, int]:
    """Start, kill, start again; then look. Counts of what happened. ``AssertionError``: a promise was broken."""
    lot, counts = random.Random(seed), {"kills": 0, "fenced": 0, "changes": 0, "broken": 0}
    prepare(spec, processes)
    running: dict[int, subprocess.Popen[bytes]] = {}
    promised = dict.fromkeys(range(processes), 0)

    def log_bytes(number: int) -> int:
        path = folder / f"w{number}.log"
        return path.stat().st_size if path.exists() else 0

    def start(number: int) -> None:
        promised[number] = log_bytes(number)
        command = [sys.executable, "-m", "tests.storage.vmfs_soak", "--worker", str(number), "--lun", spec]
        command += ["--folder", str(folder), "--seed", str(lot.randrange(1 << 30))]
        running[number] = subprocess.Popen(command, cwd=Path(__file__).parents[2])

    try:
        for number in range(processes):
            start(number)
        while counts["kills"] < kills:
            victim, given_up = lot.randrange(processes), time.monotonic() + 60
            # Most are killed when they have got somewhere, some at any time, while they mount or wait for the dead.
            while lot.random() < 0.9 and log_bytes(victim) == promised[victim] and time.monotonic() < given_up:
                time.sleep(0.1)
            time.sleep(lot.random() * 2 * pause_s)
            for number, process in list(running.items()):
                if process.poll() is not None:
                    assert process.returncode == FENCED, f"worker {number} ended with {process.returncode}"
                    counts["fenced"] += 1
                    start(number)
            running[victim].send_signal(signal.SIGKILL)
            running[victim].wait()
            counts["kills"] += 1
            start(victim)
    finally:
        for process in running.values():
            process.kill()
            process.wait()
    host = Host(open_lun(spec, "end"), secrets.token_bytes(16), WallTime(), TIMING)
    counts["broken"] = host.recover()
    assert len(host.heartbeats()) == 1, "somebody has left a heartbeat that nobody has broken"
    for number in range(processes):
        log = Log(folder / f"w{number}.log")
        found = found_in(host, f"/w{number}")
        assert log.fits(found), f"/w{number}: {found} is neither {log.state} nor {log.under_way}"
        counts["changes"] += log.path.read_text().count('"state"') if log.path.exists() else 0
    for number in range(VMS):
        host.open_to_write(f"/vms/vm{number}.vmx").close()
    host.leave()
    return counts


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--lun", help="file:IMAGE (default: a new image in the folder), or MODULE:FUNCTION:ARGUMENT")
    options.add_argument("--folder", type=Path, help="for logs, witnesses and the image")
    options.add_argument("--image", type=Path, help="what is checked at the end, if the LUN is not a file")
    options.add_argument("--processes", type=int, default=3)
    options.add_argument("--kills", type=int, default=20)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--worker", type=int)
    chosen = options.parse_args()
    if chosen.worker is not None:
        try:
            return work(chosen.lun, chosen.worker, chosen.folder, chosen.seed)
        except (AdminError, NoSuchFile) as error:
            print(f"worker {chosen.worker}: {error}", file=sys.stderr)
            return 1
    folder = chosen.folder or Path("vmfs-soak")
    folder.mkdir(parents=True, exist_ok=True)
    image = chosen.image
    if chosen.lun is None:
        image = folder / "lun.img"
        new_image(image)
        chosen.lun = f"file:{image}"
    counts = soak(chosen.lun, folder, chosen.processes, chosen.kills, chosen.seed)
    if image is not None:
        from tests.storage.vmfs_judges import debugvmfs_hosts, is_clean

        is_clean(image)
        assert debugvmfs_hosts(image) == 0
    print(json.dumps(counts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
