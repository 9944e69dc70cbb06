"""How many pages are tried for sharing, and which: rate limits in virtual time, and choice by lot.

::

    time  ──>   each VM's allowance grows by its rate ──┐
                the system's allowance by its rate ─────┴──> pages to scan now, dealt to the VMs in turn
                                                                  │
                                               a random page of each VM, for each page dealt

    ESX 3.0    50 pages/s of each VM, 200 in all         Mem.ShareScanVM, Mem.ShareScanTotal
    ESX 3.5    all of each VM's memory in 60 minutes,    Mem.ShareScanTime,
               at most 4 pages/s for each GHz            Mem.ShareScanGHz
    KSM        100 pages every 20 ms: 5,000 pages/s      pages_to_scan, sleep_millisecs

Allowances are whole numbers, and with the generator's number they are the whole state: the same times give the same
pages. Of an allowance that could not be used a second's worth is kept.

Sources: Waldspurger 2002, section 4.3 (random pages, limits for each VM and all); VI3 Resource Management Guide; Linux,
Documentation/admin-guide/mm/ksm.rst.
MODEL: ESX 3.5's limit is not described more closely; it is taken as one for the system. KSM goes through memory in
order; here only its rate is used.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np
import numpy.typing as npt

from vilab.errors import AdminError
from vilab.memory.managed_pmap import ManagedPmap
from vilab.memory.sampling import RandomPages
from vilab.memory.sharing import PageSharing

SECOND_NS = 1_000_000_000
Numbers = npt.NDArray[np.int64]


class Rate(msgspec.Struct, frozen=True):
    """So many pages in so many nanoseconds."""

    pages: int
    in_ns: int = SECOND_NS


class ScanLimits(msgspec.Struct, frozen=True):
    """``vm``: of each VM; ``whole_vm_ns``: all of a VM's memory in that time; ``system``: of all together. ``None``: no
    such limit."""

    vm: Rate | None = None
    whole_vm_ns: int | None = None
    system: Rate | None = None

    def __post_init__(self) -> None:
        rates = [rate for rate in (self.vm, self.system) if rate is not None]
        if not rates and self.whole_vm_ns is None:
            raise AdminError("The scan for equal pages needs a limit: name one for each VM or for the system.")
        if any(rate.pages < 0 or rate.in_ns <= 0 for rate in rates) or (self.whole_vm_ns or 1) <= 0:
            raise AdminError("A scan rate is 0 or more pages in more than 0 ns: look at the limits that were given.")

    def of_vm(self, pages: int) -> Rate | None:
        """The limit of a VM with that much memory."""
        return self.vm if self.whole_vm_ns is None else Rate(pages, self.whole_vm_ns)


ESX_3_0 = ScanLimits(vm=Rate(50), system=Rate(200))
KSM = ScanLimits(system=Rate(100, 20_000_000))


def esx_3_5(host_hz: int, minutes: int = 60, pages_per_ghz: int = 4) -> ScanLimits:
    """``host_hz``: of all physical CPUs together."""
    return ScanLimits(
        whole_vm_ns=minutes * 60 * SECOND_NS, system=Rate(pages_per_ghz * host_hz, SECOND_NS * 1_000_000_000)
    )


class ScannerState(msgspec.Struct):
    """``vm_credit``, ``system_credit``: allowances, in pages times the ``in_ns`` of the rate. ``turn``: who got the
    last page that could not be dealt evenly; the next one is for the VM after it."""

    random: RandomPages
    system_credit: int = 0
    vm_credit: dict[int, int] = {}
    turn: int = 0


NOTHING_DUE: tuple[Numbers, Numbers] = (np.empty(0, np.int64), np.empty(0, np.int64))


def due(state: ScannerState, limits: ScanLimits, vm_pages: Mapping[int, int], by_ns: int) -> tuple[Numbers, Numbers]:
    """So much time has passed: VM ids and ppns of the pages to scan now.

    Parameters
    ----------
    vm_pages : VM id to its size, of all that are powered on.
    """
    total: int | None = None
    if limits.system is not None:
        state.system_credit += by_ns * limits.system.pages
        total = state.system_credit // limits.system.in_ns
    wants: dict[int, int] = {}
    rates = {vm_id: limits.of_vm(pages) for vm_id, pages in vm_pages.items() if pages}
    state.vm_credit = {vm_id: state.vm_credit.get(vm_id, 0) for vm_id in rates}
    for vm_id, rate in rates.items():
        if rate is not None:
            state.vm_credit[vm_id] += by_ns * rate.pages
            wants[vm_id] = state.vm_credit[vm_id] // rate.in_ns
        elif total is not None:
            wants[vm_id] = total
    shares = _deal(state, wants, sum(wants.values()) if total is None else total)
    for vm_id, rate in rates.items():
        if rate is not None:
            left = state.vm_credit[vm_id] - shares[vm_id] * rate.in_ns
            state.vm_credit[vm_id] = _keep(left, rate)
    if limits.system is not None:
        state.system_credit = _keep(state.system_credit - sum(shares.values()) * limits.system.in_ns, limits.system)
    if not any(shares.values()):  # nearly always: a quantum is shorter than the time of one page
        return NOTHING_DUE
    counts = np.array(list(shares.values()), np.int64)
    vm_ids = np.repeat(np.array(list(shares), np.int64), counts)
    sizes = np.repeat(np.array([vm_pages[vm_id] for vm_id in shares], np.int64), counts)
    return vm_ids, random_ppns(state.random, sizes)


def _keep(credit: int, rate: Rate) -> int:
    """What is carried over: a second's worth, or the one page that takes longer."""
    return min(credit, max(SECOND_NS * rate.pages, rate.in_ns))


