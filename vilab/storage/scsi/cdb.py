"""A CDB, decoded: from bytes to a row of the table and its fields, and to words.

>>> decode(bytes.fromhex("28080000100000000800")).describe()
'READ(10) lba=0x1000 blocks=8 FUA'
"""

from __future__ import annotations

import msgspec

from vilab.storage.scsi.commands import BY_CODE, FAMILIES, PLAIN, Command
from vilab.storage.scsi.sense import ScsiError, bad_cdb, illegal

NACA = 0x04
"""Normal ACA, in the control byte at the end of each CDB: not supported (NORMACA is 0 in INQUIRY)."""
_HEX = frozenset({"lba", "page", "subpage", "requested"})


class Cdb(msgspec.Struct, frozen=True):
    """A command that the table knows, and its bytes. ``value`` takes one field out of them."""

    command: Command
    raw: bytes

    def value(self, name: str) -> int:
        return self.command.fields[name].of(self.raw)

    def values(self) -> dict[str, int]:
        """Every field, in the order of the table."""
        return {name: field.of(self.raw) for name, field in self.command.fields.items()}

    def describe(self) -> str:
        """The command in words: its name, numbers by name, then the one-bit fields that are set."""
        numbers, flags = [], []
        for name, field in self.command.fields.items():
            number = field.of(self.raw)
            if field.most == 1:
                flags += [name.upper()] * number
            elif number or name in ("lba", "blocks"):
                numbers.append(f"{name}={number:#x}" if name in _HEX else f"{name}={number}")
        return " ".join([self.command.name, *numbers, *flags])

    def refuse(self, name: str) -> ScsiError:
        """ILLEGAL REQUEST, INVALID FIELD IN CDB, pointing at this field."""
        field = self.command.fields[name]
        return bad_cdb(field.first, field.high)


def decode(raw: bytes) -> Cdb:
    """The command that ``raw`` is; bytes after its end are ignored (transports pad to 16).

    Raises ``ScsiError``: 20/00 for an operation code that is not in the table, 24/00 for a service action that is not,
    for a CDB that is too short and for NACA. Other reserved bits are ignored, as SPC-4 4.2.5 allows: initiators of
    SCSI-2 days put the LUN there.
    """
    if not raw:
        raise illegal(0x2000)
    opcode = raw[0]
    command = PLAIN[opcode]
    if command is None:
        if opcode not in FAMILIES:
            raise illegal(0x2000, 0)
        if len(raw) < 2:
            raise bad_cdb(1)
        command = BY_CODE.get((opcode, raw[1] & 0x1F))
        if command is None:
            raise bad_cdb(1, 4)
    length = command.length
    if len(raw) < length:
        raise bad_cdb(len(raw))
    if raw[length - 1] & NACA:
        raise bad_cdb(length - 1, 2)
    return Cdb(command, raw)


def describe_cdb(raw: bytes) -> str:
    """Any bytes in words, for a trace: what ``decode`` refuses is shown in hex."""
    try:
        return decode(raw).describe()
    except ScsiError:
        return f"unknown command {raw.hex(' ')}" if raw else "empty command"
