"""``vilab guests``: brings guests that others wrote, and says which are there.

::

    vilab guests fetch debian                                   from the distribution's packages
    vilab guests fetch debian --kernel FILE --busybox FILE      from files that a person has
    vilab guests list
"""

from __future__ import annotations

import sys
from pathlib import Path

from vilab.errors import AdminError
from vilab.guests import debian
from vilab.guests.bundled import BUNDLED


def fetch_guest(
    name: str, again: bool = False, kernel: Path | None = None, busybox: Path | None = None, modules: Path | None = None
) -> int:
    """Get a guest unless it is there already; says where it lies."""
    assert name == debian.NAME
    if kernel is not None or busybox is not None:
        if kernel is None or busybox is None:
            raise AdminError("Of files that are here, --kernel and --busybox are both needed.")
        print(debian.take(kernel, busybox, modules).describe())
        return 0
    if modules is not None:
        raise AdminError("--modules goes with --kernel and --busybox.")
    if not again:
        try:
            print(f"There already: {debian.find().describe()}")
            return 0
        except AdminError:
            pass  # not there, or damaged: that is what fetching is for
    found, complaint = debian.fetch()
    if complaint:
        print(f"Not every package index could be read ({complaint}); it did not matter.", file=sys.stderr)
    print(found.describe())
    return 0


def list_guests() -> int:
    """One line a guest."""
    try:
        state = debian.find().describe()
    except AdminError as error:
        state = str(error)
    width = max(map(len, (*BUNDLED, debian.NAME)))
    for each in BUNDLED.values():
        print(f"{each.name:<{width}}  {each.what}{f' (--append {each.usage!r})' if each.usage else ''}")
    print(f"{debian.NAME:<{width}}  {state}")
    return 0
