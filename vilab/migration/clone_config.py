"""The configuration of a clone: the original's, under another name, with nothing in it that only one machine may have.

::

    displayName                              the new name
    scsi0:0.fileName                         copy.vmdk, scsi0:1: copy_1.vmdk, ...
    uuid.bios, uuid.location, vc.uuid        new, where they are
    ethernet0.address, .generatedAddress     a new one, generated: a clone on the same network beside the original
    nvram                                    copy.nvram
    sched.swap.derivedName, checkpoint.*     gone: its own swap file is named at power-on, and it has no memory

A name is any text; the folder and the files have it with what a file's name cannot hold as ``%2f``. Sources: VMware,
Basic System Administration (VI 3.5), "Cloning Virtual Machines"; VMware's knowledge base 1541 (UUIDs).
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Mapping
from typing import Final

from vilab.errors import AdminError
from vilab.host.vm_move import CLONE_OF, FROM, NUMBER
from vilab.host.vmx import Vmx, parse, write
from vilab.host.vmx_disks import set_file
from vilab.host.vmx_network import cards_of, write_addresses
from vilab.host.vmx_settings import uuid_text

UUID_KEYS: Final = ("uuid.bios", "uuid.location", "vc.uuid")
MOST_NAME_CHARACTERS, MOST_FILE_NAME_BYTES = 80, 100
"""Of a machine's name, as in VI 3.5; of its files, before ``-000001-delta.vmdk``: 127 in all on VMFS."""

_NO_FILE_NAME = re.compile(r'[\x00-\x1f\x7f\x85\u2028\u2029%/\\"\[\]]|^\.|^~')
_GONE = re.compile(r"checkpoint\..*|sched\.swap\.derivedName|extendedConfigFile", re.IGNORECASE)
_ADDRESS = re.compile(r"(ethernet\d+)\.(address|generatedAddress|generatedAddressOffset)", re.IGNORECASE)


def file_name_of(name: str) -> str:
    """What the folder and the files of a machine are called. ``AdminError``: it cannot be a machine's name."""
    if not name.strip() or len(name) > MOST_NAME_CHARACTERS:
        raise AdminError(f"{name[:90]!r} cannot be a machine's name: it has 1 to {MOST_NAME_CHARACTERS} characters.")
    try:
        plain = _NO_FILE_NAME.sub(lambda found: "".join(f"%{byte:02x}" for byte in found[0].encode()), name)
        size = len(plain.encode())
    except UnicodeEncodeError:
        raise AdminError(f"{name!r} cannot be a machine's name: it is no text that can be written down.") from None
    if size > MOST_FILE_NAME_BYTES:
        raise AdminError(
            f"{name!r} cannot be a machine's name: its files' names would have {size} bytes, {MOST_FILE_NAME_BYTES} "
            "at most can be; choose a shorter one."
        )
    return plain


def disk_names(nodes: list[str], file_name: str) -> dict[str, str]:
    """Node -> file: ``copy.vmdk``, ``copy_1.vmdk``, ..."""
    return {node: f"{file_name}_{number}.vmdk" if number else f"{file_name}.vmdk" for number, node in enumerate(nodes)}


def clone_config(
    original: Vmx, where: str, name: str, disks: Mapping[str, str], identity: str, taken: frozenset[bytes] = frozenset()
) -> Vmx:  # fmt: skip
    """The configuration, which is to be at ``where``.

    Parameters
    ----------
    disks : node -> file in its folder.
    identity : what addresses and identifiers are made from.
    taken : network addresses that it must not get, the original's apart.

    Raises
    ------
    AdminError : the name has characters that the file's encoding does not have, or a card of the original cannot be.
    """
    before = {card.address for card in cards_of(original, original.get("displayName") or "")}
    config = parse(write(original), where)
    config.set("displayName", name)
    for key in config.keys():  # noqa: SIM118
        if _GONE.fullmatch(key):
            config.remove(key)
    for key in (FROM, NUMBER, CLONE_OF):
        config.remove(key)
    for node, file_name in disks.items():
        set_file(config, node, file_name)
    for key in UUID_KEYS:
        if config.get(key) is not None:
            config.set(key, uuid_text(_uuid(identity, key)))
    if config.get("nvram") is not None:
        config.set("nvram", where.rpartition("/")[2].removesuffix(".vmx") + ".nvram")
    _give_addresses(config, f"{name} {identity}", taken | before)
    return config


def _uuid(identity: str, key: str) -> uuid.UUID:
    return uuid.UUID(bytes=hashlib.sha256(f"{identity} {key}".encode()).digest()[:16], version=4)


def _give_addresses(config: Vmx, made_from: str, taken: frozenset[bytes] | set[bytes]) -> None:
    """New ones for all cards, present or not; those that a person has chosen are generated now."""
    for key in config.keys():  # noqa: SIM118
        found = _ADDRESS.fullmatch(key)
        if found is not None:
            config.remove(key)
            config.set(f"{found[1]}.addressType", "generated")
    cards = cards_of(config, made_from)
    while any(card.address in taken for card in cards):
        made_from += "'"
        cards = cards_of(config, made_from)
    write_addresses(config, cards)
