"""Records on disk as tables: a name, an offset, a format and a meaning for each field.

::

    class Slot(Record):                                  offset 0        4               12
        SIZE_BYTES = 16                                  +-------+---------------+-------+
        FIELDS = (                                       | magic | pos           | spare |
            Field("magic", 0, "I", "..."),               +-------+---------------+-------+
            Field("pos", 4, "Q", "..."))                   what no field names stays in ``raw``

``decode`` and ``encode`` lose nothing: the bytes that no field names come back as they were, so that a volume which
another program made keeps what only that program understands.
"""

from __future__ import annotations

import functools
import struct
from typing import Any, ClassVar, NamedTuple, Self

import msgspec

from vilab.errors import VmmBug
from vilab.protocols import ReadableBytes


class Field(NamedTuple):
    """``form`` as in ``struct``, little-endian; a count in front of a number makes a tuple: ``256I``."""

    name: str
    offset: int
    form: str
    meaning: str

    @property
    def many(self) -> bool:
        return self.form[0].isdigit() and not self.form.endswith("s")

    @property
    def size_bytes(self) -> int:
        return struct.calcsize("<" + self.form)


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What all records have: the bytes they were made from (``raw``), empty for new ones."""

    raw: bytes = b""

    SIZE_BYTES: ClassVar[int]
    FIELDS: ClassVar[tuple[Field, ...]]

    @classmethod
    def decode(cls, data: ReadableBytes) -> Self:
        """Of at least ``SIZE_BYTES`` bytes, whatever they say."""
        raw = bytes(data[: cls.SIZE_BYTES])
        form, single, many = _plan(cls)
        found = form.unpack_from(raw)
        values: dict[str, Any] = dict(zip(single, found, strict=False))
        for name, first, last in many:
            values[name] = found[first:last]
        return cls(raw=raw, **values)

    def encode(self) -> bytes:
        """``SIZE_BYTES`` bytes."""
        data = bytearray(self.raw or self.SIZE_BYTES)
        for field in self.FIELDS:
            value = getattr(self, field.name)
            struct.pack_into("<" + field.form, data, field.offset, *(value if field.many else (value,)))
        return bytes(data)


@functools.cache
def _plan(record: type[Record]) -> tuple[struct.Struct, list[str], list[tuple[str, int, int]]]:
    """One ``struct`` for all fields; the names of what it yields, as long as each is one; (name, from, to) of the
    others, which come last."""
    fields = sorted(record.FIELDS, key=lambda field: field.offset)
    single = [field.name for field in fields if not field.many]
    form, at, many, count = "<", 0, [], 0
    for field in fields:
        form += f"{field.offset - at}x{field.form}"
        at = field.offset + field.size_bytes
        if field.many:
            many.append((field.name, count, count + int(field.form[:-1])))
            count = many[-1][2]
        elif many:
            raise VmmBug(f"In the table of {record.__name__} a field follows one of many numbers.")
        else:
            count += 1
    return struct.Struct(form), single, many


def table(record: type[Record]) -> list[tuple[str, str, str, str]]:
    """(offset, format, name, meaning), a row a field: what a lesson shows."""
    return [(f"{field.offset:#05x}", field.form, field.name, field.meaning) for field in record.FIELDS]
