"""The descriptor: the text that says what a virtual disk consists of.

::

    # Disk DescriptorFile
    version=1
    CID=fffffffe                             content identifier: another one after the first write since opening
    parentCID=ffffffff                       what the parent's CID was when this child was made; ffffffff: no parent
    createType="vmfs"
    parentFileNameHint="vm.vmdk"             only with a parent; relative to this file's folder

    # Extent description
    RW 409600 VMFS "vm-flat.vmdk"            access, sectors, type, file [, first sector in the file]

    # The Disk Data Base
    ddb.adapterType = "lsilogic"

A child whose ``parentCID`` is not its parent's ``CID`` is refused: the parent was written after the child was made.
Source: VMware, Virtual Disk Format 1.1 (2007), section "The Descriptor File".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from vilab.errors import AdminError

NO_PARENT: Final = 0xFFFF_FFFF
FIRST_LINE: Final = "# Disk DescriptorFile"
MOST_BYTES: Final = 1 << 20
MOST_EXTENTS: Final = 4096
MOST_SECTORS: Final = 1 << 36
"""32 TB: far beyond what ESX 3 had (2 TB), and small enough that tables stay in memory."""

FILE_KINDS: Final = ("FLAT", "SPARSE", "VMFS", "VMFSSPARSE", "VMFSRDM", "VMFSRAW")
KINDS: Final = (*FILE_KINDS, "ZERO")
RAW_DEVICE_KINDS: Final = ("VMFSRDM", "VMFSRAW")
VIRTUAL_MAPPING: Final = "vmfsRawDeviceMap"
PHYSICAL_MAPPING: Final = "vmfsPassthroughRawDeviceMap"
"""``createType`` of raw device mappings in virtual and in physical compatibility mode."""
ACCESSES: Final = ("RW", "RDONLY", "NOACCESS")

PENDING: Final = "# vilab: parentCID becomes "
"""A comment in a child while its parent is given a new CID: either of the two is right. See ``redo_log``."""

_EXTENT = re.compile(r'(RW|RDONLY|NOACCESS)\s+(\d{1,20})\s+([A-Z]+)(?:\s+"([^"]*)"(?:\s+(\d{1,20}))?)?\s*\Z')
_SETTING = re.compile(r'([\w.\- ]*[\w.\-])\s*=\s*(?:"([^"]*)"|([^"\s]*))\s*\Z')
_NAME = re.compile(r"[A-Za-z_][\w.\-]*(?: [\w.\-]+)*\Z", re.ASCII)
_CONTROL = re.compile(r'[\x00-\x1f"\x7f\x85\u2028\u2029]')


class ExtentLine(msgspec.Struct, frozen=True):
    """One piece of the disk. ``offset``: first sector in the file (FLAT only)."""

    access: str
    sectors: int
    kind: str
    file: str | None = None
    offset: int | None = None


class Descriptor(msgspec.Struct, frozen=True):
    """All of it, as a value. ``other`` are settings that this version does not know; they are kept."""

    cid: int
    create_type: str
    extents: tuple[ExtentLine, ...]
    parent_cid: int = NO_PARENT
    parent_hint: str | None = None
    version: int = 1
    ddb: tuple[tuple[str, str], ...] = ()
    other: tuple[tuple[str, str], ...] = ()
    pending_parent_cid: int | None = None

    @property
    def sectors(self) -> int:
        return sum(extent.sectors for extent in self.extents)

    @property
    def has_parent(self) -> bool:
        return self.parent_cid != NO_PARENT

    def database(self, name: str) -> str | None:
        """A ``ddb.`` entry, ``None`` where there is none."""
        return dict(self.ddb).get(name)


def is_descriptor(start: bytes) -> bool:
    """By the first bytes of a file."""
    return start[:64].lstrip().lower().startswith(b"# disk descriptorfile")


def write(descriptor: Descriptor) -> bytes:
    """The text. Raises ``AdminError`` for a value that the format cannot express."""
    lines = [FIRST_LINE, f"version={descriptor.version}", f"CID={descriptor.cid:08x}"]
    lines += [f"parentCID={descriptor.parent_cid:08x}"]
    if descriptor.pending_parent_cid is not None:
        lines += [f"{PENDING}{descriptor.pending_parent_cid:08x}"]
    lines += [f'createType="{_plain(descriptor.create_type)}"']
    if descriptor.parent_hint is not None:
        lines += [f'parentFileNameHint="{_plain(descriptor.parent_hint)}"']
    lines += [f'{name}="{_plain(value)}"' for name, value in descriptor.other]
    lines += ["", "# Extent description"]
    for extent in descriptor.extents:
        line = f"{extent.access} {extent.sectors} {extent.kind}"
        if extent.file is not None:
            line += f' "{_plain(extent.file)}"'
        if extent.offset is not None:
            line += f" {extent.offset}"
        lines += [line]
    lines += ["", "# The Disk Data Base", "#DDB", ""]
    lines += [f'{name} = "{_plain(value)}"' for name, value in descriptor.ddb]
    return ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape")


def _plain(value: str) -> str:
    if _CONTROL.search(value):
        raise AdminError(
            f"A disk's descriptor cannot hold {value!r}: quotes and control characters have no place in it."
        )
    return value


def parse(data: bytes, where: str = "The descriptor") -> Descriptor:
    """The value. ``AdminError`` with one sentence for anything that is no descriptor."""
    if len(data) > MOST_BYTES:
        raise AdminError(f"{where} is no disk descriptor: {len(data)} bytes are too many, {MOST_BYTES} the most.")
    text = data.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
    if not is_descriptor(data):
        raise AdminError(f"{where} is no disk descriptor: its first line is not {FIRST_LINE!r}.")
    settings: dict[str, str] = {}
    names: dict[str, str] = {}
    extents: list[ExtentLine] = []
    pending: int | None = None
    for number, raw in enumerate(re.split(r"\r\n|\n|\r", text), 1):
        line = raw.strip(" \t")
        if line.startswith(PENDING):
            pending = _hexadecimal(line[len(PENDING) :], where, "the parentCID to come")
        if not line or line.startswith("#"):
            continue
        if line.split(None, 1)[0] in ACCESSES:
            extents.append(_extent(line, number, where))
            if len(extents) > MOST_EXTENTS:
                raise AdminError(f"{where} is damaged: more than {MOST_EXTENTS} extents.")
            continue
        match = _SETTING.match(line)
        if match is None or not _NAME.match(match[1]):
            raise AdminError(f"{where} is damaged in line {number}: {line[:60]!r} is neither a setting nor an extent.")
        key = match[1].lower()
        if key in settings:
            raise AdminError(f"{where} is damaged in line {number}: {match[1]} is set a second time.")
        value = match[2] if match[2] is not None else match[3]
        if _CONTROL.search(value):
            raise AdminError(f"{where} is damaged in line {number}: a control character in {match[1]}.")
        settings[key], names[key] = value, match[1]
    return _build(settings, names, tuple(extents), pending, where)


def _build(
    settings: dict[str, str], names: dict[str, str], extents: tuple[ExtentLine, ...], pending: int | None, where: str
) -> Descriptor:
    known = ("version", "cid", "parentcid", "createtype", "parentfilenamehint")
    if settings.get("version", "1") not in ("1", "2", "3"):
        raise AdminError(f"{where} has version {settings['version'][:20]!r}; versions 1 to 3 are known.")
    if "createtype" not in settings:
        raise AdminError(f"{where} is damaged: it has no createType.")
    if not extents:
        raise AdminError(f"{where} is damaged: it has no extents.")
    result = Descriptor(
        cid=_hexadecimal(settings.get("cid", ""), where, "CID"),
        create_type=settings["createtype"],
        extents=extents,
        parent_cid=_hexadecimal(settings.get("parentcid", "ffffffff"), where, "parentCID"),
        parent_hint=settings.get("parentfilenamehint"),
        version=int(settings.get("version", "1")),
        ddb=tuple((names[key], value) for key, value in settings.items() if key.startswith("ddb.")),
        other=tuple(
            (names[key], value) for key, value in settings.items() if key not in known and not key.startswith("ddb.")
        ),
        pending_parent_cid=pending,
    )
    if result.sectors > MOST_SECTORS:
        raise AdminError(f"{where} describes a disk of {result.sectors} sectors; {MOST_SECTORS} are the most.")
    return result


def _hexadecimal(text: str, where: str, what: str) -> int:
    if not re.fullmatch(r"[0-9a-fA-F]{1,8}", text):
        raise AdminError(f"{where} is damaged: its {what} {text[:20]!r} is no 32-bit hexadecimal number.")
    return int(text, 16)


def _extent(line: str, number: int, where: str) -> ExtentLine:
    match = _EXTENT.match(line)
    if match is None or match[3] not in KINDS:
        raise AdminError(f"{where} is damaged in line {number}: {line[:60]!r} is no extent that is known.")
    access, sectors, kind, file, offset = match.groups()
    if _CONTROL.search(file or ""):
        raise AdminError(f"{where} is damaged in line {number}: a control character in a file name.")
    if (kind in FILE_KINDS) != (file is not None):
        missing = "needs a file" if file is None else "has no file"
        raise AdminError(f"{where} is damaged in line {number}: an extent of type {kind} {missing}.")
    if offset is not None and kind != "FLAT":
        raise AdminError(f"{where} is damaged in line {number}: an extent of type {kind} has no offset.")
    if not 0 < int(sectors) <= MOST_SECTORS or int(offset or 0) > MOST_SECTORS:
        raise AdminError(f"{where} is damaged in line {number}: {sectors} sectors are no size for an extent.")
    return ExtentLine(access, int(sectors), kind, file, None if offset is None else int(offset))


def extent_path(folder: Path, name: str, resolve: Callable[[Path], Path] = Path.resolve) -> Path:
    """Where an extent's file is. Refused where that is outside of the folder of the disk, links followed."""
    home = resolve(folder)
    try:
        path = resolve(home / name)
        inside = path != home and path.is_relative_to(home)
    except (OSError, ValueError, RuntimeError):
        inside = False
    if not inside:
        raise AdminError(
            f"The disk in {folder} is refused: its extent {name!r} lies outside of that folder. A disk that came from "
            "somewhere else could read or overwrite any file that way; move the extent beside its descriptor."
        )
    return path
