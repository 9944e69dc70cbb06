"""How short of memory the host is: four states, with hysteresis.

::

    free memory   0 %    1 %     2 %           4 %           6 %
                  |------|-------|-------------|-------------|-------------->

       high   <------------------------------- goes down     .   comes back
         | free < 4 %                                        .       ^ free > 6 % + margin
         v                                                   .       |
       soft                      goes down     . comes back
         | free < 2 %                          .     ^ free > 4 % + margin
         v                                     .     |
       hard              goes down . comes back
         | free < 1 %              .     ^ free > 2 % + margin
         v                         .     |
       low

    state   balloon   page                               block VMs above target
    high    -         -                                  -
    soft    yes       only where ballooning is           -
                      not possible
    hard    -         yes                                -
    low     -         yes                                yes

Each state's threshold is where one falls *into* it from above, and where, with a margin, one climbs back to it from
below. Targets always aim at more free memory than it takes to come back to *high*, whatever the state is.

Sources: Waldspurger 2002, section 6.3. ESX 4's documentation (by Denneman) balloons in *hard* too; the paper, which
is followed here, counts on paging there: what a balloon already holds, it keeps.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from vilab.errors import AdminError


class FreeState(StrEnum):
    HIGH = "high"
    SOFT = "soft"
    HARD = "hard"
    LOW = "low"


DOWNWARDS = (FreeState.HIGH, FreeState.SOFT, FreeState.HARD, FreeState.LOW)

THRESHOLD_PERCENT = {FreeState.HIGH: 6.0, FreeState.SOFT: 4.0, FreeState.HARD: 2.0, FreeState.LOW: 1.0}

MARGIN_PERCENT = 0.5
"""MODEL: the paper says *significantly* above the threshold and gives no number. This is in percent of memory."""


class Paging(StrEnum):
    """Which clients have pages taken by force, to the swap file."""

    NEVER = "never"
    WITHOUT_BALLOON = "where ballooning is not possible"
    ALWAYS = "always"


class Measures(msgspec.Struct, frozen=True):
    """What the host does in a state."""

    balloon: bool
    paging: Paging
    block_above_target: bool


MEASURES = {
    FreeState.HIGH: Measures(balloon=False, paging=Paging.NEVER, block_above_target=False),
    FreeState.SOFT: Measures(balloon=True, paging=Paging.WITHOUT_BALLOON, block_above_target=False),
    FreeState.HARD: Measures(balloon=False, paging=Paging.ALWAYS, block_above_target=False),
    FreeState.LOW: Measures(balloon=False, paging=Paging.ALWAYS, block_above_target=True),
}


def next_state(state: FreeState, free_pages: int, total_pages: int) -> FreeState:
    """The state that follows from this much free memory.

    Down as far as it goes, up one state after another for as long as each next one is clearly reached.
    """
    if total_pages <= 0:
        raise AdminError(f"A host cannot manage {total_pages} pages of memory: look at the size that it was given.")
    percent = 100 * free_pages / total_pages
    at = DOWNWARDS.index(state)
    while at + 1 < len(DOWNWARDS) and percent < THRESHOLD_PERCENT[DOWNWARDS[at + 1]]:
        at += 1
    while at > 0 and percent > THRESHOLD_PERCENT[DOWNWARDS[at - 1]] + MARGIN_PERCENT:
        at -= 1
    return DOWNWARDS[at]


def aim_free_pages(total_pages: int) -> int:
    """How much should be free: the least that brings a host back to *high* from any state. Targets share the rest."""
    return int(total_pages * (THRESHOLD_PERCENT[FreeState.HIGH] + MARGIN_PERCENT) / 100) + 1
