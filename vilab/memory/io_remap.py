"""I/O page remapping: pages that are sent again and again are moved to where the device can reach them.

A 32-bit PCI device reaches the first 4 GB of machine memory only. A page above has to be copied into a *bounce
buffer* below for each transmission. The hypervisor may instead move the page itself, as the guest never sees
machine addresses::

    machine memory   0                    4 GB                        64 GB
                     +---------------------+----------------------------+
                     |   [bounce]<------copy------[ page ]  copies += 1 |   so often, then
                     |   [ page ]<------remap-------+                   |   pmap: ppn -> a low mpn, for good
                     +---------------------+----------------------------+
                     |   [ cold ]-------remap------>                    |   when low memory is short
                     +---------------------+----------------------------+

Source: Waldspurger 2002, section 7 (copies counted for each page in a transmit cache; threshold; pressure on low
memory). MODEL: the paper gives no numbers and no choice of who goes; the page that has gone unsent longest goes,
and only if it has been unsent for ``cold_after`` transmissions.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

FIRST_HIGH_MPN = (4 << 30) >> 12
"""4 GB: from here on a 32-bit device needs help."""


class How(StrEnum):
    """What became of one transmission."""

    DIRECT = "direct"
    COPIED = "copied"
    REMAPPED = "remapped"


class Transmission(msgspec.Struct, frozen=True):
    """What the caller does: send as it is, send a copy, or give the page a low frame first.

    ``move_high``: a ppn that has to be given a high frame before, to make room.
    """

    how: How
    move_high: int | None = None


class IoRemapper(msgspec.Struct):
    """State for one VM. Times are counted in transmissions; the dictionaries are ordered, longest unsent first."""

    low_free_pages: int
    """Low frames that this VM may still be given."""
    threshold: int = 4
    """Copies of a page before it is remapped."""
    cache_pages: int = 256
    """High pages that are counted at once."""
    cold_after: int = 1024
    transmissions: int = 0
    copies: dict[int, int] = {}
    """Transmit cache: high ppn to the copies made of it."""
    remapped: dict[int, int] = {}
    """Ppn that was moved low to when it was last sent."""
    copied_pages: int = 0
    remapped_pages: int = 0
    moved_high_pages: int = 0


def transmit(state: IoRemapper, ppn: int, mpn: int) -> Transmission:
    """The device is to read the page ``ppn``, which is in the frame ``mpn``."""
    state.transmissions += 1
    if mpn < FIRST_HIGH_MPN:
        if state.remapped.pop(ppn, None) is not None:
            state.remapped[ppn] = state.transmissions
        return Transmission(How.DIRECT)
    copies = state.copies.pop(ppn, 0)
    if copies >= state.threshold and (state.low_free_pages or _has_cold(state)):
        return _remap(state, ppn)
    state.copies[ppn] = copies + 1
    if len(state.copies) > state.cache_pages:
        del state.copies[next(iter(state.copies))]
    state.copied_pages += 1
    return Transmission(How.COPIED)


def forget(state: IoRemapper, ppn: int) -> None:
    """The page has got another frame for other reasons (ballooned, swapped, shared): what is known of it is void."""
    state.copies.pop(ppn, None)
    if state.remapped.pop(ppn, None) is not None:
        state.low_free_pages += 1


def _has_cold(state: IoRemapper) -> bool:
    longest_unsent = next(iter(state.remapped.values()), state.transmissions)
    return state.transmissions - longest_unsent > state.cold_after


def _remap(state: IoRemapper, ppn: int) -> Transmission:
    victim = None
    if state.low_free_pages:
        state.low_free_pages -= 1
    else:
        victim = next(iter(state.remapped))
        del state.remapped[victim]
        state.moved_high_pages += 1
    state.remapped[ppn] = state.transmissions
    state.remapped_pages += 1
    return Transmission(How.REMAPPED, victim)
