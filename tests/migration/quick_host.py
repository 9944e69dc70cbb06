"""``vilab`` with hosts on VMFS that take others for dead sooner: ``python -m tests.migration.quick_host host ...``."""

from __future__ import annotations

import functools
import sys

from vilab.cli import main
from vilab.commands import host
from vilab.storage.vmfs.time import Timing

TIMING = Timing(renew_ns=500_000_000, dead_ns=6_000_000_000, look_ns=500_000_000)

if __name__ == "__main__":
    host.StorageOptions = functools.partial(host.StorageOptions, timing=TIMING)  # type: ignore[assignment,misc]
    sys.exit(main())
