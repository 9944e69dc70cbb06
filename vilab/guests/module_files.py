"""Linux kernel modules as files: which ones a module needs, and in what order they have to be loaded.

::

    section .modinfo of NAME.ko     ... 0 depends=scsi_mod,mptbase 0 ...      names, with commas between them
    order                           what is needed first, the module itself last

A module's name has underscores where its file name may have hyphens.
"""

from __future__ import annotations

import lzma
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from vilab.errors import AdminError

DEPENDS = re.compile(rb"\0depends=([^\0]*)\0")


def name_of(path: Path) -> str:
    return path.name.split(".ko")[0].replace("-", "_")


def find(folder: Path) -> dict[str, Path]:
    """Every module below a folder; name -> path."""
    return {name_of(path): path for path in sorted([*folder.rglob("*.ko"), *folder.rglob("*.ko.xz")])}


def content(path: Path) -> bytes:
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data


def needs(data: bytes) -> list[str]:
    """The modules that this one needs directly."""
    found = DEPENDS.search(data)
    names = found.group(1).decode().split(",") if found else []
    return [name.replace("-", "_") for name in names if name]


def with_needs(wanted: Iterable[str], there: Mapping[str, Path]) -> dict[str, bytes]:
    """The wanted modules and all they need, in loading order; name -> content. Raises ``AdminError``."""
    ordered: dict[str, bytes] = {}

    def add(name: str) -> None:
        if name in ordered:
            return
        if name not in there:
            raise AdminError(f"The kernel's package has no module {name}.")
        data = content(there[name])
        for needed in needs(data):
            add(needed)
        ordered[name] = data

    for name in wanted:
        add(name)
    return ordered


def dependency_table(modules: Mapping[str, bytes]) -> str:
    """``modules.dep`` as modprobe reads it: a module's file, and the files it needs, the last of them first to load."""

    def all_needs(name: str) -> list[str]:
        found: list[str] = []
        for direct in needs(modules[name]):
            found += [each for each in (direct, *all_needs(direct)) if each not in found]
        return found

    return "".join(f"{name}.ko:{''.join(f' {each}.ko' for each in all_needs(name))}\n" for name in modules)
