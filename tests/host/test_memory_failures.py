"""What goes wrong with one guest's memory ends that guest, in a sentence, and no other."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.test_host import SECOND, said, start
from tests.vmm.images import code_image
from vilab.errors import AdminError
from vilab.host.host import Host
from vilab.memory.client import MemoryConfig
from vilab.memory.page_state import PageState

CHECKING = b"checksum 1200 100\n"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(96, swap_directory=tmp_path, quantum_ns=50_000_000, page_in_ns=100_000)
    yield made
    made.close()


def rounds(host: Host, name: str) -> int:
    text = said(host.vms[name])
    assert "wrong" not in text
    return text.count(" ok")


def page_all_out(host: Host, name: str) -> Path:
    client = host.vms[name].client
    gone = host.memory.reclaimer.page_out(client, client.pmap.pages)
    assert gone > 500
    assert client.swap.used_pages > 100
    return client.swap.path


def the_others_go_on(host: Host, stopped: str) -> None:
    before = {name: rounds(host, name) for name in host.vms if name != stopped}
    host.run_for(6 * SECOND)
    for name, count in before.items():
        assert host.vms[name].runs
        assert rounds(host, name) > count
    host.memory.check()


def test_a_damaged_swap_file_stops_its_guest_only(host: Host) -> None:
    for name in ("vm1", "vm2"):
        start(host, name, CHECKING)
    host.run_for(3 * SECOND)
    path = page_all_out(host, "vm1")
    page_all_out(host, "vm2")
    with path.open("r+b") as file:
        for page in range(path.stat().st_size // 4096):
            file.seek(4096 * page + 1234)
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes((byte[0] ^ 0x10,)))
    host.run_for(SECOND)
    assert "vm1 was stopped: its swap file" in host.vms["vm1"].stopped
    assert "is damaged; page 0x" in host.vms["vm1"].stopped
    the_others_go_on(host, "vm1")


def test_a_truncated_swap_file_stops_its_guest_only(host: Host) -> None:
    for name in ("vm1", "vm2"):
        start(host, name, CHECKING)
    host.run_for(3 * SECOND)
    os.truncate(page_all_out(host, "vm1"), 4096)
    host.run_for(SECOND)
    assert "is truncated" in host.vms["vm1"].stopped
    the_others_go_on(host, "vm1")


def test_a_swap_file_that_cannot_be_written_stops_its_guest_only(host: Host) -> None:
    for name in ("vm1", "vm2"):
        start(host, name, CHECKING)
    host.run_for(3 * SECOND)
    swap = host.vms["vm1"].client.swap
    free = host.memory.free_pages
    swap._open_file().close()  # as if the datastore had gone
    swap._file = open(swap.path, "rb", buffering=0)  # type: ignore[assignment]  # noqa: SIM115
    assert host.memory.page_out(host.vms["vm1"].client, 400) == 0
    assert host.memory.free_pages >= free
    host.run_for(SECOND // 10)
    assert "could not be written" in host.vms["vm1"].stopped
    the_others_go_on(host, "vm1")


def test_a_full_disk_refuses_power_on(host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    start(host, "vm1", CHECKING)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    free = host.memory.free_pages
    with pytest.raises(AdminError, match=r"vm2 cannot be powered on: its swap file .*No space left on device"):
        start(host, "vm2", CHECKING)
    assert host.memory.free_pages == free
    assert [path.name for path in tmp_path.iterdir()] == ["vm1-1.vswp"]
    the_others_go_on(host, "vm2")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits")
def test_a_file_that_the_system_really_refuses(tmp_path: Path) -> None:
    program = """
        import resource, signal, sys
        from pathlib import Path
        from vilab.errors import AdminError
        from vilab.memory.swap_file import SwapFile
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        try:
            SwapFile(Path(sys.argv[1]) / "a.vswp", 4096, "vm1")
        except AdminError as error:
            print(error)
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert "vm1 cannot be powered on: its swap file" in run.stdout
    assert "of 16 MB cannot be made (File too large)" in run.stdout
    assert not list(tmp_path.iterdir())


def lying(command: int, ppn: int) -> str:
    """START, then the same command over and over."""
    registers = f"b86f6d6c45 bb{ppn.to_bytes(4, 'little').hex()} b9{command:02x}000000 ba70560000 ed"
    start_it = "b86f6d6c45 bb1e000000 b900000000 ba70560000 ed"
    return f"{start_it} {registers} eb{(-23 & 0xFF):02x}"


@pytest.mark.parametrize(
    ("command", "ppn", "what"),
    [(2, 0x80, "which it had locked before"), (3, 0x90, "which it has not locked"), (2, 0x123456, "beyond memory")],
)
@pytest.mark.parametrize("engine", ["svm", "bt"])
def test_a_driver_that_lies_is_stopped(host: Host, engine: str, command: int, ppn: int, what: str) -> None:
    start(host, "vm1", CHECKING)
    liar = host.power_on("liar", code_image(lying(command, ppn)), MemoryConfig(4), engine=engine)
    liar.client.balloon.set_target(100)
    host.run_for(2 * SECOND)
    assert "its balloon driver has said" in liar.stopped
    assert what in liar.stopped
    assert liar.client.pmap.count(PageState.BALLOONED) <= 1
    the_others_go_on(host, "liar")
