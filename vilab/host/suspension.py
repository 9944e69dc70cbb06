"""What a configuration says of a suspended machine, and the file that it names.

::

    checkpoint.vmState = "web.vmss"              as ESX has it; absent or empty: the machine is not suspended
    vilab.suspension.number = "1f2e3d4c"         which suspension: the file has the same number

    web.vmss              counts while the configuration names it; otherwise it is left over, and goes
    .vilab-web.vmss       is being written, or left over
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Final

import msgspec

from vilab.errors import AdminError
from vilab.host import vmx
from vilab.host.vm_home import VmHome
from vilab.host.vmx import Vmx
from vilab.storage.disks import vmsn

FILE_KEY: Final = "checkpoint.vmState"
NUMBER_KEY: Final = "vilab.checkpoint.number"

_NAME = re.compile(r"[^/\\\[\]]+\.vmss")
_NUMBER = re.compile(r"[0-9a-f]{8}")


class Suspension(msgspec.Struct, frozen=True):
    """What a configuration says of a suspended machine. ``number``: of this suspension; ``None``: vilab did not write
    that line."""

    file_name: str
    number: int | None


def suspension_of(config: Vmx) -> Suspension | None:
    """``None``: the machine is not suspended. ``AdminError``, with the line, for what cannot be."""
    name = config.get(FILE_KEY)
    if not name:
        return None
    if not _NAME.fullmatch(name):
        raise vmx.unfit(config, FILE_KEY, "the name of a .vmss file in the machine's folder")
    number = config.get(NUMBER_KEY) or ""
    return Suspension(name, int(number, 16) if _NUMBER.fullmatch(number) else None)


def said(config: Vmx) -> tuple[str, str]:
    """The two lines, empty where the machine is not suspended: to see whether that has changed."""
    return config.get(FILE_KEY) or "", config.get(NUMBER_KEY) or ""


def say(config: Vmx, suspension: Suspension) -> None:
    """The machine is suspended: ``suspension_of`` finds this."""
    config.set(FILE_KEY, suspension.file_name)
    if suspension.number is not None:
        config.set(NUMBER_KEY, f"{suspension.number:08x}")


def forget(config: Vmx) -> str:
    """The machine is suspended no more. The name of its file, empty if there was none."""
    name = config.get(FILE_KEY) or ""
    for key in (FILE_KEY, NUMBER_KEY) if name else ():
        config.remove(key)
    return name


def write_config(home: VmHome, config: Vmx) -> None:
    """Replace the configuration. Where that fails and yet has been done (an answer got lost, the folder could not be
    synced), it has been done. ``AdminError``, ``OSError``: it has not, or that cannot be told."""
    try:
        home.write(config)
    except (AdminError, OSError):
        with contextlib.suppress(AdminError, OSError):
            if vmx.write(home.read()) == vmx.write(config):
                return
        raise


def clear(home: VmHome, *names: str) -> None:
    """Remove what is left of suspensions that do not count: ``web.vmss``, a half one, these files. Those of other
    products stay. What cannot be removed now is removed the next time."""
    files = home.files
    with contextlib.suppress(AdminError, OSError):
        if files.exists(pending_path(home)):
            files.remove(pending_path(home))
    for name in {f"{home.name}.vmss", *names}:
        with contextlib.suppress(AdminError, OSError):
            if _NAME.fullmatch(name) and _is_ours(home, home.folder / name):
                files.remove(home.folder / name)


def withdraw(home: VmHome) -> None:
    """The machine runs on: whatever a suspension that has failed has left, as far as that can be removed."""
    name = ""
    with contextlib.suppress(AdminError, OSError):
        config = home.read()
        name = forget(config)
        if name:
            home.write(config)
    clear(home, name)


def pending_path(home: VmHome) -> Path:
    """What is not a state yet. Nobody copies files with such names."""
    return home.folder / f".vilab-{home.name}.vmss"


def _is_ours(home: VmHome, path: Path) -> bool:
    if not home.files.exists(path):
        return False
    file = home.files.open(path)
    try:
        return file.read_some(0, 8) == vmsn.SUSPENDED.mark
    finally:
        file.close()
