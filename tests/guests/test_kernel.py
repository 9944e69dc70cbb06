"""The teaching kernel on a PC that others wrote: boot, programs, shell, power-off."""

from __future__ import annotations

import re

import pytest

from tests.guests import qemu
from vilab.guests import BUNDLED
from vilab.guests.build import PREBUILT, bundled_program_names

KERNEL = PREBUILT / "kernel.elf"

BOOT = """\
boot: ring 0
vilab teaching kernel
cpu: ring 0, machine status 00000013
gdt, idt, tss: loaded
paging: {memory} MB of memory
interrupts: on
interrupts: a critical section entered and left
timer: 3 ticks
"""


def program(command: str, memory: int = 64) -> str:
    """Output of one program as the kernel's first, without the boot lines and the last one."""
    output = qemu.run(KERNEL, f"init={command}", memory=f"{memory}M")
    boot = BOOT.format(memory=memory)
    assert output.startswith(boot)
    body, ending = output.removeprefix(boot).rsplit("kernel: ", 1)
    assert ending == f"{command.split()[0]} has ended with status 0, power off\n"
    return body


def session(*lines: str) -> str:
    """What a shell session shows after the boot lines."""
    output = qemu.run(KERNEL, typed="".join(f"{line}\n" for line in lines))
    assert output.startswith(BOOT.format(memory=64))
    return output.removeprefix(BOOT.format(memory=64))


def toucher_checksum(pages: int, rounds: int, hot: int) -> int:
    memory = [[0] * 1024 for _ in range(pages)]
    for page in range(pages):
        memory[page][0] = page
    for turn in range(rounds):
        for page in range(hot):
            memory[page][turn % 1024] += page * 31 + turn
    total = 0
    for page in memory:
        for word in page:
            total = (total * 31 + word) & 0xFFFFFFFF
    return total


def worker_status(seed: int, rounds: int) -> int:
    value = seed
    for _ in range(rounds):
        value = (value * 1664525 + 1013904223) & 0xFFFFFFFF
    return value & 0xFF


@pytest.mark.interop
@pytest.mark.parametrize("number", [0, 2, 49, 97])
def test_isprime_tells_primes_from_others(number: int) -> None:
    expected = int(all(number % i for i in range(2, number)))
    assert program(f"isprime {number}") == f"isPrime({number}) = {expected}\n"


@pytest.mark.interop
def test_forkwait_creates_and_reaps_more_processes_than_the_table_holds() -> None:
    assert program("forkwait 300") == "forkwait: 300 processes created and ended\n"


@pytest.mark.interop
def test_no_frame_is_lost_by_fork_exec_and_exit() -> None:
    """4 MB hold few processes at a time, so a leak of one frame a round would end in a refusal."""
    assert program("forkwait 3000", memory=4) == "forkwait: 3000 processes created and ended\n"


@pytest.mark.interop
@pytest.mark.parametrize(("pages", "rounds", "hot"), [(64, 4, 64), (300, 5, 7), (1, 1, 1)])
def test_toucher_checksum_is_that_of_its_definition(pages: int, rounds: int, hot: int) -> None:
    expected = toucher_checksum(pages, rounds, hot)
    assert program(f"toucher {pages} {rounds} {hot}") == (
        f"toucher: {pages} pages, {rounds} rounds over {hot}, checksum {expected:08x}\n"
    )


@pytest.mark.interop
def test_workers_are_preempted_and_end_with_the_right_sum() -> None:
    expected = sum(worker_status(seed, 200_000) for seed in range(4))
    assert program("workers 4 200000") == f"workers: 4 of them, sum {expected}\n"


@pytest.mark.interop
def test_system_calls_answer_and_refuse_as_they_should() -> None:
    assert program("calls") == "calls: 23 checks, 0 wrong\n"


@pytest.mark.interop
def test_memory_beyond_what_is_there_ends_the_program_not_the_kernel() -> None:
    output = qemu.run(KERNEL, typed="toucher 100000 1\nisprime 7\npoweroff\n", memory="16M")
    assert re.search(r"kernel: toucher \(pid 2\) killed: page fault at eip [0-9a-f]{8}, writing address", output)
    assert "isPrime(7) = 1\n" in output


@pytest.mark.interop
def test_shell_runs_every_program() -> None:
    shown = session(
        "help", "isprime 13", "forkwait 5", "syscall-loop 1000", "toucher 16 2", "cow", "workers 2 1000", "calls",
        "fault", "divzero", "shell", "exit", "nonsense", "", "  isprime   9  ", "poweroff",
    )  # fmt: skip
    expected = f"""\
shell> help
built in: help, exit, poweroff
programs: {" ".join(bundled_program_names())}
shell> isprime 13
isPrime(13) = 1
shell> forkwait 5
forkwait: 5 processes created and ended
shell> syscall-loop 1000
syscall-loop: 1000 system calls
shell> toucher 16 2
toucher: 16 pages, 2 rounds over 16, checksum {toucher_checksum(16, 2, 16):08x}
shell> cow
cow: child saw 16, then stored 1600
cow: parent still has 16; the child's status was 7
shell> workers 2 1000
workers: 2 of them, sum {sum(worker_status(seed, 1000) for seed in range(2))}
shell> calls
calls: 23 checks, 0 wrong
shell> fault
fault: about to store to address 0
kernel: fault (pid 18) killed: page fault at eip EIP, writing address 00000000
shell: fault ended with status 142
shell> divzero
divzero: about to divide by 0
kernel: divzero (pid 19) killed: divide error at eip EIP
shell: divzero ended with status 128
shell> shell
shell> exit
shell> nonsense
shell: no program named nonsense; try help
shell: nonsense ended with status 127
shell>{" "}
shell>   isprime   9{"  "}
isPrime(9) = 0
shell> poweroff
"""
    assert re.sub(r"eip [0-9a-f]{8}", "eip EIP", shown) == expected


@pytest.mark.interop
def test_shell_edits_its_line() -> None:
    assert "isPrime(5) = 1\n" in session("isprimx\be 5", "poweroff")


@pytest.mark.interop
def test_unknown_first_program_is_named() -> None:
    sentence = "panic: no program named nothing-like-it"
    assert sentence in qemu.run_until(sentence, KERNEL, "init=nothing-like-it")


def test_every_program_in_the_kernel_has_a_name_to_run_it_by() -> None:
    missing = {name for name in bundled_program_names() if name not in BUNDLED}
    assert not missing
