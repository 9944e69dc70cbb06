"""What a configuration file says of a virtual machine, typed.

::

    key                     what                                            where it is missing
    displayName             the name that people see                        the name of the file
    guestOS                 which operating system is meant to run          other
    memsize                 configured memory, MB, a multiple of 4          32
    numvcpus                1, 2 or 4                                       1
    sched.mem.minsize       reservation, MB; later ESX: sched.mem.min too   0
    sched.mem.max           limit, MB, or unlimited                         unlimited
    sched.mem.shares        low, normal, high, or a number                  normal
    sched.swap.dir          directory of the .vswp file                     the directory of this file
    sched.swap.derivedName  the .vswp file itself, written at power-on      derived_swap_name()
    uuid.bios               16 bytes: xx xx xx xx xx xx xx xx-xx xx ...     none
    vilab.image             the guest image to boot (this package's own)    none
    vilab.engine            the engine that runs it (this package's own)    none

Sources: files that ESX has written, in public repositories; libvirt's table of keys and defaults; Administration
Guide of ESX Server 2.5, chapter 12 (sched.mem); VMware's knowledge base 344089 (uuid.bios).
MODEL: how ESX derives the name of a .vswp file is not published. Here it is the CRC-32 of the path.
"""

from __future__ import annotations

import re
import uuid
import zlib
from pathlib import PurePosixPath

import msgspec

from vilab.errors import AdminError
from vilab.host.vmx import Vmx, parse, write
from vilab.memory.shares import shares_of


class VmSettings(msgspec.Struct, frozen=True):
    """What a host needs to know of a virtual machine: the table at the top of this file."""

    display_name: str
    guest_os: str = "other"
    memsize_mb: int = 32
    vcpus: int = 1
    reservation_mb: int = 0
    limit_mb: int | None = None
    shares: str | int = "normal"
    swap_dir: str | None = None
    swap_name: str | None = None
    uuid_bios: uuid.UUID | None = None
    image: str | None = None
    engine: str | None = None

    @property
    def memory_shares(self) -> int:
        """``shares`` as a number."""
        return shares_of(self.shares, self.memsize_mb)


_RESERVATION_KEYS = ("sched.mem.minsize", "sched.mem.min")
_KEYS = {
    "display_name": "displayName", "guest_os": "guestOS", "memsize_mb": "memsize", "vcpus": "numvcpus",
    "limit_mb": "sched.mem.max", "shares": "sched.mem.shares", "swap_dir": "sched.swap.dir",
    "swap_name": "sched.swap.derivedName", "uuid_bios": "uuid.bios", "image": "vilab.image", "engine": "vilab.engine",
}  # fmt: skip


def settings_of(vmx: Vmx) -> VmSettings:
    """The typed settings; a value that cannot be one is refused with its line."""
    memsize_mb = _number(vmx, "memsize", 32, "a multiple of 4 from 4 upwards (MB)")
    if memsize_mb < 4 or memsize_mb % 4:
        raise _unfit(vmx, "memsize", "a multiple of 4 from 4 upwards (MB)")
    vcpus = _number(vmx, "numvcpus", 1, "1, 2 or 4")
    if vcpus not in (1, 2, 4):
        raise _unfit(vmx, "numvcpus", "1, 2 or 4")
    unlimited = (vmx.get("sched.mem.max") or "unlimited").lower() in ("unlimited", "-1")
    return VmSettings(
        display_name=vmx.get("displayName") or PurePosixPath(vmx.name).stem,
        guest_os=vmx.get("guestOS") or "other",
        memsize_mb=memsize_mb,
        vcpus=vcpus,
        reservation_mb=_reservation(vmx),
        limit_mb=None if unlimited else _number(vmx, "sched.mem.max", 0, "a number of MB, or unlimited"),
        shares=_shares(vmx),
        swap_dir=vmx.get("sched.swap.dir") or None,
        swap_name=vmx.get("sched.swap.derivedName") or None,
        uuid_bios=_uuid(vmx),
        image=vmx.get("vilab.image") or None,
        engine=vmx.get("vilab.engine") or None,
    )


