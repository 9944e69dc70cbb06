"""Where things fit in guest physical memory.

::

    0        0x1000                 0x9fc00   0xa0000      0x100000                      memory_bytes
    | never  | what the loader adds | BIOS    | video, ROM | the image, modules, initrd  |
             |   GDT, stack, boot information |            |                             |

The loader's own data goes into the lowest hole that no segment overlaps; below 640 KB if there is room, else behind
the image. A linear range may be reserved for a monitor: an image that is loaded or linked there is refused.
"""

from __future__ import annotations

from vilab.errors import AdminError

LOW_FIRST = 0x1000
LOW_END = 0x9_FC00  # then the extended BIOS data area (639 KB, the word at 0x413)
HIGH_FIRST = 0x10_0000
PAGE = 0x1000
MEGABYTE = 1 << 20
MOST_BYTES = 1 << 32

E820_USABLE, E820_RESERVED = 1, 2


def memory_map(memory_bytes: int) -> list[tuple[int, int, int]]:
    """(base, size in bytes, type) of a PC with that much memory, as INT 15h, AX=E820h would say it."""
    return [
        (0, LOW_END, E820_USABLE),
        (LOW_END, 0xA_0000 - LOW_END, E820_RESERVED),
        (0xF_0000, 0x1_0000, E820_RESERVED),
        (HIGH_FIRST, max(memory_bytes - HIGH_FIRST, 0), E820_USABLE),
    ]


def align_up(value: int, to: int = PAGE) -> int:
    return -(-value // to) * to


class Layout:
    """Collects the segments of one image and finds places for more.

    Parameters
    ----------
    name : of the image, for error sentences.
    memory_bytes : size of guest memory.
    reserved : first and last address of the linear range that belongs to a monitor, or ``None``.
    """

    def __init__(self, name: str, memory_bytes: int, reserved: tuple[int, int] | None) -> None:
        self.name = name
        self.memory_bytes = memory_bytes
        self.reserved = reserved
        self.segments: list[tuple[int, bytes]] = []
        self.zeroed: list[tuple[int, int]] = []

    def add(self, gpa: int, data: bytes, memory_size: int | None = None, gva: int | None = None) -> None:
        """Puts ``data`` at ``gpa``, zeros up to ``memory_size``. ``gva``: where it is linked to run, if not there.

        Raises ``AdminError`` if it lies outside memory, over another segment or in the reserved range.
        """
        size = len(data) if memory_size is None else memory_size
        if size == 0:
            return
        for start in (gpa, gpa if gva is None else gva):
            self._refuse_reserved(start, size)
        if gpa + size > self.memory_bytes:
            raise self.too_small(gpa + size)
        for other, other_size in self._occupied():
            if gpa < other + other_size and other < gpa + size:
                raise AdminError(
                    f"{self.name} cannot be loaded: its parts at {gpa:#x} ({size} bytes) and {other:#x} "
                    f"({other_size} bytes) overlap; the file is damaged."
                )
        if data:
            self.segments.append((gpa, data))
        if size > len(data):
            self.zeroed.append((gpa + len(data), size - len(data)))

    def place(self, size: int, align: int = 16) -> int:
        """The lowest free address for ``size`` bytes: below 640 KB, or else behind everything."""
        candidates = [LOW_FIRST, *(gpa + taken for gpa, taken in self._occupied())]
        for candidate in sorted(align_up(each, align) for each in candidates):
            if candidate >= LOW_FIRST and candidate + size <= LOW_END and self._is_free(candidate, size):
                return candidate
        return self.place_high(size, align)

    def place_high(self, size: int, align: int = PAGE) -> int:
        """The first address above 1 MB that lies behind everything."""
        ends = [gpa + taken for gpa, taken in self._occupied()]
        start = align_up(max([HIGH_FIRST, *ends]), align)
        if start + size > self.memory_bytes:
            raise self.too_small(start + size)
        return start

    def put(self, data: bytes, align: int = 16) -> int:
        """Finds a place for ``data``, adds it and returns its address."""
        gpa = self.place(len(data), align)
        self.add(gpa, data)
        return gpa

    def put_stack(self, size: int = PAGE) -> int:
        """Reserves zeroed memory for a first stack and returns its top."""
        gpa = self.place(size, PAGE)
        self.add(gpa, b"", size)
        return gpa + size

    def too_small(self, needed: int) -> AdminError:
        return AdminError(
            f"{self.name} cannot be loaded: memory too small: needs {align_up(needed, MEGABYTE) // MEGABYTE} MB, "
            f"has {self.memory_bytes / MEGABYTE:g} MB; give more with --memory."
        )

    def _occupied(self) -> list[tuple[int, int]]:
        return [(gpa, len(data)) for gpa, data in self.segments] + self.zeroed

    def _is_free(self, start: int, size: int) -> bool:
        return all(start >= gpa + taken or gpa >= start + size for gpa, taken in self._occupied())

    def _refuse_reserved(self, start: int, size: int) -> None:
        if self.reserved is not None and start <= self.reserved[1] and self.reserved[0] < start + size:
            raise AdminError(
                f"{self.name} cannot be loaded: its part at {start:#x} ({size} bytes) overlaps the VMM's window "
                f"{self.reserved[0]:#x} to {self.reserved[1]:#x}; link it elsewhere or run it with --engine bare."
            )
