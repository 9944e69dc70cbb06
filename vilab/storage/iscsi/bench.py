"""How fast the iSCSI target is, beside tgt: the entries ``iscsi_*`` of ``vilab bench storage``.

=================  =========================================================  =========================================
entry              value                                                      baseline
=================  =========================================================  =========================================
iscsi_reads        random reads of 4 KB a second, 32 at a time                the same from tgt
iscsi_reads_1      one at a time                                              the same from tgt
iscsi_reads_64k    random reads of 64 KB a second, 8 at a time                the same from tgt
=================  =========================================================  =========================================

The initiator is ``iscsi-perf`` of libiscsi for both; both targets serve a sparse file of 64 MB all the time, and are
measured in turn, who is first changing. The figure is the pair with the median ratio.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vilab.errors import AdminError

DISK_BYTES = 64 << 20
IQN = "iqn.2006-06.org.example:bench"
START_S = 15.0
ENTRIES = {"iscsi_reads": (8, 32), "iscsi_reads_1": (8, 1), "iscsi_reads_64k": (128, 8)}
"""Sectors of one read, and how many are under way."""
TGT_FOLDER = Path("/var/run/tgtd")
AVERAGE = re.compile(r"iops average (\d+)")


def measure_iscsi(quick: bool) -> dict[str, dict[str, Any]]:
    """Entry -> value, unit, baseline, ratio, median_of. ``quick``: the figures mean nothing.

    Raises ``AdminError`` if a program to compare with, or to measure with, is missing.
    """
    need("iscsi-perf", "libiscsi-bin")
    need("tgtd", "tgt")
    pairs, seconds = (1, 1) if quick else (5, 3)
    with tempfile.TemporaryDirectory(prefix="vilab-") as folder, contextlib.ExitStack() as stack:
        files = []
        for name in ("ours.raw", "tgt.raw"):
            files.append(Path(folder, name))
            files[-1].touch()
            os.truncate(files[-1], DISK_BYTES)
        ours = stack.enter_context(serve_ours(f"0={files[0]}"))
        theirs = stack.enter_context(serve_tgt(files[1]))
        urls = f"iscsi://{ours}/{IQN}/0", f"iscsi://{theirs.address}/{IQN}/1"
        return {
            name: _pairs(urls, blocks, depth, pairs, seconds)
            for name, (blocks, depth) in list(ENTRIES.items())[: 1 if quick else None]
        }


def need(command: str, package: str) -> str:
    """The path of a program, ``AdminError`` if it is not there."""
    path = shutil.which(command, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if path is None:
        raise AdminError(f"{command} is not on this machine; it comes with the Debian package {package}.")
    return path


def _pairs(urls: tuple[str, str], blocks: int, depth: int, pairs: int, seconds: int) -> dict[str, Any]:
    found = []
    for number in range(pairs):
        rates = [0.0, 0.0]
        for side in (number & 1, 1 - (number & 1)):
            rates[side] = _rate(urls[side], blocks, depth, seconds)
        found.append((rates[0] / rates[1], *rates))
    found.sort()
    ratio, value, baseline = found[len(found) // 2]
    return {"value": value, "unit": "reads/s", "baseline": baseline, "ratio": ratio, "median_of": len(found)}


def _rate(url: str, blocks: int, depth: int, seconds: int) -> float:
    command = [need("iscsi-perf", "libiscsi-bin"), "-r", "-b", blocks, "-m", depth, "-t", seconds, url]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=60 + seconds)
    averages = AVERAGE.findall(done.stdout)
    if done.returncode or not averages or not int(averages[-1]):
        raise AdminError(f"iscsi-perf could not read from {url}: {(done.stderr or done.stdout).strip()[-200:]}")
    return float(averages[-1])


@contextlib.contextmanager
def serve_ours(*luns: str, chap: str | None = None, extra: tuple[str, ...] = ()) -> Iterator[str]:
    """``vilab iscsi-target`` in a process of its own; its ``host:port``. Its status has to be 0 at the end."""
    command = [sys.executable, "-m", "vilab.cli", "iscsi-target", "--portal", "127.0.0.1:0", "--iqn", IQN, *extra]
    for lun in luns:
        command += ["--lun", lun]
    if chap is not None:
        command += ["--chap", chap]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        address = re.search(r" listens at (\S+),", line)
        if address is None:
            server.wait(START_S)
            raise AdminError(f"vilab iscsi-target did not start: {server.stderr.read() if server.stderr else line}")
        yield address[1]
        server.send_signal(signal.SIGTERM)
        _, complaints = server.communicate(timeout=START_S)
        if server.returncode or complaints:
            raise AdminError(f"vilab iscsi-target ended with status {server.returncode}: {complaints.strip()}")
    finally:
        if server.poll() is None:
            server.kill()
        server.communicate()


class Tgt:
    """A running tgtd that serves one file as LUN 1 of ``IQN``."""

    def __init__(self, port: int) -> None:
        self.address = f"127.0.0.1:{port}"
        self.control = 1 + port % 32_000
        """tgtd's name among those that run; it takes up to 32767."""

    def admin(self, *words: object, check: bool = True) -> bool:
        """``tgtadm``; did it do what it was told?"""
        command = [need("tgtadm", "tgt"), "-C", str(self.control), "--lld", "iscsi", *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=START_S)
        if check and done.returncode:
            raise AdminError(f"tgtadm {' '.join(map(str, words))}: {done.stderr.strip()}")
        return not done.returncode


@contextlib.contextmanager
def serve_tgt(file: Path) -> Iterator[Tgt]:
    """tgtd in a process of its own, for nobody but this machine. It only ends by force."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        tgt = Tgt(probe.getsockname()[1])
    TGT_FOLDER.mkdir(parents=True, exist_ok=True)
    command = [need("tgtd", "tgt"), "-f", "-C", str(tgt.control), "--iscsi", f"portal={tgt.address}"]
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_S
        while not tgt.admin("--op", "show", "--mode", "sys", check=False):
            if server.poll() is not None or time.monotonic() > deadline:
                raise AdminError("tgtd does not start; is another one using its port?")
            time.sleep(0.05)
        tgt.admin("--op", "new", "--mode", "target", "--tid", 1, "-T", IQN)
        tgt.admin("--op", "new", "--mode", "logicalunit", "--tid", 1, "--lun", 1, "-b", file)
        tgt.admin("--op", "bind", "--mode", "target", "--tid", 1, "-I", "ALL")
        yield tgt
    finally:
        server.kill()
        server.wait()
        for left in TGT_FOLDER.glob(f"socket.{tgt.control}*"):
            left.unlink(missing_ok=True)
