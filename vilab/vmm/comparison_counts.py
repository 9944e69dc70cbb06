"""What an operation makes an engine do: counted, in runs of the ``nano`` guest and of ``forkwait``.

::

    nano OP 2N  -  nano OP N        what N more rounds have caused: set-up, translation and adaptation cancel out
    nano empty 2N - nano empty N    the loop itself
    ───────────────────────────
    the difference, divided by N:   one operation

Counts come from the engine's own statistics, so they are exact and the same every time.
"""

from __future__ import annotations

import inspect
from collections import Counter
from functools import lru_cache

import msgspec

from vilab.errors import VmmBug
from vilab.guests.load import load
from vilab.vmm.vm import QuietConsole, VirtualMachine

NANO_MEMORY_BYTES, KERNEL_MEMORY_BYTES = 4 << 20, 8 << 20
ROUNDS, TABLE_ROUNDS, PROCESSES = 200, 100, 10
"""``TABLE_ROUNDS``: entries of one table, no more than a monitor takes for a sweep that clears the page."""

CODE_BYTES, HIDDEN, TRUE, TRACE = "code bytes", "hidden faults", "true faults", "trace faults"
UPDATED, VALIDATED, LOADS, DROPPED = "updated entries", "validated entries", "loads of CR3", "dropped entries"

Counts = dict[str, float]
"""Exits by reason, and what else was counted: ``CODE_BYTES`` executed, faults by kind, entries of page tables."""


class Way(msgspec.Struct, frozen=True):
    """An engine with its options."""

    engine: str
    options: tuple[tuple[str, str], ...] = ()

    @property
    def exists(self) -> bool:
        """Does the engine know these options?"""
        return all(name in _parameters(self.engine) for name, _ in self.options)


BARE, TRANSLATION, PARA, TRAP = Way("bare"), Way("bt"), Way("para"), Way("trap")
MIRRORED = Way("bt", (("placement", "mirrored"),))
NESTED, SHADOW = Way("svm"), Way("svm", (("paging", "shadow"),))


@lru_cache
def _parameters(engine: str) -> frozenset[str]:
    from vilab.vmm.engine_bt import TranslationEngine
    from vilab.vmm.engine_para import ParaEngine
    from vilab.vmm.engine_svm import SvmEngine

    kinds = {"bt": TranslationEngine, "svm": SvmEngine, "para": ParaEngine}
    if engine not in kinds:
        return frozenset()
    chosen_by_vm = {"bt": {"placement"}, "svm": {"paging"}}.get(engine, set())
    return frozenset(inspect.signature(kinds[engine]).parameters) | chosen_by_vm


def run(way: Way, image: str, append: str) -> Counter[str]:
    """One run to its good end."""
    memory_bytes = NANO_MEMORY_BYTES if image == "nano" else KERNEL_MEMORY_BYTES
    loaded = load(image, memory_bytes=memory_bytes, append=append, paravirtual=way.engine == "para")
    vm = VirtualMachine(loaded, way.engine, memory_bytes, console=QuietConsole(), engine_options=dict(way.options))
    try:
        ended = vm.engine.run()
        if ended is None or not ended.good:
            raise VmmBug(f"{image} {append} did not end well under {way.engine}: {ended.sentence if ended else ''}")
        return _counted(vm)
    finally:
        vm.close()


def _counted(vm: VirtualMachine) -> Counter[str]:
    engine = vm.engine
    counts = Counter(engine.exits)
    counts[CODE_BYTES] = vm.cpu.executed_bytes
    counts[HIDDEN], counts[TRUE], counts[TRACE] = engine.hidden_faults, engine.true_faults, engine.trace_faults
    counts[UPDATED] = getattr(engine, "updated_entries", 0)
    policy = getattr(getattr(engine, "shadow", None), "policy", None)
    if policy is not None:
        counts[LOADS], counts[DROPPED], counts[VALIDATED] = (
            policy.loads, policy.dropped_entries, policy.validated_entries
        )  # fmt: skip
    return counts


def per_round(way: Way, image: str, append: str, rounds: int) -> Counts:
    """What one more round of ``image`` causes. ``append``: its command line, with ``{}`` for the rounds."""
    return dict(_per_round(way, image, append, rounds))


@lru_cache(maxsize=256)  # the same every time, so once is enough
def _per_round(way: Way, image: str, append: str, rounds: int) -> tuple[tuple[str, float], ...]:
    once, twice = (run(way, image, append.format(n)) for n in (rounds, 2 * rounds))
    return tuple((reason, (twice[reason] - once[reason]) / rounds) for reason in sorted(once | twice))


def nano(way: Way, operation: str, rounds: int = ROUNDS, empty: str = "empty") -> Counts:
    """What one operation causes, the loop around it taken off."""
    found, loop = (per_round(way, "nano", f"{name} {{}}", rounds) for name in (operation, empty))
    counts = {reason: found.get(reason, 0) - loop.get(reason, 0) for reason in sorted(found | loop)}
    return {reason: count for reason, count in counts.items() if count}


def warm_up(way: Way, operation: str, rounds: int = ROUNDS, empty: str = "empty") -> Counts:
    """What the first ``rounds`` operations caused beside what that many later ones do."""
    first, loop = (run(way, "nano", f"{name} {rounds}") for name in (operation, empty))
    later = nano(way, operation, rounds, empty)
    counts = {reason: first[reason] - loop[reason] - later.get(reason, 0) * rounds for reason in sorted(first | loop)}
    return {reason: count for reason, count in counts.items() if count and reason != CODE_BYTES}


def forkwait(way: Way, rounds: int = PROCESSES, pages: int = 16) -> Counts:
    """What one process, from fork to the end of the parent's wait, causes on the teaching kernel."""
    return per_round(way, "forkwait", f"{{}} {pages}", rounds)
