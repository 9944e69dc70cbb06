"""From a .vmx file to a running guest, and back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from vilab.errors import AdminError
from vilab.host.host import Host
from vilab.host.registered import power_on_file, save_settings
from vilab.host.vmx import load
from vilab.memory.client import MemoryConfig
from vilab.vmm.vm import QuietConsole

SECOND = 1_000_000_000
LINES = """#!/usr/bin/vmware
config.version = "8"
displayName = "web"
memsize = "16"
sched.mem.minsize = "4"
sched.mem.shares = "high"
vilab.image = "kernel-memory"
vilab.append = "hz=10"
vilab.ramdiskMB = "8"
ethernet0.virtualDev = "vlance"
"""


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    (tmp_path / "swap").mkdir()
    made = Host(64, swap_directory=tmp_path / "swap", quantum_ns=50_000_000)
    yield made
    made.close()


def file(folder: Path, *more: str, without: str = "") -> Path:
    path = folder / "web.vmx"
    path.write_text("".join(line for line in LINES.splitlines(True) if not without or without not in line))
    with path.open("a") as out:
        out.writelines(f"{line}\n" for line in more)
    return path


def test_a_guest_starts_as_its_file_says(host: Host, tmp_path: Path) -> None:
    path = file(tmp_path)
    console = QuietConsole(b"memory\n")
    web = power_on_file(host, path, console=console)
    assert web.config == MemoryConfig(16, 4, None, "high")
    swap = load(path).get("sched.swap.derivedName")
    assert swap is not None
    assert (tmp_path / swap).stat().st_size == 12 << 20
    host.run_for(2 * SECOND)
    assert b"memory_pages 4096" in console.output
    assert b"swap_slots 1024" in console.output
    host.power_off(web)
    assert not (tmp_path / swap).exists()
    assert 'ethernet0.virtualDev = "vlance"' in path.read_text()


def test_what_is_changed_on_the_host_goes_back_into_the_file(host: Host, tmp_path: Path) -> None:
    path = file(tmp_path)
    web = power_on_file(host, path)
    host.memory.configure(web.client, MemoryConfig(16, 8, 12, 777))
    save_settings(web, path)
    host.power_off(web)
    again = power_on_file(host, path)
    assert again.config == MemoryConfig(16, 8, 12, 777)
    assert 'ethernet0.virtualDev = "vlance"' in path.read_text()


@pytest.mark.parametrize(
    ("more", "without", "sentence"),
    [
        ("", "vilab.image", "does not say what to run"),
        ('numvcpus = "2"', "", "numvcpus is 2; a virtual machine has one processor here"),
        ('sched.mem.max = "2"', "", "a reservation is at most the limit"),
        ('vilab.engine = "bare"', "", "cannot share a machine"),
        ('vilab.engine = "x"', "", "no engine 'x'"),
        ('memsize = "16"', "", "memsize"),
    ],
)
def test_a_file_that_cannot_be_is_refused_and_stays_as_it_was(
    host: Host, tmp_path: Path, more: str, without: str, sentence: str
) -> None:
    path = file(tmp_path, more, without=without)
    before, free = path.read_bytes(), host.memory.free_pages
    with pytest.raises(AdminError, match=sentence):
        power_on_file(host, path)
    assert path.read_bytes() == before
    assert host.memory.free_pages == free
    assert not host.vms


def test_a_ramdisk_that_cannot_be_is_refused(host: Host, tmp_path: Path) -> None:
    path = file(tmp_path, 'vilab.ramdiskMB = "9999"', without="ramdisk")
    with pytest.raises(AdminError, match="ramdiskMB is '9999'"):
        power_on_file(host, path)
