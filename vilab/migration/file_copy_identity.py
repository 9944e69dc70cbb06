"""What a clone at another host is called, and what it may not share with the machine that it was made from.

::

    the configuration              as ``clone_config`` makes it: new name, addresses and identifiers
    web.nvram, web.vmsd, ...       web2.nvram, web2.vmsd, as the new name is written in files
    web.vmdk, web-000001.vmdk ...  keep their names, which their redo logs and snapshots know
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

from vilab.errors import AdminError
from vilab.host.suspension import FILE_KEY
from vilab.host.vmx import Vmx
from vilab.host.vmx_settings import VmSettings
from vilab.migration.clone_config import clone_config, file_name_of

Identity = Callable[[Vmx, VmSettings, str, str, tuple[str, ...]], tuple[str, ...]]
"""Of (configuration, what it says, the old configuration's name without ``.vmx``, the new name, names of the other
files): the configuration is changed, and what the files are called then is returned. ``AdminError``: it cannot be
cloned."""


def new_identity(config: Vmx, settings: VmSettings, stem: str, name: str, files: tuple[str, ...]) -> tuple[str, ...]:
    """Raises ``AdminError``: it is suspended, so that its guest would go on with the old one's addresses."""
    if config.get(FILE_KEY):
        raise AdminError(
            f"{settings.display_name} is suspended: its clone would go on as the same machine. Resume it, and power "
            "it off."
        )
    file_name, nvram = file_name_of(name), config.get("nvram")
    new = clone_config(config, f"{file_name}.vmx", name, {}, secrets.token_hex(8))
    config.lines[:] = new.lines

    def renamed(file: str) -> str:
        if file == nvram:
            return f"{file_name}.nvram"
        if file.startswith(f"{stem}.") and not file.endswith(".vmdk"):
            return f"{file_name}{file.removeprefix(stem)}"
        return file

    return tuple(map(renamed, files))
