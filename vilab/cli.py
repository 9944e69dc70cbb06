"""The commands: ``vilab run``, ``bench``, ``doctor``, ``lab``, ``reset``."""

from __future__ import annotations

import sys


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    print("vilab: no command is built yet", file=sys.stderr)
    return 2
