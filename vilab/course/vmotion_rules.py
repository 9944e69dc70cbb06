"""Rules beside each other on the paper's workloads: the model of pre-copy over traces, in milliseconds of computing.

::

    specweb      one round    1370 ms                 over a link of 500 Mbit/s, as to a machine of the paper's size
                 nelson        422 ms                 (``dirty_traces``: a smaller machine over a slower link)
                 clark         517 ms
                 goal 60 ms    371 ms

MODEL: what ``precopy_model`` says of itself; there is no resume in these downtimes.
"""

from __future__ import annotations

from functools import cache

from vilab.course.feedback import columns
from vilab.migration.dirty_traces import Trace, workload
from vilab.migration.precopy_model import Outcome, Setting, migrate, scaled_limits
from vilab.migration.rate_control import MBIT, RateLimits
from vilab.migration.termination import ClarkPolicy, PreCopyPolicy, policy_named

LINK_MBIT = 500
COMPARED = {"one round": "rounds:1", "Nelson": "nelson", "Clark": "clark", "goal of 60 ms": "downtime:60"}
SHOWN = ("idle", "quake", "static-web", "specweb", "kernel-compile", "constant-writer")
PAPER_LIMITS = RateLimits(100 * MBIT, LINK_MBIT * MBIT)


def rule_for(name: str, trace: Trace) -> PreCopyPolicy:
    """A rule as it is written; Clark's limits are scaled like the machine."""
    return ClarkPolicy(scaled_limits(PAPER_LIMITS, trace)) if name == "clark" else policy_named(name)


@cache
def outcome(name: str, rule: str, mbit: int = LINK_MBIT, seed: int = 1) -> Outcome:
    """One workload by one rule, computed once."""
    trace = workload(name, seed)
    return migrate(rule_for(rule, trace), trace, Setting(trace.scaled(mbit * MBIT), seed=seed))


def copies(name: str, rule: str) -> float:
    """How many times its memory was sent, all in all."""
    return outcome(name, rule).sent_pages / workload(name).pages


def rules_text() -> str:
    """Every workload by every rule: downtime, rounds while it ran, time in all, times its memory."""
    rows = [("", *COMPARED)]
    for name in SHOWN:
        cells = []
        for rule in COMPARED.values():
            found = outcome(name, rule)
            cells.append(
                f"{found.downtime_ns / 1e6:5.0f} ms {len(found.rounds) - 1:2} rounds {found.total_ns / 1e9:4.1f} s "
                f"x{copies(name, rule):.2f}"
            )
        rows.append((name, *cells))
    return "\n".join(columns(rows))
