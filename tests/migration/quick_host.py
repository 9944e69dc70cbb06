"""``vilab host`` as processes that are there at once: forked from one that has imported everything.

::

    test ── forkserver: Python, and all modules ──fork──> vilab host esx1
                                                └─fork──> vilab host esx2 ...

Each is a process of its own, with files, sockets and locks of its own. They take others on VMFS for dead after 6 s.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.migration.host_processes import HostProcess
from vilab.cli import main
from vilab.commands import host
from vilab.storage.vmfs.time import Timing

TIMING = Timing(renew_ns=500_000_000, dead_ns=6_000_000_000, look_ns=500_000_000)
START_S = 60.0

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([__name__])


def serve(arguments: Sequence[str], said: Path, complaints: Path, temporary: Path) -> None:
    """In the process itself."""
    for number, path in ((1, said), (2, complaints)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), number)
    tempfile.tempdir = str(temporary)
    host.StorageOptions = functools.partial(host.StorageOptions, timing=TIMING)  # type: ignore[assignment,misc]
    sys.exit(main(list(arguments)))


class _Forked:
    """What of ``subprocess.Popen`` a ``HostProcess`` uses."""

    def __init__(self, *arguments: object) -> None:
        self._process = _CONTEXT.Process(target=serve, args=arguments)
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def wait(self, timeout: float) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("vilab host", timeout)
        return self._process.exitcode


class QuickHost(HostProcess):
    """One ``vilab host``. ``arguments``: what follows ``vilab``."""

    def __init__(self, name: str, arguments: Sequence[str], folder: Path) -> None:
        self.name, self.complaints = name, folder / f"{name}.err"
        said = folder / f"{name}.out"
        self.process = _Forked(arguments, said, self.complaints, folder)  # type: ignore[assignment]
        end_s = time.monotonic() + START_S
        while not (said.exists() and said.read_text().endswith("\n")):
            assert self.process.poll() is None, self.complaints.read_text()
            assert time.monotonic() < end_s
            time.sleep(0.01)
        self.address = said.read_text().split(" listens at ")[1].strip().removesuffix(".")
        self.tls = None
        self._client = None
