"""What the Debian guest gets beside its first root file system when network cards are plugged in.

::

    initrd.gz | (disks.cpio) | network.cpio | a small archive       see debian_disks
                                    │              └─ /init: loads the cards' drivers before the shell
                                    └─ 8021q.ko and what it needs, modules.dep

The cards are eth0, eth1, ... in the order of their slots; they have no address until somebody gives them one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vilab.guests import debian_root, newc
from vilab.guests.debian_disks import dependencies

MODULES = ("8021q", "af_packet")
DRIVERS = {"vlance": "pcnet32", "e1000": "e1000", "vmxnet3": "vmxnet3"}
"""Card -> the kernel's driver for it."""
SHELL = "setsid cttyhack sh"


def archive(release: str, modules: Mapping[str, bytes], more: Mapping[str, bytes]) -> bytes:
    """Not compressed. ``modules``: those of the first root file system; ``more``: those beside them."""
    home = f"lib/modules/{release}"
    entries = [newc.file(f"{home}/{name}.ko", data) for name, data in more.items()]
    entries.append(newc.file(f"{home}/modules.dep", dependencies({**modules, **more}).encode()))
    return newc.archive(entries)


def loading(cards: Sequence[str]) -> str:
    """Lines for /init."""
    drivers = " ".join(dict.fromkeys(DRIVERS[card] for card in cards))
    return f"for module in af_packet {drivers}; do modprobe $module; done\nifconfig lo 127.0.0.1\n"


def init(cards: Sequence[str], before: str = debian_root.INIT) -> str:
    """/init with a few lines more before the shell."""
    assert before.count(SHELL) == 1
    return before.replace(SHELL, loading(cards) + SHELL)
