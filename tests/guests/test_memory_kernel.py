"""The kernel that swaps, on a PC that others wrote, where there is neither its disk nor a host."""

from __future__ import annotations

import re

import pytest

from tests.guests import qemu
from tests.guests.test_kernel import BOOT
from vilab.guests import BUNDLED
from vilab.guests.build import PREBUILT, bundled_program_names

KERNEL = PREBUILT / "kernel-memory.elf"


@pytest.mark.interop
def test_without_disk_and_host_it_runs_its_programs_in_the_memory_that_there_is() -> None:
    output = qemu.run(
        KERNEL, typed="help\nmemory\ncalls\ncow\nchecksum 300 3 20 1\nfamily 100 3\nzeros 50 2 1\nfilecache 10 10\n"
        "together zeros 10 2 3 + isprime 7\nchecksum 9000 1\npoweroff\n", memory="16M",
    )  # fmt: skip
    assert output.startswith(BOOT.format(memory=16))
    assert f"programs: {' '.join(bundled_program_names('memory'))}\n" in output
    for line in (
        "swap_slots 0", "balloon_host 0", "calls: 23 checks, 0 wrong",
        "cow: parent still has 16; the child's status was 7", "checksum: round 3 ok",
        "family: 100 pages, 3 of 3 children ended well, parent ok", "zeros: 50 pages, round 2 ok", "isPrime(7) = 1",
        "filecache: the disk has no 10 blocks of files, or there is no memory for them",
    ):  # fmt: skip
        assert f"{line}\n" in output
    assert re.search(r"^memory_pages 40\d\d$", output, re.MULTILINE)  # 16 MB but for what QEMU's firmware keeps
    assert re.search(r"kernel: checksum \(pid \d+\) killed: page fault at eip [0-9a-f]{8}, writing address", output)
    assert output.endswith("shell: checksum ended with status 142\nshell> poweroff\n")


@pytest.mark.interop
@pytest.mark.parametrize(("asked", "ticks"), [(10, 8), (2, 2), (50, 50)])
def test_the_clock_chip_and_the_interval_timer_tick_as_asked(asked: int, ticks: int) -> None:
    output = qemu.run(KERNEL, f"hz={asked} init=together checksum 1 2 0 {ticks} + memory 1")
    assert f"ticks_a_second {ticks}\n" in output
    assert "checksum: round 2 ok\n" in output


def test_every_program_of_it_has_a_name_to_run_it_by_and_those_of_the_kernel_are_among_them() -> None:
    names = bundled_program_names("memory")
    assert not {name for name in names if name not in BUNDLED}
    assert names[: len(bundled_program_names())] == bundled_program_names()
    assert {name for name in names if BUNDLED[name].file == KERNEL.name} == set(names) - set(bundled_program_names())
