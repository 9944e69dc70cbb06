"""A host in a process of its own, on a volume that other processes use: ``python -m tests.host.storage_process``.

::

    PORT FOLDER NAME LINE ...     powers on [san1] web/web.vmx, types the lines, says "done", and stays on
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.host.storage_helpers import QUANTUM, start
from tests.storage.vmfs_over_iscsi import IQN
from vilab.errors import AdminError
from vilab.host.host import Host
from vilab.host.storage import StorageOptions
from vilab.storage.iscsi.chap import Credentials
from vilab.storage.vmfs.time import Timing

CHAP = Credentials("esx", "secretsecret")
TIMING = Timing(renew_ns=500_000_000, dead_ns=6_000_000_000, look_ns=500_000_000)
WEB = "[san1] web/web.vmx"


def wall_host(port: str, folder: Path, name: str) -> Host:
    """Heartbeats by this computer's clock: the others are other programs."""
    folder.mkdir(exist_ok=True)
    options = StorageOptions(keeps="wall", timing=TIMING)
    host = Host(40, name, swap_directory=folder, quantum_ns=QUANTUM, storage=options)
    host.storage.add_portal(f"127.0.0.1:{port}", IQN, CHAP)
    problems = host.storage.rescan().problems
    if problems:
        raise AdminError(problems[0])
    return host


def main() -> None:
    port, folder, name, *lines = sys.argv[1:]
    host = wall_host(port, Path(folder), name)
    start(host, WEB, *lines)
    print("done", flush=True)
    while True:
        host.run_for(QUANTUM)
        host.wait(100_000_000)


if __name__ == "__main__":
    main()
