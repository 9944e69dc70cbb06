"""A run of adjacent free frames where free ones lie scattered: the pages in between move.

::

    before   | a | . | b | . | M | . | S | c | . | d |        M: a monitor's, which cannot move
                               |<- window ->|
    after    | a | S | b | c | M |          |   . | d |        the window with the fewest pages to move

A monitor addresses its translation cache and its tables by machine address, so it wants its frames in one piece. A
guest's pages may be anywhere: the pmap says where, and its listeners hear when that changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vilab.addresses import Ppn
from vilab.errors import AdminError
from vilab.memory.page_state import FrameUse, PageState

if TYPE_CHECKING:
    from vilab.memory.manager import MemoryManager


def make_run(manager: MemoryManager, count: int) -> tuple[int, int]:
    """Clear ``count`` adjacent frames, which are nobody's then and not free either.

    Returns the first of them, and how many pages had to move. No guest may be in its slice. Raises ``AdminError``
    where monitors lie so that there is no such piece, or where the free frames elsewhere are too few.
    """
    frames = manager.frames
    first = _best_window(manager, count)
    frames.withdraw(first, count)
    moved = 0
    for mpn in range(first, first + count):
        if frames.use[mpn] == FrameUse.PRIVATE:
            pmap, ppn = manager.pmaps[int(frames.owner[mpn])], Ppn(int(frames.who[mpn]))
            new = frames.take_private(pmap.vm_id, ppn, zeroed=False)
            frames.copy(mpn, new)
            pmap.move(ppn, new, PageState.PRIVATE)
            frames.vacate(mpn)
            moved += 1
        elif frames.use[mpn] == FrameUse.SHARED:
            manager.sharing.move_frame(mpn)
            moved += 1
    return first, moved


def _best_window(manager: MemoryManager, count: int) -> int:
    """The first frame of the window without a monitor's frame in it that has the fewest pages."""
    use = manager.frames.use
    if count > len(use):
        raise AdminError(f"The machine has {len(use)} frames; {count} in one piece are needed.")
    fixed = np.concatenate(([0], np.cumsum(use == FrameUse.OVERHEAD)))
    taken = np.concatenate(([0], np.cumsum(use != FrameUse.FREE)))
    movable = np.flatnonzero(fixed[count:] == fixed[:-count])
    if not len(movable):
        raise AdminError(
            f"The monitors of the other virtual machines lie so that no {count >> 8} MB are left in one piece: "
            "power one off."
        )
    pages = taken[movable + count] - taken[movable]
    best = int(np.argmin(pages))
    free_elsewhere = manager.free_pages - (count - int(pages[best]))
    if free_elsewhere < int(pages[best]):
        raise AdminError(
            f"The machine has {manager.free_pages >> 8} MB of memory left; {count >> 8} MB in one piece are needed."
        )
    return int(movable[best])
