"""Three ways to keep shadow tables up to date, on three workloads: each of them loses somewhere.

::

                    one address space,      many address spaces,      processes that come
                    tables edited a lot     tables left alone         and go (forkwait)
    all             every edit faults       nothing to do             the tables of each
    lazy            nothing to do           hidden faults, again      hidden faults, again
    prevalidate     nothing to do           looks at all entries      looks at all entries

The three-way trade-off of Adams and Agesen 2006, section 2.4, in counts of real runs under translation.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from vilab.costs import DEFAULT_COSTS, CostModel
from vilab.vmm.comparison import event_cost
from vilab.vmm.comparison_counts import DROPPED, HIDDEN, LOADS, TRACE, TRUE, VALIDATED, Counts, Way, per_round
from vilab.vmm.shadow_policy import POLICIES


class Workload(msgspec.Struct, frozen=True):
    """``append``: the command line, with ``{}`` for the rounds."""

    name: str
    image: str
    append: str
    rounds: int
    what: str


WORKLOADS = (
    Workload("forkwait", "forkwait", "{} 16", 10, "a process with 16 pages of data comes and goes"),
    Workload("one space", "nano", "edits {}", 40, "16 pages are mapped, touched, unmapped and forgotten"),
    Workload("many spaces", "nano", "spaces {}", 160, "the next of 16 address spaces is loaded, 16 pages are touched"),
)
"""What a round is."""

SHOWN = (HIDDEN, TRACE, "simulate", TRUE, LOADS, DROPPED, VALIDATED)
CHARGED = (HIDDEN, TRACE, "simulate", TRUE, VALIDATED, "mov to cr", "invlpg")
"""What depends on the policy, and what it is there for."""


class Outcome(msgspec.Struct, frozen=True):
    """One policy on one workload, a round of it. ``cycles``: for the MMU. ``ratio``: to the cheapest policy there."""

    policy: str
    workload: str
    counts: Counts
    parts: dict[str, float]
    cycles: float
    ratio: float

    @property
    def loses(self) -> bool:
        """Another policy was cheaper."""
        return self.ratio > 1


def outcomes(
    costs: CostModel = DEFAULT_COSTS, workloads: Sequence[Workload] = WORKLOADS, engine: str = "bt"
) -> list[Outcome]:
    """Every policy on every workload, workload by workload."""
    found: list[Outcome] = []
    for workload in workloads:
        here: list[Outcome] = []
        for policy in POLICIES:
            way = Way(engine, (("trace", policy),))
            counts = per_round(way, workload.image, workload.append, workload.rounds)
            parts = {
                reason: counts[reason] * event_cost(way, reason, costs) for reason in CHARGED if counts.get(reason)
            }
            shown = {reason: counts.get(reason, 0) for reason in SHOWN}
            here.append(Outcome(policy, workload.name, shown, parts, sum(parts.values()), 1))
        least = min(each.cycles for each in here)
        found += [msgspec.structs.replace(each, ratio=each.cycles / least) for each in here]
    return found


def losers(found: Sequence[Outcome]) -> dict[str, list[str]]:
    """Policy -> the workloads where another one is cheaper."""
    return {policy: [each.workload for each in found if each.policy == policy and each.loses] for policy in POLICIES}