def _deal(state: ScannerState, wants: Mapping[int, int], total: int) -> dict[int, int]:
    """Up to ``total`` pages, evenly to all that want more still."""
    shares = dict.fromkeys(wants, 0)
    while total > 0 and (hungry := [vm_id for vm_id in wants if shares[vm_id] < wants[vm_id]]):
        each = min(total // len(hungry), min(wants[vm_id] - shares[vm_id] for vm_id in hungry))
        if each == 0:
            hungry.sort(key=lambda vm_id: (vm_id <= state.turn, vm_id))
            for vm_id in hungry[:total]:
                shares[vm_id] += 1
                state.turn = vm_id
            break
        for vm_id in hungry:
            shares[vm_id] += each
        total -= each * len(hungry)
    return shares


def random_ppns(random: RandomPages, sizes: Numbers) -> Numbers:
    """For each size a number below it, all equally likely but for a part in 2**32 / size.

    The numbers of ``RandomPages.next_u64``, many at once: state n is state 0 + n * gamma, so each can be had alone.
    """
    count = len(sizes)
    gamma = 0x9E3779B97F4A7C15
    z = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(gamma) + np.uint64(random.state)
    random.state = (random.state + count * gamma) & 0xFFFF_FFFF_FFFF_FFFF
    z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return ((z >> np.uint64(32)) * sizes.astype(np.uint64) >> np.uint64(32)).astype(np.int64)


class Scanner:
    """Lets ``PageSharing`` scan as time goes by.

    Parameters
    ----------
    pmaps : by VM id: who is scanned.
    seed : of the choice of pages.
    """

    def __init__(
        self, sharing: PageSharing, pmaps: Mapping[int, ManagedPmap], seed: int, limits: ScanLimits = ESX_3_0
    ) -> None:
        self.limits = limits
        """May be replaced at any time."""
        self.state = ScannerState(RandomPages(seed & 0xFFFF_FFFF_FFFF_FFFF))
        self.chosen = 0
        """Pages chosen so far; those that are not PRIVATE are passed over."""
        self._sharing, self._pmaps = sharing, pmaps

    def ran(self, by_ns: int) -> int:
        """So much virtual time has passed: scan what is due. Returns how many pages came to be shared."""
        sizes = {vm_id: pmap.pages for vm_id, pmap in self._pmaps.items()}
        vm_ids, ppns = due(self.state, self.limits, sizes, by_ns)
        self.chosen += len(ppns)
        return self._sharing.scan(vm_ids, ppns) if len(ppns) else 0

    def scan_all(self) -> int:
        """Every page once, in order, whatever the limits: for lessons and measurements."""
        before = self._sharing.shared_pages
        for vm_id, pmap in self._pmaps.items():
            self.chosen += pmap.pages
            self._sharing.scan(np.full(pmap.pages, vm_id), np.arange(pmap.pages))
        return self._sharing.shared_pages - before

    def save_state(self) -> ScannerState:
        return msgspec.structs.replace(
            self.state, random=msgspec.structs.replace(self.state.random), vm_credit=dict(self.state.vm_credit)
        )

    def load_state(self, state: ScannerState) -> None:
        self.state = msgspec.structs.replace(
            state, random=msgspec.structs.replace(state.random), vm_credit=dict(state.vm_credit)
        )
