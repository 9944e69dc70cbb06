"""Hosts that share a volume over our own iSCSI target: ``python -m tests.storage.vmfs_over_iscsi --kills 200``.

The target is ``vilab iscsi-target`` in a process of its own; the hosts are those of ``vmfs_soak``, each with a session,
killed at random. At the end the image is judged by vmfs-tools.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.storage.vmfs_judges import debugvmfs_hosts, is_clean
from tests.storage.vmfs_soak import new_image, soak
from vilab.storage.iscsi.disk import IscsiDisk, open_lun

IQN = "iqn.2006-06.example:vmfs"


def lun(port: str, name: str) -> IscsiDisk:
    """What ``vmfs_soak`` opens in every process."""
    disk = open_lun(f"127.0.0.1:{port}", IQN, 0, f"iqn.2006-06.example:{name}", conflict_retries=600)
    disk.conflict_retries = 0  # from now on the host waits
    return disk


@contextlib.contextmanager
def target(image: Path) -> Iterator[str]:
    """A running target on a free port; the port."""
    command = [sys.executable, "-m", "vilab.cli", "iscsi-target", "--portal", "127.0.0.1:0", "--iqn", IQN]
    with subprocess.Popen([*command, "--lun", str(image)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            yield said.split("127.0.0.1:")[1].split()[0].rstrip(",.;")
        finally:
            process.terminate()
            process.wait(20)


def run(folder: Path, processes: int, kills: int, seed: int) -> dict[str, int]:
    image = folder / "lun.img"
    new_image(image)
    with target(image) as port:
        counts = soak(f"tests.storage.vmfs_over_iscsi:lun:{port}", folder, processes, kills, seed)
    is_clean(image)
    assert debugvmfs_hosts(image) == 0
    return counts


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--processes", type=int, default=3)
    options.add_argument("--kills", type=int, default=20)
    options.add_argument("--seed", type=int, default=0)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="vmfs-iscsi-") as folder:
        print(json.dumps(run(Path(folder), chosen.processes, chosen.kills, chosen.seed)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
