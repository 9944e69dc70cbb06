"""Taking memory back: who has too much, and how it is got from them.

::

    free memory      high            soft                hard             low
                 6 % ────────── 4 % ──────────── 2 % ──────────── 1 % ──────────
                  nothing        balloon           page out        page out,
                                 (page out where                   and block who is
                                  no driver gives)                 above the target

    excess  =  charged - target          balloon target  =  pages in the balloon + excess

Targets are always computed so that free memory would end clearly above the threshold of *high*. They are what deflates
balloons, too, in any state. Who is above its limit gives what is above, in any state. Waldspurger 2002, section 6.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vilab.addresses import Ppn
from vilab.memory import memory_events as events
from vilab.memory import sampling
from vilab.memory.free_states import MEASURES, FreeState, Paging, next_state
from vilab.memory.page_state import PageState
from vilab.memory.sampling import RandomPages
from vilab.memory.shares import DEFAULT_TAX, Claim, shares_of
from vilab.memory.targets import allocation_targets

if TYPE_CHECKING:
    from vilab.memory.client import MemoryClient
    from vilab.memory.manager import MemoryManager

BALANCE_NS = 15_000_000_000
"""Mem.BalancePeriod."""
PAGE_OUT_PER_S = 4_000
"""MODEL: so many pages a second go to the swap files: 16 MB/s, a disk of that time written in one go."""
BALLOON_PATIENCE_NS = 10_000_000_000
"""MODEL: a driver asks once a second. One that gives nothing for this long when it should is taken for none."""
TRIES = 64
"""So many random pages are looked at for one that can go before the guest's pages are gone through in order."""


