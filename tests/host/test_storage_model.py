"""A machine's life on a volume, at random: files, snapshots, merges, suspension, power cuts, two hosts."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.host.storage_helpers import QUANTUM, SECOND, disk_files, files_on, register, run_until, start, type_line
from tests.host.test_storage_vmfs import Rack
from tests.vmm.disk_guest import filling
from vilab.errors import AdminError
from vilab.host.host import Host, run_together
from vilab.host.registered import power_on_file

WEB = "[san1] web/web.vmx"


class Life:
    """The machine, on whichever host; ``files``: what is on its disk; ``kept``: what each snapshot has."""

    def __init__(self, rack: Rack, lot: random.Random) -> None:
        self.rack, self.lot = rack, lot
        self.host = rack.hosts[0]
        self.vm = start(self.host, register(self.host, WEB), "mkfs")
        self.files: dict[str, bytes] = {}
        self.kept: dict[int, dict[str, bytes]] = {}

    def others(self) -> list[Host]:
        return [host for host in self.rack.hosts if host is not self.host]

    def put(self) -> None:
        name, size, seed = f"file{self.lot.randrange(5)}", self.lot.randrange(40_000), self.lot.randrange(1000)
        if self.lot.random() < 0.2 and name in self.files:
            del self.files[name]
            type_line(self.host, self.vm, f"rm {name}")
        else:
            self.files[name] = filling(size, seed)
            type_line(self.host, self.vm, f"fill {name} {size} {seed}")
        type_line(self.host, self.vm, "sync")

    def take(self) -> None:
        if len(self.kept) < 6 and not self.host.snapshots(self.vm).merging:
            self.kept[self.host.snapshots(self.vm).take("s").uid] = dict(self.files)

    def revert(self) -> None:
        if self.kept and not self.host.snapshots(self.vm).merging:
            uid = self.lot.choice(list(self.kept))
            self.host.snapshots(self.vm).revert(uid)
            self.files = dict(self.kept[uid])

    def delete(self) -> None:
        if self.kept and not self.host.snapshots(self.vm).merging:
            uid = self.lot.choice(list(self.kept))
            del self.kept[uid]
            if self.lot.random() < 0.5:
                self.host.snapshots(self.vm).begin_delete(uid)
            else:
                self.host.snapshots(self.vm).delete(uid)

    def suspend(self) -> None:
        state = self.host.suspend(self.vm)
        self.host = self.lot.choice(self.rack.hosts)
        self.vm = self.host.resume(state)

    def power_cycle(self) -> None:
        self.host.power_off(self.vm)
        self.host = self.lot.choice(self.rack.hosts)
        self.vm = start(self.host, WEB)

    def power_cut(self) -> None:
        """In the middle of a merge, if there is one; another host takes over."""
        if self.host.snapshots(self.vm).merging and self.lot.random() < 0.5:
            run_together(self.rack.hosts, self.lot.randrange(3) * QUANTUM)
        others = self.others()
        self.host.cut_power()
        self.rack.hosts.remove(self.host)
        self.rack.host()
        self.host = self.lot.choice(others)
        self.vm = start(self.host, WEB)
        if self.host.snapshots(self.vm).list.needs_consolidation:
            self.host.snapshots(self.vm).consolidate()

    def refused(self) -> None:
        for other in self.others():
            with pytest.raises(AdminError, match=f"on host {self.host.name}"):
                power_on_file(other, WEB)

    def check(self) -> None:
        assert self.vm.merge_problem == ""
        assert files_on(self.vm.disks.devices()["scsi0:0"]) == self.files
        assert {s.uid for s in self.host.snapshots(self.vm).list.snapshots} == self.kept.keys()


@pytest.mark.parametrize("seed", range(3))
def test_a_machine_has_what_a_model_says_whatever_happens(tmp_path: Path, seed: int) -> None:
    lot, rack = random.Random(seed), Rack(tmp_path)
    first = rack.host()
    first.storage.create_vmfs(rack.volume_lun, "san1")
    rack.host()
    life = Life(rack, lot)
    usual = [life.put] * 6 + [life.take] * 3 + [life.revert, life.delete, life.delete, life.suspend, life.power_cycle]
    for _ in range(25):
        lot.choice([*usual, life.power_cut, life.refused])()
        run_together(rack.hosts, lot.choice((0, QUANTUM, SECOND // 2)))
        life.check()
    run_until(life.host, lambda: not life.host.snapshots(life.vm).merging)
    for uid, files in life.kept.items():
        life.host.snapshots(life.vm).revert(uid)
        assert files_on(life.vm.disks.devices()["scsi0:0"]) == files
        life.files = dict(files)
    life.host.snapshots(life.vm).delete_all()
    life.host.power_off(life.vm)
    names = life.host.storage.mounted("san1").datastore.names("web")
    assert [name for name in names if name.endswith((".vmdk", ".vmsn"))] == ["web-flat.vmdk", "web.vmdk"]
    assert disk_files(life.host, "[san1] web/web.vmdk") == life.files
    for host in rack.hosts:
        host.memory.check()
        host.close()
