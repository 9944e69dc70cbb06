"""Machines that are moved while they are off, and clones, by an agent: rows of steps for ``host_tasks.Stepwise``.

The value of each is the sentence with which it has succeeded. Where a host that may be dead has the machine, that is
found out step by step, and everything else goes on meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from vilab.host.datastore_path import is_datastore_path
from vilab.host.host import Host
from vilab.host.hosted_vm import HostedVm
from vilab.migration.cloning import Clone
from vilab.migration.cold_migration import ColdMigration
from vilab.migration.host_tasks import Progress, Steps
from vilab.migration.storage_files import CopyProgress
from vilab.storage.still_held import StillHeld

Asked = TypeVar("Asked")


def asked_again(host: Host, ask: Callable[[], Asked]) -> Steps[Asked]:
    """What ``ask`` returns, once no host that may be dead stands in its way."""
    again_ns = 0
    while True:
        if time.monotonic_ns() >= again_ns:
            try:
                with host.storage.stepwise():
                    return ask()
            except StillHeld as held:
                again_ns = time.monotonic_ns() + held.again_ns
        yield None


def copying(steps: Iterator[CopyProgress]) -> Steps[None]:
    for step in steps:
        yield Progress(step.percent, step.copied_bytes, step.what or "copying")


def relocate(host: Host, where: str, datastore: str) -> Steps[str]:
    """Cold migration from one datastore of the host to another. Raises ``AdminError``."""
    move = yield from asked_again(host, lambda: ColdMigration(host, where, datastore))
    try:
        yield from copying(move.steps())
    finally:
        move.cancel()
    return f"{move.name} is in {move.where} now: {move.progress.copied_bytes / 1e6:.1f} MB copied. {move.left}".strip()


def clone(host: Host, what: str, running: Callable[[str], HostedVm], name: str, datastore: str) -> Steps[str]:
    """``what``: the configuration file, or the name of a machine that is ``running`` here. Raises ``AdminError``."""
    made = yield from asked_again(
        host, lambda: Clone(host, what if is_datastore_path(what) else running(what), name, datastore)
    )
    try:
        yield from copying(made.steps())
    finally:
        made.cancel()
    return f"{name} is in {made.where}, off: {made.progress.copied_bytes / 1e6:.1f} MB copied. {made.left}".strip()
