"""What a copy of a machine's folder reports, at the host that it is copied from. Times are of the host's clock.

::

    FileCopyBegan    FileCopied ... (a file)    FileCopyEnded
"""

from __future__ import annotations

from vilab.events import Event


class FileCopyBegan(Event, frozen=True, tag=True):
    """``source``, ``destination``: hosts. ``home``, ``to``: configuration files there. ``clone``: the old one stays."""

    vm: str
    source: str
    destination: str
    home: str
    to: str
    files: int
    size_bytes: int
    clone: bool


class FileCopied(Event, frozen=True, tag=True):
    """One file was sent; ``sent_bytes`` of it: the rest are zeros."""

    vm: str
    file: str
    size_bytes: int
    sent_bytes: int


class FileCopyEnded(Event, frozen=True, tag=True):
    """``why`` is empty after a success, and says in a sentence what has happened otherwise. ``left``: what could not be
    removed afterwards. ``phase``: ``moved``, ``copied``, ``failed``, or ``undecided``: which host has the machine is
    not known here."""

    vm: str
    phase: str
    why: str
    left: str
    sent_bytes: int
    duration_ns: int
