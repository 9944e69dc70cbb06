"""Other people's programs on virtual disks: qemu-img, qemu-io and dissect.hypervisor as judges."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path
from typing import Any

from tests.tools import require_module, require_tool

PACKAGE = "the Debian package qemu-utils"
DISSECT = "the PyPI package dissect.hypervisor (extra: test)"


def qemu_img(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [require_tool("qemu-img", PACKAGE), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def qemu_io(disk: Path, *commands: str) -> subprocess.CompletedProcess[str]:
    words = [word for command in commands for word in ("-c", command)]
    command = [require_tool("qemu-io", PACKAGE), "-f", "vmdk", *words, str(disk)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def qemu_agrees(disk: Path, content: bytes) -> None:
    """qemu-img finds the same bytes, and nothing to complain about."""
    raw = disk.with_name("expected.raw")
    raw.write_bytes(content)
    compared = qemu_img("compare", "-f", "vmdk", "-F", "raw", disk, raw)
    assert compared.returncode == 0, compared.stdout + compared.stderr
    checked = qemu_img("check", "-f", "vmdk", disk)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def qemu_info(disk: Path) -> list[dict[str, Any]]:
    """The chain as qemu-img sees it, top first."""
    done = qemu_img("info", "--backing-chain", "--output=json", disk)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def dissect_reads(disk: Path) -> bytes:
    """The content by the second reader, which reads 8 KB at a time and stumbles over a last piece that is shorter."""
    require_module("dissect.hypervisor", DISSECT)
    from dissect.hypervisor.disk.vmdk import VMDK

    found = VMDK(disk)
    content: bytes = found.read(found.size // 8192 * 8192)
    return content


def patchwork(size_bytes: int, seed: int = 1, pieces: int = 40) -> bytes:
    """A disk's content: mostly zeros, with patches of noise that begin and end anywhere."""
    lot = random.Random(seed)
    content = bytearray(size_bytes)
    for _ in range(pieces):
        at, size = lot.randrange(size_bytes), lot.choice((512, 4096, 70_000, 200_000))
        patch = lot.randbytes(min(size, size_bytes - at))
        content[at : at + len(patch)] = patch
    content[:512], content[-512:] = lot.randbytes(512), lot.randbytes(512)
    return bytes(content)
