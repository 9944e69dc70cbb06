"""Hosts as processes: an iSCSI target with one VMFS volume, ``vilab host`` as often as wanted, and who talks to them.

::

    vilab iscsi-target ── [san1] ──┬── vilab host esx1 ──uplink──┐
                                   ├── vilab host esx2 ──uplink──┤ outside_network, in the test's process
                                   └── vilab host esx3           │
    AgentClient ── power-on, move, type, read ──> any of them    └── a client that counts answers

Every process listens at a port that was free, and is ended by its number.
"""

from __future__ import annotations

import contextlib
import re
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.storage.vmfs_over_iscsi import target
from vilab.errors import AdminError
from vilab.guests import debian_root
from vilab.host.host import Host
from vilab.host.vmx import parse, write
from vilab.host.vmx_disks import DiskSettings, add_disk
from vilab.migration.agent_client import AgentClient

MB = 1 << 20
SECRET = b"what all hosts of this datacenter know"
BOOT_S = 240.0


class HostProcess:
    """One ``vilab host``."""

    def __init__(self, name: str, command: Sequence[str], folder: Path) -> None:
        self.name, self.complaints = name, folder / f"{name}.err"
        with self.complaints.open("ab") as complaints:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=complaints, text=True)
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        assert " listens at " in said, (said, self.complaints.read_text())
        self.address = said.split(" listens at ")[1].strip().removesuffix(".")
        self.tls: ssl.SSLContext | None = None
        """For who calls it."""
        self._client: AgentClient | None = None

    @property
    def client(self) -> AgentClient:
        if self._client is None:
            self._client = AgentClient(self.address, SECRET, tls=self.tls)
        return self._client

    def names(self) -> dict[str, str]:
        """Machine -> why it does not run, empty if it does."""
        return {machine.name: machine.stopped for machine in self.client.machines()}

    def forget_client(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def processor_s(self) -> float:
        """What it has used so far, of all processors."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """As a power cut does it."""
        self.forget_client()
        self.process.kill()
        self.process.wait(20)

    def end(self) -> int:
        """As an administrator does it; the exit status."""
        self.forget_client()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


class Site:
    """A folder with everything, the target, and the hosts by name."""

    def __init__(self, folder: Path, volume_mb: int = 320) -> None:
        self.folder, self.image, self.secret = folder, folder / "lun.img", folder / "dc.key"
        self.secret.write_bytes(SECRET)
        with self.image.open("wb") as file:
            file.truncate(volume_mb * MB)
        self._admin = Host(16, "admin")
        self._admin.storage.create_vmfs(self._on_image(), "san1")
        self.hosts: dict[str, HostProcess] = {}
        self._opened = contextlib.ExitStack()
        self.portal = ""

    def _on_image(self) -> str:
        path = self._admin.storage.attach_image(self.image)
        self._admin.storage.rescan()
        return path

    def register(self, name: str, disk_mb: int, **settings: str) -> str:
        """A machine's files, before ``open``. ``settings``: ``vilab_image`` is ``vilab.image``."""
        where, storage = f"[san1] {name}/{name}.vmx", self._admin.storage
        config = parse(b'.encoding = "UTF-8"\n', where)
        for key, value in {"displayName": name, **settings}.items():
            config.set(key.replace("_", "."), value)
        storage.create_disk(where.replace(".vmx", ".vmdk"), disk_mb * MB)
        add_disk(config, DiskSettings("scsi0:0", f"{name}.vmdk"))
        storage.write_file(where, write(config))
        return where

    def open(self) -> None:
        """From now on the volume is reached by iSCSI only."""
        self._admin.close()
        self.portal = f"127.0.0.1:{self._opened.enter_context(target(self.image))}"

    def start(self, name: str, memory_mb: int = 64, *more: str) -> HostProcess:
        host = HostProcess(name, self.command(name, memory_mb, *more), self.folder)
        self.hosts[name] = host
        return host

    def command(self, name: str, memory_mb: int, *more: str) -> list[str]:
        return [
            sys.executable, "-m", "vilab.cli", "host", "--name", name, "--listen", "127.0.0.1:0", "--secret",
            str(self.secret), "--memory", str(memory_mb), "--iscsi", self.portal, *more,
        ]  # fmt: skip

    def close(self) -> dict[str, int]:
        """Hosts, then the target. What each host that had not ended before has ended with."""
        try:
            return {name: host.end() for name, host in self.hosts.items() if host.process.poll() is None}
        finally:
            for host in self.hosts.values():
                if host.process.poll() is None:
                    host.process.kill()
                    host.process.wait(20)
            self._opened.close()


@contextlib.contextmanager
def site(folder: Path, **options: Any) -> Iterator[Site]:
    made = Site(folder, **options)
    try:
        yield made
    finally:
        made.close()


class Terminal:
    """The serial line of a machine, wherever it is: ``said`` grows, and no byte is read twice."""

    def __init__(self, host: HostProcess, name: str, prompt: bytes = debian_root.PROMPT) -> None:
        self.host, self.name, self.prompt = host, name, prompt
        self.said = b""

    def read(self) -> str:
        """All that was said so far, as a terminal shows it."""
        more, total = self.host.client.read(self.name, len(self.said))
        self.said += more
        assert len(self.said) == total, "the machine has said more than its host has kept, or something was lost"
        return self.text

    @property
    def text(self) -> str:
        shown = self.said.replace(debian_root.ASKS_CURSOR, b"").replace(b"\r", b"")
        return shown.decode("latin-1")

    def until(self, pattern: str, after: int = 0, most_s: float = 60.0) -> str:
        """Wait until that is said; all that was said after ``after``."""
        end_s = time.monotonic() + most_s
        while not re.search(pattern, (text := self.read())[after:]):
            assert time.monotonic() < end_s, f"{pattern!r} is not said: {text[after:][-600:]!r}"
            time.sleep(0.02)
        return text[after:]

    def until_prompt(self, after: int = 0, most_s: float = 60.0) -> str:
        prompt = self.prompt.decode()
        return self.until(rf"(^|\n){re.escape(prompt)}$", after, most_s).removesuffix(prompt)

    def type(self, line: str) -> int:
        """Where in ``text`` the echo of it begins."""
        after = len(self.read())
        self.host.client.type(self.name, line.encode() + b"\n")
        return after

    def run(self, line: str, most_s: float = 60.0) -> str:
        """A command, and what it says up to the next prompt."""
        return self.until_prompt(self.type(line), most_s).partition("\n")[2]

    def succeed(self, line: str, most_s: float = 60.0) -> str:
        """The same for a command that has to end well."""
        text, _, status = self.run(f"{line}; echo =$?", most_s).rpartition("=")
        assert status == "0\n", (line, text, status)
        return text


def refusal(action: Any, *words: Any) -> str:
    """The sentence with which it is refused."""
    try:
        action(*words)
    except AdminError as error:
        return str(error)
    raise AssertionError("it was not refused")
