"""Which cards of a team are in use: active ones, and standby ones for those that have failed.

::

    active   vmnic0  vmnic1          standby   vmnic2  vmnic3

    all well            in use  [vmnic0, vmnic1]
    vmnic0 fails                [vmnic2, vmnic1]      the first standby that is well takes its place
    vmnic2 fails, too           [vmnic3, vmnic1]
    vmnic3 fails, too           [  --  , vmnic1]      what the empty place had to carry is spread over the others
    vmnic0 is well again        [vmnic0, vmnic1]      failback: yes
                                [  --  , vmnic1]      failback: no; vmnic0 waits until one that is in use fails

    number of a port or hash -> number % places, as a rule; what another place carries never moves

"Explicit failover order" has one place: the first of all active, then all standby cards that is well. So has a team
without active cards.

Sources: ESX Server 3 Configuration Guide, "Failover and Load Balancing" (failback: a failed adapter that recovers is
used again at once, or left inactive until an active one fails). MODEL: how the ports of a failed card are spread.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from vilab.network.policies import TeamingPolicy

Places = Sequence[str | None]


def places_of(policy: TeamingPolicy, before: Places | None, well: Collection[str]) -> list[str | None]:
    """Who is in use now.

    Parameters
    ----------
    before : the answer before, which failback "no" goes by; ``None`` at the beginning.
    well : names of the cards that work.
    """
    active, standby = policy.active, policy.standby
    if policy.balancing == "explicit":
        active, standby = (active + standby)[:1], (active + standby)[1:]
    if policy.failback or before is None:
        places: list[str | None] = [name if name in well else None for name in active] or [None]
        free = [number for number, name in enumerate(places) if name is None]
        return _filled(places, free, [name for name in standby if name in well])
    places = [name if name in well else None for name in before]
    lost = [number for number, name in enumerate(before) if name is not None and places[number] is None]
    free = lost if any(places) else list(range(len(places)))
    return _filled(places, free, [name for name in standby + active if name in well and name not in places])


def _filled(places: list[str | None], free: list[int], names: list[str]) -> list[str | None]:
    for number, name in zip(free, names, strict=False):
        places[number] = name
    return places


def choose(places: Places, number: int) -> str | None:
    """The card for a port's number or a hash."""
    if not places:
        return None
    name = places[number % len(places)]
    if name is None:
        others = [other for other in places if other is not None]
        name = others[number // len(places) % len(others)] if others else None
    return name