def apply_settings(vmx: Vmx, settings: VmSettings) -> None:
    """Make the file say ``settings``. Lines that say so already, and all others, stay; if refused, all of it stays."""
    changed = parse(write(vmx), vmx.name)
    now = settings_of(changed)
    for field, key in _KEYS.items():
        value = getattr(settings, field)
        if value == getattr(now, field):
            continue
        if value is None:
            changed.remove(key)
        else:
            changed.set(key, uuid_text(value) if isinstance(value, uuid.UUID) else str(value))
    if settings.reservation_mb != now.reservation_mb:
        for key in [key for key in _RESERVATION_KEYS if changed.get(key) is not None] or _RESERVATION_KEYS[:1]:
            changed.set(key, str(settings.reservation_mb))
    if settings_of(changed) != settings:
        raise AdminError(f"{vmx.name}: an empty text cannot be kept in a configuration file; give a value or None.")
    vmx.lines = changed.lines


def uuid_text(value: uuid.UUID) -> str:
    """As ``uuid.bios`` has it: ``56 4d 32 ... 65-f4 71 ...``. MODEL: bytes in the order in which the SDK shows them."""
    pairs = [f"{byte:02x}" for byte in value.bytes]
    return " ".join(pairs[:8]) + "-" + " ".join(pairs[8:])


def derived_swap_name(config_path: PurePosixPath) -> str:
    """The .vswp file of a VM that has never been powered on: ``<name>-<8 hexadecimal digits>.vswp``."""
    return f"{config_path.stem}-{zlib.crc32(str(config_path).encode()):08x}.vswp"


def swap_path(settings: VmSettings, config_path: PurePosixPath) -> PurePosixPath:
    """Where the VM's .vswp file is, or will be."""
    directory = config_path.parent / (settings.swap_dir or "")
    return directory / (settings.swap_name or derived_swap_name(config_path))


def _unfit(vmx: Vmx, key: str, fit: str) -> AdminError:
    return AdminError(f"{vmx.where(key)}: {key} is {vmx.get(key)!r}; it has to be {fit}.")


def _number(vmx: Vmx, key: str, default: int, fit: str) -> int:
    said = vmx.get(key)
    if said is None:
        return default
    if not re.fullmatch(r"[0-9]{1,9}", said):
        raise _unfit(vmx, key, fit)
    return int(said)


def _reservation(vmx: Vmx) -> int:
    """Later ESX writes both keys."""
    said = {key: _number(vmx, key, 0, "a number of MB") for key in _RESERVATION_KEYS if vmx.get(key) is not None}
    if len(set(said.values())) > 1:
        raise AdminError(
            f"{vmx.where(_RESERVATION_KEYS[0])}: {' and '.join(said)} are the same reservation and differ "
            f"({' and '.join(map(str, said.values()))} MB): make them equal."
        )
    return next(iter(said.values()), 0)


def _shares(vmx: Vmx) -> str | int:
    said = (vmx.get("sched.mem.shares") or "normal").lower()
    shares = int(said) if re.fullmatch(r"[0-9]{1,9}", said) else said
    try:
        shares_of(shares, 0)
    except AdminError as error:
        raise AdminError(f"{vmx.where('sched.mem.shares')}: {error}") from error
    return shares


def _uuid(vmx: Vmx) -> uuid.UUID | None:
    said = vmx.get("uuid.bios")
    if not said:
        return None
    digits = re.sub(r"[ -]", "", said)
    if not re.fullmatch(r"[0-9A-Fa-f]{32}", digits):
        raise _unfit(vmx, "uuid.bios", "16 bytes in hexadecimal, xx xx xx xx xx xx xx xx-xx xx xx xx xx xx xx xx")
    return uuid.UUID(hex=digits)
