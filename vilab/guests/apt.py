"""Debian packages for another architecture, without touching the machine's own package state.

::

    the machine's sources and keys ──> private state (lists, status, cache) ──> signed index ──> .deb ──> files
                                       thrown away at the end                   checked by apt   dpkg-deb

apt checks every package against an index that the distribution has signed. An index that a mirror is just rewriting
does not matter as long as another one names the package.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from vilab.errors import AdminError

TOOLS = ("apt-get", "apt-cache", "dpkg-deb")
INSTEAD = "name the files that you have: --kernel FILE --busybox FILE"
SECONDS = 600


class PrivateApt:
    """Use with ``with``. Raises ``AdminError`` if the machine has no apt."""

    def __init__(self, architecture: str = "i386") -> None:
        absent = [tool for tool in TOOLS if shutil.which(tool) is None]
        if absent:
            raise AdminError(
                f"The guest comes from Debian's packages, and {' and '.join(absent)} "
                f"{'is' if len(absent) == 1 else 'are'} not on this machine; {INSTEAD}."
            )
        self._architecture = architecture

    def __enter__(self) -> PrivateApt:
        self._work = Path(tempfile.mkdtemp(prefix="vilab-apt-"))
        for folder in ("state/lists/partial", "cache/archives/partial", "deb"):
            (self._work / folder).mkdir(parents=True)
        (self._work / "state/status").touch()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        shutil.rmtree(self._work, ignore_errors=True)

    def _run(self, command: str, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        settings = {
            "APT::Architecture": self._architecture,
            "APT::Architectures::": self._architecture,
            "APT::Get::AllowUnauthenticated": "false",
            "APT::Sandbox::User": "root",
            "Acquire::AllowInsecureRepositories": "false",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
            "Dir::State": str(self._work / "state"),
            "Dir::State::status": str(self._work / "state/status"),
            "Dir::Cache": str(self._work / "cache"),
        }
        options = [f"-o{name}={value}" for name, value in settings.items()]
        try:
            return subprocess.run(
                [command, "-qq", *options, *arguments], cwd=cwd, capture_output=True, text=True, timeout=SECONDS,
                stdin=subprocess.DEVNULL, errors="replace",
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise AdminError(f"{command} {arguments[0]} did not end within {SECONDS} s; is the network slow?") from None

    def update(self) -> str:
        """Read the package indexes; returns what apt complained about, empty if nothing."""
        return _last_line(self._run("apt-get", "update").stderr)

    def dependency(self, package: str, pattern: str) -> str:
        """The package that ``package`` depends on and whose name matches ``pattern`` from end to end."""
        found = self._run("apt-cache", "depends", package)
        for name in re.findall(r"Depends: (\S+)", found.stdout):
            if re.fullmatch(pattern, name):
                return str(name)
        raise AdminError(
            f"No package index of this machine names {package} for {self._architecture} (Debian 12 is the last release "
            f"that has it){_because(found.stderr)}; {INSTEAD}."
        )

    def download(self, packages: Sequence[str]) -> dict[str, Path]:
        """The .deb files, verified by apt; package -> path."""
        folder = self._work / "deb"
        done = self._run("apt-get", "download", *packages, cwd=folder)
        found = {package: sorted(folder.glob(f"{package}_*.deb")) for package in packages}
        lacking = [package for package, files in found.items() if not files]
        if done.returncode or lacking:
            raise AdminError(
                f"{', '.join(lacking or packages)} could not be fetched{_because(done.stderr)}; try again later, or "
                f"{INSTEAD}."
            )
        return {package: files[0] for package, files in found.items()}

    def unpack(self, deb: Path) -> Path:
        """The files of a package, in a folder that goes with this object."""
        folder = self._work / "files" / deb.name
        folder.mkdir(parents=True)
        done = subprocess.run(["dpkg-deb", "-x", str(deb), str(folder)], capture_output=True, text=True)
        if done.returncode:
            raise AdminError(f"{deb.name} does not unpack{_because(done.stderr)}.")
        return folder


def version_of(deb: Path) -> str:
    """From the file name: name_version_architecture.deb."""
    return deb.name.split("_")[1].replace("%3a", ":")


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _because(stderr: str) -> str:
    said = _last_line(stderr).rstrip(".")
    return f" ({said})" if said else ""
