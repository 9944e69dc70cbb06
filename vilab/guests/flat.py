"""Raw code: loaded at 1 MB and called there. A RET at the end ends the run."""

from __future__ import annotations

from vilab.errors import AdminError
from vilab.guests.function import call_image
from vilab.guests.image import LoadedImage
from vilab.guests.layout import HIGH_FIRST, Layout
from vilab.guests.reader import Reader


def load(reader: Reader, layout: Layout) -> LoadedImage:
    """All bytes of the file to 0x100000. Raises ``AdminError`` if there are none or too many."""
    if not reader.data:
        raise AdminError(f"{reader.name} cannot be loaded: the file is empty.")
    layout.add(HIGH_FIRST, reader.data)
    return call_image(reader.name, "flat", layout, HIGH_FIRST, {})
