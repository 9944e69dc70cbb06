"""nfs-ganesha on a folder, in namespaces of its own; and other people's NFS clients in there.

::

    network and mount namespace: lo, an empty /run
        holder      keeps the namespaces
        rpcbind     111            nfs-ganesha does not start without
        ganesha     22049 (NFS), 22050 (MOUNT)  ──> VFS ──> a folder on this machine's disk
    the test: its sockets are made inside (``Ganesha.dial``), the rest of it stays outside

Everything is ended by its process id; the kernel does that too should the test's process die.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests.tools import missing, require_tool
from vilab.storage.nfs.client import NfsClient
from vilab.storage.nfs.link import Dial, Link, LinkLost, TcpLink
from vilab.storage.nfs.mount import Address, mount

GANESHA = "the Debian packages nfs-ganesha and nfs-ganesha-vfs"
LIBNFS = "the Debian package libnfs-utils"
NFS_PORT, MOUNT_PORT = 22049, 22050
CLONE_NEWNET = 0x4000_0000
PR_SET_PDEATHSIG = 1

CONFIG = """
NFS_CORE_PARAM {{ Protocols = 3; NFS_Port = {nfs}; MNT_Port = {mount}; Enable_NLM = false; Enable_RQUOTA = false;
    mount_path_pseudo = true; }}
EXPORT_DEFAULTS {{ Access_Type = RW; Squash = No_Root_Squash; SecType = sys; Protocols = 3; Transports = TCP; }}
EXPORT {{ Export_Id = 1; Path = {folder}; Pseudo = /export; FSAL {{ Name = VFS; }} }}
"""
PREPARE = """
mount -t tmpfs tmpfs /run && mkdir -p /run/rpcbind /run/ganesha && chmod 777 /run/rpcbind
mkdir -p /var/lib/nfs/ganesha && mount -t tmpfs tmpfs /var/lib/nfs/ganesha
ip link set lo up && echo ready && exec sleep infinity
"""


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _stopped(thread: Path) -> bool:
    return (thread / "stat").read_text().rpartition(")")[2].split()[0] == "T"


class Ganesha:
    """A server that can be killed, started again, and stopped in the middle of what it does."""

    def __init__(self, folder: Path, work: Path) -> None:
        self.folder, self.work = folder, work
        self.processes: list[subprocess.Popen[bytes]] = []
        self.server: subprocess.Popen[bytes] | None = None
        self.config = work / "ganesha.conf"
        self.config.write_text(CONFIG.format(nfs=NFS_PORT, mount=MOUNT_PORT, folder=folder))
        self.log = work / "ganesha.log"

    def open(self) -> None:
        command = [require_tool("unshare", "util-linux"), "-n", "-m", "bash", "-c", PREPARE]
        self.holder = self._start(command, stdout=subprocess.PIPE)
        assert self.holder.stdout is not None
        if self.holder.stdout.readline() != b"ready\n":
            missing("A namespace of the test's own", "root's rights, which this run has not")
        self._start(self.inside("rpcbind", "-w", "-f"))
        self.start()

    def inside(self, *command: str) -> list[str]:
        return [require_tool("nsenter", "util-linux"), "-t", str(self.holder.pid), "-n", "-m", "--", *command]

    def _start(self, command: list[str], stdout: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        log = (self.work / "processes.log").open("ab")
        with log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=log, preexec_fn=_die_with_parent
            )
        self.processes.append(process)
        return process

    def start(self) -> None:
        """Until it answers."""
        words = ("-F", "-L", str(self.log), "-f", str(self.config), "-p", str(self.work / "pid"), "-N", "NIV_EVENT")
        for _ in range(3):  # it may come before rpcbind does
            self.server = self._start(self.inside("ganesha.nfsd", *words))
            for _ in range(200):
                if self.server.poll() is not None:
                    break
                with contextlib.suppress(LinkLost):
                    self.dial(NFS_PORT)(1.0).close()
                    self.dial(MOUNT_PORT)(1.0).close()
                    return
                time.sleep(0.05)
        raise AssertionError(f"nfs-ganesha does not start:\n{self.log.read_text()[-3000:]}")

    def kill(self) -> None:
        """As a power cut would: nothing is said to anybody."""
        assert self.server is not None
        self.server.kill()
        self.server.wait()

    def freeze(self) -> None:
        """It holds its connections and answers nothing."""
        assert self.server is not None
        self.server.send_signal(signal.SIGSTOP)
        threads = Path(f"/proc/{self.server.pid}/task")
        while any(not _stopped(thread) for thread in threads.iterdir()):
            time.sleep(0.01)

    def thaw(self) -> None:
        assert self.server is not None
        self.server.send_signal(signal.SIGCONT)

    def close(self) -> None:
        for process in reversed(self.processes):
            if process.poll() is None:
                process.kill()
        for process in self.processes:
            process.wait(10)
            if process.stdout is not None:
                process.stdout.close()

    # --- clients ------------------------------------------------------------------------------------------------------

    def dial(self, port: int) -> Dial:
        return partial(self._dial, port)

    def _dial(self, port: int, timeout_s: float) -> Link:
        """A socket belongs to the namespace in which its thread was when it was made."""
        found: list[Link | LinkLost] = []

        def run() -> None:
            libc = ctypes.CDLL(None, use_errno=True)
            number = os.open(f"/proc/{self.holder.pid}/ns/net", os.O_RDONLY)
            try:
                assert libc.setns(number, CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
                found.append(TcpLink("127.0.0.1", port, timeout_s))
            except LinkLost as error:
                found.append(error)
            finally:
                os.close(number)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        if not found or isinstance(found[0], LinkLost):
            raise found[0] if found else LinkLost("the namespace is gone")  # type: ignore[misc]
        return found[0]

    def mount(self, timeout_s: float = 5.0) -> NfsClient:
        return mount(Address("127.0.0.1", "/export", NFS_PORT, MOUNT_PORT), self.dial, timeout_s=timeout_s)

    def url(self, path: str) -> str:
        return f"nfs://127.0.0.1/export/{path}?version=3&nfsport={NFS_PORT}&mountport={MOUNT_PORT}"

    def run(self, *command: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(self.inside(*command), capture_output=True, timeout=60)

    def nfs(self, tool: str, *words: str) -> bytes:
        """What ``nfs-ls``, ``nfs-cat`` or ``nfs-cp`` prints."""
        done = self.run(require_tool(tool, LIBNFS), *words)
        assert done.returncode == 0, (done.stdout, done.stderr)
        return done.stdout

    def names(self, folder: str = "") -> set[str]:
        """The names that ``nfs-ls`` sees."""
        return {line.split()[-1].decode() for line in self.nfs("nfs-ls", self.url(folder)).splitlines() if line}


@contextlib.contextmanager
def ganesha(work: Path) -> Iterator[Ganesha]:
    """A running server; skips (or fails, where tools are required) without its programs."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        missing("A network namespace", "root on Linux")
    for tool, package in (("ganesha.nfsd", GANESHA), ("rpcbind", "the Debian package rpcbind"), ("ip", "iproute2")):
        require_tool(tool, package)
    folder = work / "volume"
    folder.mkdir()
    server = Ganesha(folder, work)
    try:
        server.open()
        yield server
    finally:
        server.close()
