"""A process that works on a machine's disks and snapshots, killed (SIGKILL) at any moment, again and again.

::

    child   begin 17 write ...   done 17   begin 18 flush   done 18   begin 19 take ...  ✗ killed
    parent  opens what is left: what was flushed is there, an operation has happened on all disks or on none

``python -m tests.storage.kill_vm KILLS [SEED]`` goes on for longer than a test can.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.storage.vm_model import NODES, SECTORS, Machine, content, quick_folder
from vilab.storage.disks.disk_chain import open_chain
from vilab.storage.disks.vm_snapshots import VmSnapshots
from vilab.storage.disks.vmdk_check import check

ROOT = Path(__file__).parents[2]
MOST_SNAPSHOTS = 8


def data_of(number: int, sectors: int) -> bytes:
    return random.Random(number).randbytes(sectors * 512)


def choose(lot: random.Random, uids: list[int]) -> dict[str, Any]:
    """The next operation; ``uids``: the snapshots that there are."""
    what = lot.choices(
        ("write", "flush", "take", "revert", "delete", "delete all"),
        (50, 15, 15 * (len(uids) < MOST_SNAPSHOTS), 6, 12, 2),
    )[0]
    if what == "write":
        sectors = lot.choice((1, 8, 40))
        return {"op": what, "node": lot.randrange(2), "first": lot.randrange(SECTORS - sectors), "sectors": sectors}
    if what in ("revert", "delete"):
        return {"op": what, "uid": lot.choice(uids)} if uids else {"op": "flush"}
    return {"op": what}


def work(folder: Path, seed: int, number: int) -> None:
    """The child: never ends by itself."""
    lot = random.Random(seed)
    with Machine(folder).open() as vm:
        print(json.dumps({"ready": True}), flush=True)
        while True:
            step = choose(lot, [s.uid for s in vm.snapshots])
            print(json.dumps({"begin": number} | step), flush=True)
            carry_out(vm, step, number)
            print(json.dumps({"done": number}), flush=True)
            number += 1


def carry_out(vm: VmSnapshots, step: dict[str, Any], number: int) -> None:
    match step["op"]:
        case "write":
            vm.chain(NODES[step["node"]]).write(step["first"] * 512, data_of(number, step["sectors"]))
        case "flush":
            for node in NODES:
                vm.chain(node).flush()
        case "take":
            vm.take(str(number), state={"vm": b"%d" % number})
        case "revert":
            vm.revert(step["uid"])
        case "delete":
            vm.delete(step["uid"])
        case _:
            vm.delete_all()


class Truth:
    """What may be found. ``held``: flushed last; ``maybe``: by sector, what was written since; ``now``: all of it."""

    def __init__(self, found: list[bytes]) -> None:
        self.snapshots: dict[int, list[bytes]] = {}
        self.last_uid = 0
        self.rebase(found)

    def rebase(self, found: list[bytes]) -> None:
        self.now = [bytearray(each) for each in found]
        self.held = [bytes(each) for each in found]
        self.maybe: list[dict[int, set[bytes]]] = [{}, {}]

    def flushed(self) -> None:
        self.rebase([bytes(each) for each in self.now])

    def write(self, step: dict[str, Any], number: int) -> None:
        data, node = data_of(number, step["sectors"]), step["node"]
        for sector in range(step["sectors"]):
            piece = data[sector * 512 : sector * 512 + 512]
            self.maybe[node].setdefault(step["first"] + sector, set()).add(piece)
        self.now[node][step["first"] * 512 : (step["first"] + step["sectors"]) * 512] = data

    def fits(self, found: list[bytes]) -> bool:
        for disk, held, maybe in zip(found, self.held, self.maybe, strict=True):
            for sector in range(SECTORS):
                piece = disk[sector * 512 : sector * 512 + 512]
                if piece != held[sector * 512 : sector * 512 + 512] and piece not in maybe.get(sector, ()):
                    return False
        return True

    def done(self, step: dict[str, Any]) -> None:
        match step["op"]:
            case "flush":
                self.flushed()
            case "take":
                self.last_uid += 1
                self.snapshots[self.last_uid] = [bytes(each) for each in self.now]
                self.flushed()
            case "revert":
                self.rebase(self.snapshots[step["uid"]])
            case "delete":
                del self.snapshots[step["uid"]]
            case "delete all":
                self.snapshots.clear()


def settle(truth: Truth, step: dict[str, Any] | None, found: list[bytes], uids: set[int]) -> str:
    """Compare with what was found after the kill; whether the operation under way has happened."""
    before, happened = set(truth.snapshots), "no"
    if step is not None and uids != before:
        expected = {
            "take": before | {truth.last_uid + 1},
            "delete": before - {step.get("uid", 0)},
            "delete all": set(),
        }[step["op"]]
        assert uids == expected, (step, uids, before)
        if step["op"] == "take":
            truth.last_uid += 1
            truth.snapshots[truth.last_uid] = [bytes(each) for each in truth.now]
            assert found == truth.snapshots[truth.last_uid], "taken, but the disks hold something else"
        truth.snapshots = {uid: held for uid, held in truth.snapshots.items() if uid in uids}
        happened = "yes"
    if not truth.fits(found):
        assert step is not None, "what was flushed is not there"
        assert step["op"] == "revert", (step, "what was flushed is not there")
        assert found == truth.snapshots[step["uid"]], "half reverted"
        happened = "yes"
    truth.rebase(found)
    return happened


def read_lines(child: subprocess.Popen[str], wait_s: float) -> list[dict[str, Any]]:
    """Kill the child that long after it is ready; everything that it has said."""
    assert child.stdout is not None
    lines = [json.loads(child.stdout.readline())]
    time.sleep(wait_s)
    child.send_signal(signal.SIGKILL)
    said = child.stdout.read().split("\n")
    return lines + [json.loads(line) for line in said[:-1]]  # the last one may have been cut off


def run(folder: Path, kills: int, seed: int, base: str = "vmfs") -> Counter[str]:
    """Kill so often; what was under way then, and whether it has happened."""
    lot, counts = random.Random(seed), Counter[str]()
    machine = Machine(folder)
    machine.make(base)
    truth, number = Truth([bytes(SECTORS * 512)] * 2), 0
    for kill in range(kills):
        command = [sys.executable, "-m", "tests.storage.kill_vm", "child", str(folder), str(seed + kill), str(number)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as child:
            lines = read_lines(child, lot.choice((0.0, 0.02, 0.1, 0.3)) * lot.random())
        assert lines[0] == {"ready": True}
        step: dict[str, Any] | None = None
        for line in lines[1:]:
            if "begin" in line:
                step, number = line, line["begin"] + 1
                if step["op"] == "write":
                    truth.write(step, line["begin"])
            else:
                assert step is not None
                truth.done(step)
                counts["done"] += 1
                step = None
        with machine.open() as vm:
            found, uids = content(vm), {s.uid for s in vm.snapshots}
            snapshots, tops = vm.snapshots, [disk.top for disk in vm.disks.values()]
        happened = settle(truth, step, found, uids)
        for snapshot in snapshots:
            for disk, expected in zip(snapshot.disks, truth.snapshots[snapshot.uid], strict=True):
                with open_chain(folder / disk.file) as chain:
                    assert chain.read(0, len(expected)) == expected, (step, snapshot)
        for top in tops:
            assert check(top).errors == []
        if not snapshots:
            with machine.open() as vm:
                vm.consolidate()
            assert not [name for name in machine.names() if "-0000" in name or name.endswith(".vmsn")]
        counts[f"{step['op']}: {happened}" if step is not None else "between"] += 1
    return counts


def main(words: list[str]) -> None:
    if words[0] == "child":
        work(Path(words[1]), int(words[2]), int(words[3]))
    folder = Path(tempfile.mkdtemp(prefix="vilab-", dir=quick_folder()))
    try:
        print(run(folder, int(words[0]), int(words[1]) if len(words) > 1 else 1))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main(sys.argv[1:])
