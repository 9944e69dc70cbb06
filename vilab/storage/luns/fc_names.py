"""Names and addresses of Fibre Channel.

::

    world wide name, 64 bits           50:06:01:60 : 10:60:08:22        burnt in; of a port (WWPN), of a device (WWNN)
                                       └ NAA 5, IEEE company ┘
    port identifier, 24 bits           | domain 8 | area 8 | port 8 |   given by the switch at login (FLOGI)
                                         switch     its port  0

Source: FC-FS-3, 15 (names), FC-SW-5, 4.8 (addresses).
"""

from __future__ import annotations

import re
from typing import NewType

from vilab.errors import AdminError

Wwn = NewType("Wwn", str)
"""As people write it: ``21:00:00:e0:8b:19:ab:31``, small letters."""
PortId = NewType("PortId", int)

_WWN = re.compile(r"([0-9a-f]{2}:){7}[0-9a-f]{2}\Z")


def wwn(text: str) -> Wwn:
    """A world wide name from what a person typed. ``AdminError`` for anything else."""
    small = text.strip().lower()
    if re.fullmatch(r"[0-9a-f]{16}", small):
        small = ":".join(re.findall("..", small))
    if not _WWN.match(small):
        raise AdminError(f"{text[:40]!r} is no world wide name; one looks like 21:00:00:e0:8b:19:ab:31.")
    return Wwn(small)


def numbered(number: int, kind: int = 0x21) -> Wwn:
    """One of ours: NAA 2 or 5 and a number. ``kind`` is the first byte: 20 a node, 21 a port of a host, 50 an array."""
    return Wwn(":".join(f"{byte:02x}" for byte in (kind, 0, 0, *number.to_bytes(5, "big"))))


def port_id(domain: int, area: int) -> PortId:
    return PortId(domain << 16 | area << 8)


def show_port_id(identifier: PortId) -> str:
    """``010300``: domain, area, port."""
    return f"{identifier:06x}"