class Reclaimer:
    """The policy of one machine. ``tax``: 0 to less than 1."""

    def __init__(self, manager: MemoryManager, seed: int) -> None:
        self._manager = manager
        self._random = RandomPages(seed ^ 0x5EED)
        self.tax = DEFAULT_TAX
        self.state = FreeState.HIGH
        self.ballooning = self.paging = True
        """Switches for lessons: what would happen without?"""
        self._balance_at_ns = BALANCE_NS
        self._page_out_credit = 0.0

    def set_tax(self, tax: float) -> None:
        """Mem.IdleTax, as a fraction."""
        self.tax = tax
        self.rebalance("idle tax")

    # Targets -----------------------------------------------------------------------------------------------------

    def claims(self) -> list[Claim]:
        """What each client has been promised and uses, in the order of ``clients``."""
        return [
            Claim(
                client.name, shares_of(client.config.shares, client.config.size_mb), client.config.min_pages,
                client.config.max_pages, sampling.active_pages(client.sampler),
            )
            for client in self._manager.clients.values()
        ]  # fmt: skip

    def available_pages(self) -> int:
        """What can be given to guests."""
        manager = self._manager
        overhead = sum(len(client.overhead) for client in manager.clients.values())
        return max(0, manager.total_pages - overhead - manager.aim_free_pages())

    def rebalance(self, why: str) -> None:
        """Compute every target anew, and set the balloons."""
        manager = self._manager
        clients = list(manager.clients.values())
        self._balance_at_ns = manager.now_ns + BALANCE_NS
        if not clients:
            return
        claims = self.claims()
        for client, target in zip(clients, allocation_targets(claims, self.available_pages(), self.tax), strict=True):
            # Reservations may leave less free memory than there should be: they are kept all the same.
            client.target_pages = max(target, client.config.min_pages)
        self.set_balloons()
        if manager.log.active:
            rows = [
                (client.vm_id, client.target_pages, manager.charged_pages(client), claim.active_pages)
                for client, claim in zip(clients, claims, strict=True)
            ]
            manager.log.emit(events.TargetsComputed(manager.now_ns, why, tuple(rows)))

    def excess(self, client: MemoryClient) -> int:
        """Pages above the target; negative below."""
        return self._manager.charged_pages(client) - client.target_pages

    def set_balloons(self) -> None:
        """Inflate where the state says so, or a limit is exceeded; deflate wherever there is a reason."""
        inflate = MEASURES[self.state].balloon and self.ballooning
        for client in self._manager.clients.values():
            if client.balloon_by_hand is not None:
                client.balloon.set_target(client.balloon_by_hand)
                continue
            if not client.balloon.active:
                continue
            inside, excess = client.balloon.locked_pages, self.excess(client)
            over_limit = self._manager.charged_pages(client) - client.config.max_pages
            if excess < 0 or inflate:
                client.balloon.set_target(max(0, inside + excess))
            elif over_limit > 0 and self.ballooning:
                client.balloon.set_target(inside + over_limit)

    # Time --------------------------------------------------------------------------------------------------------

    def tick(self, by_ns: int) -> None:
        """State, targets, paging, blocking."""
        manager = self._manager
        for client in manager.clients.values():
            self._watch_balloon(client)
        was, free = self.state, manager.free_pages
        self.state = next_state(was, free, manager.total_pages)
        if self.state is not was:
            if manager.log.active:
                changed = events.FreeStateChanged(manager.now_ns, str(was), str(self.state), free, manager.total_pages)
                manager.log.emit(changed)
            self.rebalance(f"{self.state} memory")
        elif manager.now_ns >= self._balance_at_ns:
            self.rebalance("period")
        elif MEASURES[self.state].balloon:
            self.set_balloons()
        self._page_out(by_ns)
        self._block()

    def _watch_balloon(self, client: MemoryClient) -> None:
        """Does it still grow when it should? One that does not is paged out, as if there were no driver."""
        balloon, now_ns = client.balloon, self._manager.now_ns
        if balloon.locked_pages != client.balloon_pages or balloon.locked_pages >= balloon.target_pages:
            client.balloon_pages, client.balloon_moved_ns = balloon.locked_pages, now_ns
        full = balloon.locked_pages >= balloon.maximum_pages and balloon.state.asked_pages > balloon.maximum_pages
        client.balloon_stuck = full or now_ns - client.balloon_moved_ns >= BALLOON_PATIENCE_NS

    def _page_out(self, by_ns: int) -> None:
        paging = MEASURES[self.state].paging
        self._page_out_credit = min(self._page_out_credit + by_ns * PAGE_OUT_PER_S / 1e9, PAGE_OUT_PER_S)
        if not self.paging:
            return
        self._keep_limits()
        if paging is Paging.NEVER:
            return
        manager = self._manager
        wanted = min(int(self._page_out_credit), manager.aim_free_pages() - manager.free_pages)
        clients = [
            client for client in manager.clients.values()
            if paging is Paging.ALWAYS or not client.can_balloon() or not self.ballooning
        ]  # fmt: skip
        taken = self._take_from(clients, wanted)
        self._page_out_credit -= taken

    def _keep_limits(self) -> None:
        """Who is above its limit and has no balloon is paged out, however much memory is free."""
        manager = self._manager
        for client in manager.clients.values():
            if client.config.limit_mb is not None and not (client.can_balloon() and self.ballooning):
                above = manager.charged_pages(client) - client.config.max_pages
                self._page_out_credit -= manager.page_out(client, min(above, int(self._page_out_credit)))

    def _take_from(self, clients: list[MemoryClient], wanted: int) -> int:
        """Page out so many pages, from each as much as it is above its target; how many it were."""
        taken, manager = 0, self._manager
        excesses = {client.vm_id: max(0, self.excess(client)) for client in clients}
        total = sum(excesses.values())
        for client in clients:
            if total and wanted > 0:
                taken += manager.page_out(
                    client, min(excesses[client.vm_id], -(-wanted * excesses[client.vm_id] // total))
                )
        return taken

    def page_out(self, client: MemoryClient, pages: int) -> int:
        """Random pages, so that the guest's own replacement policy is not met; how many have gone."""
        gone, pmap = 0, client.pmap
        tries = 0
        while gone < pages and tries < TRIES:
            if self._manager.swap_out(client, Ppn(self._random.below(pmap.pages))):
                gone, tries = gone + 1, 0
            else:
                tries += 1
        if gone < pages:
            for ppn in np.flatnonzero(pmap.states == PageState.PRIVATE).tolist():
                # Without room only sharing is left, and looking at every page for that would take too long.
                if gone == pages or not client.swap.has_room():
                    break
                gone += self._manager.swap_out(client, Ppn(ppn))
        return gone

    def make_room(self, frames: int, sparing: int | None = None) -> bool:
        """See that so many frames are free: first from who is above the target, then from who is above the reservation.

        ``sparing``: whom nothing must be taken from now. False: it did not suffice.
        """
        manager = self._manager
        clients = [client for client in manager.clients.values() if client.vm_id != sparing]
        missing = frames - manager.free_pages
        if missing > 0:
            self._take_from(clients, missing)
        for client in sorted(clients, key=self.excess, reverse=True):
            missing = frames - manager.free_pages
            if missing <= 0:
                break
            above = manager.charged_pages(client) - client.config.min_pages
            manager.page_out(client, min(missing, max(0, above)))
        return manager.free_pages >= frames

    def _block(self) -> None:
        block = MEASURES[self.state].block_above_target and self.paging  # without paging nobody would come free again
        manager = self._manager
        for client in manager.clients.values():
            blocked = block and self.excess(client) > 0
            if blocked is not client.blocked:
                client.blocked = blocked
                if manager.log.active:
                    charged = manager.charged_pages(client)
                    manager.log.emit(
                        events.VmBlocked(manager.now_ns, client.vm_id, charged, client.target_pages)
                        if blocked else events.VmUnblocked(manager.now_ns, client.vm_id)
                    )  # fmt: skip
