"""Guest memory as a device sees it that moves bytes by itself.

::

    device ──read──> DmaView ──> pmap ──> resolve ──> page_needed: "a device reads this" ──> double paging, if the
                                                                                             host had swapped it out
"""

from __future__ import annotations

from vilab.memory.pmap import Pmap


class DmaView:
    """Goes through the pmap, which knows for that time who asks."""

    def __init__(self, pmap: Pmap) -> None:
        self._pmap = pmap

    @property
    def size_bytes(self) -> int:
        """Where memory ends."""
        return self._pmap.size_bytes

    def read(self, gpa: int, size_bytes: int) -> bytes:
        pmap = self._pmap
        pmap.device_reads = True
        try:
            return pmap.read(gpa, size_bytes)
        finally:
            pmap.device_reads = False

    def write(self, gpa: int, data: bytes) -> None:
        self._pmap.write(gpa, data)
