"""What a clone is called, and what it may not share with the machine that it was made from.

::

    displayName                       the new name
    uuid.bios, uuid.location          new; written when they are needed
    ethernet0.generatedAddress        made from the new name at power-on; a static address becomes a generated one
    web.nvram, web.vmsd, ...          web2.nvram, web2.vmsd; disks keep their names, which their redo logs know

Source: VMware, Basic System Administration (VI 3), "Cloning a virtual machine": new UUID, new MAC addresses.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable

from vilab.errors import AdminError
from vilab.host.vmx import Vmx
from vilab.host.vmx_network import cards_of
from vilab.host.vmx_settings import VmSettings, uuid_text

Identity = Callable[[Vmx, VmSettings, str, str, tuple[str, ...]], tuple[str, ...]]
"""Of (configuration, what it says, the old configuration's name without ``.vmx``, the new name, names of the other
files): the configuration is changed, and what the files are called then is returned. ``AdminError``: it cannot be
cloned."""


def new_identity(config: Vmx, settings: VmSettings, stem: str, name: str, files: tuple[str, ...]) -> tuple[str, ...]:
    """Raises ``AdminError``: it is suspended, so that its guest would go on with the old one's addresses."""
    if config.get("checkpoint.vmState"):
        raise AdminError(
            f"{settings.display_name} is suspended: its clone would go on as the same machine. Resume it, and power "
            "it off."
        )
    cards = cards_of(config, settings.display_name)
    config.set("displayName", name)
    config.set("uuid.bios", uuid_text(uuid.uuid4()))
    for key in ("uuid.location", "sched.swap.derivedName"):
        config.remove(key)
    for card in cards:
        node = f"ethernet{card.number}"
        config.set(f"{node}.addressType", "generated")
        for key in ("address", "generatedAddress"):
            config.remove(f"{node}.{key}")
    return tuple(
        f"{name}{file.removeprefix(stem)}" if file.startswith(f"{stem}.") and not file.endswith(".vmdk") else file
        for file in files
    )
