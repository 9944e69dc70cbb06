"""The archive of the first root file system: GNU cpio reads it, and the same entries are the same bytes."""

from __future__ import annotations

import gzip
import subprocess

from tests.tools import require_tool
from vilab.guests import debian_root, newc

ENTRIES = [
    newc.folder("bin"),
    newc.folder("dev"),
    newc.character_device("dev/console", 5, 1),
    newc.file("bin/tool", b"\x7fELF" + bytes(range(251)), executable=True),
    newc.link("bin/other", "tool"),
    newc.file("empty", b""),
    newc.file("odd", b"abc"),
]


def cpio(*arguments: str, data: bytes, folder=None) -> bytes:
    program = require_tool("cpio", "the Debian package cpio")
    return subprocess.run([program, *arguments], input=data, cwd=folder, capture_output=True, check=True).stdout


def test_gnu_cpio_unpacks_what_was_packed(tmp_path):
    archive = newc.archive(entry for entry in ENTRIES if not entry.device[0])
    cpio("-id", "--quiet", data=archive, folder=tmp_path)
    assert (tmp_path / "bin/tool").read_bytes() == ENTRIES[3].data
    assert (tmp_path / "bin/tool").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "bin/other").readlink().name == "tool"
    assert (tmp_path / "empty").read_bytes() == b""
    assert (tmp_path / "odd").read_bytes() == b"abc"


def test_gnu_cpio_lists_the_console_as_a_device():
    listed = cpio("-itv", "--quiet", data=newc.archive(ENTRIES)).decode().splitlines()
    console = next(line for line in listed if line.endswith("dev/console"))
    assert console.startswith("crw-------")
    assert "5,   1" in console


def test_the_same_inputs_give_the_same_bytes():
    roots = [debian_root.root(b"busybox", "6.1.0-1-686", {"mii": b"\0depends=\0"}) for _ in range(2)]
    assert roots[0] == roots[1]
    assert int.from_bytes(roots[0][4:8], "little") == 0  # gzip's time
    assert gzip.decompress(roots[0]).startswith(newc.MAGIC)
