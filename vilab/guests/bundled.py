"""The programs that come with vilab, by name."""

from __future__ import annotations

from pathlib import Path

import msgspec

PREBUILT = Path(__file__).parent / "prebuilt"


class Bundled(msgspec.Struct, frozen=True):
    """``file`` in ``prebuilt/``. ``init``: the kernel's first program, ``None`` for an image without a kernel.

    ``para`` is the file for the paravirtual engine, the same where nothing in it needs ring 0, empty if there is none.
    ``argument`` is the default of an image without a kernel and ``least`` its smallest, ``usage`` what ``--append`` may
    hold. ``operations``: what an image that has several does, in the order of its table.
    """

    name: str
    file: str
    what: str
    init: str | None = None
    argument: int = 0
    least: int = 0
    usage: str = ""
    para: str = ""
    operations: tuple[str, ...] = ()

    @property
    def is_function(self) -> bool:
        """Without the kernel: called like a function."""
        return self.file.startswith("bare-")


def _program(name: str, what: str, usage: str = "") -> Bundled:
    return Bundled(name, "kernel.elf", what, init=name, usage=usage, para="kernel-para.elf")


def _memory_program(name: str, what: str, usage: str = "") -> Bundled:
    return Bundled(name, "kernel-memory.elf", what, init=name, usage=usage)


def _disk_program(name: str, what: str, usage: str = "") -> Bundled:
    return Bundled(name, "kernel-disk.elf", what, init=name, usage=usage, para="kernel-disk-para.elf")


def _network_program(name: str, what: str, usage: str = "") -> Bundled:
    return Bundled(name, "kernel-network.elf", what, init=name, usage=usage, para="kernel-network-para.elf")


def _writer_program(name: str, what: str, usage: str = "") -> Bundled:
    return Bundled(name, "kernel-writer.elf", what, init=name, usage=usage)


def _bare(name: str, what: str, argument: int, usage: str = "N", least: int = 0, any_ring: bool = False) -> Bundled:
    file = f"bare-{name}.elf"
    return Bundled(name, file, what, argument=argument, usage=usage, least=least, para=file if any_ring else "")


_ALL = (
    _bare("isprime", "the paper's isPrime(N) in kernel mode, nothing else around it", 49, any_ring=True),
    _bare("straight25", "25 instructions in a straight line, then a return", 0, "", any_ring=True),
    _program("shell", "the teaching kernel with a shell on the serial line"),
    _program("forkwait", "creates a process and waits for its end, N times; both store into PAGES pages", "N [PAGES]"),
    _program("syscall-loop", "enters the kernel and leaves it again, N times", "N"),
    _program("toucher", "stores into PAGES pages, ROUNDS times into the first HOT of them", "PAGES ROUNDS [HOT]"),
    _program("cow", "parent and child share pages until one stores"),
    _program("workers", "N children compute at the same time", "N ROUNDS"),
    _program("calls", "makes every system call, right and wrong, and checks the answers"),
    _program("fault", "stores through a null pointer and is ended by the kernel"),
    _program("divzero", "divides by zero and is ended by the kernel"),
    Bundled(
        "kernel", "kernel.elf", "the teaching kernel as it is", usage="init=PROGRAM ARGUMENTS", para="kernel-para.elf"
    ),
    Bundled(
        "kernel-memory",
        "kernel-memory.elf",
        "the teaching kernel with a balloon, swapping and a file cache on a RAM disk",
        usage="[hz=N] [swap=BLOCKS] [init=PROGRAM ARGUMENTS]",
    ),
    _memory_program("memory", "prints the kernel's memory counters, every SECONDS seconds", "[SECONDS]"),
    _memory_program(
        "checksum",
        "fills PAGES pages, changes some and checks all, mostly asleep",
        "PAGES [ROUNDS [TOUCHES [SLEEP [SEED [SWEEP [LOCK]]]]]]",
    ),
    _memory_program(
        "filecache",
        "reads blocks of files at random, some more often than others, and counts hits",
        "READS BLOCKS [SKEW [SEED [WARM]]]",
    ),
    _memory_program("family", "parent and children share pages on the disk, too, and each changes its own", "PAGES N"),
    _memory_program("zeros", "PAGES pages that stay zero", "PAGES [ROUNDS [SLEEP]]"),
    _memory_program("together", "runs programs at the same time, ends with the first", "PROGRAM ... + PROGRAM ..."),
    Bundled(
        "kernel-disk",
        "kernel-disk.elf",
        "the teaching kernel with files on a SCSI disk, and swap on one if asked",
        usage="[hz=N] [swap=BLOCKS | swapon=DISK[:FIRST][+BLOCKS]] [init=PROGRAM ARGUMENTS]",
        para="kernel-disk-para.elf",
    ),
    _disk_program("mkfs", "makes an empty file system on the first SCSI disk", "[BLOCKS]"),
    _disk_program("ls", "lists the files on the disk, and the blocks that they lie in"),
    _disk_program("cat", "prints a file", "NAME"),
    _disk_program("write", "writes a line into a file", "NAME TEXT"),
    _disk_program("rm", "removes a file", "NAME"),
    _disk_program("sync", "brings to the disk what was written"),
    _disk_program("put", "writes a line into a file, down to the disk, and says each step", "NAME TEXT"),
    _disk_program("fill", "fills a file with bytes that are known", "NAME BYTES [SEED]"),
    _disk_program("trace", "runs a program and prints every command for a disk meanwhile", "PROGRAM ARGUMENTS"),
    Bundled(
        "kernel-network",
        "kernel-network.elf",
        "the teaching kernel with disks and a network card: ARP, ping, UDP",
        usage="[ip=A.B.C.D] [gateway=A.B.C.D] [hz=N] [swap=BLOCKS | swapon=DISK[:FIRST][+BLOCKS]] "
        "[init=PROGRAM ARGUMENTS]",
        para="kernel-network-para.elf",
    ),
    _network_program("ping", "asks another machine for an echo", "ADDRESS [COUNT [BYTES [TICKS]]]"),
    _network_program("udpecho", "sends back every datagram that comes to a port", "[PORT [COUNT]]"),
    _network_program(
        "netsend", "sends datagrams as fast as the card takes them", "ADDRESS [PORT [COUNT [BYTES [TIME]]]]"
    ),
    _network_program("netsink", "takes what netsend sends, and counts", "[PORT [COUNT [TICKS]]]"),
    _network_program("netstat", "prints what has become of the frames that have come"),
    Bundled(
        "kernel-writer",
        "kernel-writer.elf",
        "the teaching kernel with disks, a network card, and programs that write while they are moved",
        usage="[ip=A.B.C.D] [gateway=A.B.C.D] [hz=N] [swap=BLOCKS | swapon=DISK[:FIRST][+BLOCKS]] "
        "[init=PROGRAM ARGUMENTS]",
    ),
    _writer_program(
        "writer",
        "writes RATE of HOT pages and COLD others a tick, and checks all PAGES",
        "PAGES [HOT [RATE [COLD [EVERY [REPORTS [SEED]]]]]]",
    ),
    _writer_program(
        "writer-muncher",
        "writes all its PAGES over and over as fast as it can, and checks them",
        "PAGES [EVERY [REPORTS [SEED]]]",
    ),
    _bare(
        "bench-ring0-mixed",
        "kernel mode: loads, stores, branches, arithmetic, N rounds",
        100_000,
        least=1,
        any_ring=True,
    ),
    _bare("bench-cli-sti", "kernel mode: CLI and STI, N pairs", 100_000, least=1),
    _bare("bench-call-ret", "kernel mode: CALL and RET, N pairs", 100_000, least=1, any_ring=True),
    Bundled("apic", "apic.elf", "a kernel that needs MP tables, local APIC and I/O APIC"),
    Bundled(
        "nano",
        "bare-nano.elf",
        "one operation that a VMM notices, N times, with as little around it as can be",
        argument=100,
        least=1,
        usage="OPERATION N",
        para="bare-nano-para.elf",
        operations=(
            "empty",
            "empty-user",
            "syscall",
            "in",
            "mask",
            "tpr",
            "call-ret",
            "pgfault",
            "divzero",
            "ptemod",
            "ptemod-clear",
            "ptemod-set",
            "edits",
            "spaces",
        ),
    ),
    _bare("bench-ring3", "kernel mode sets up ring 3 and computes there, N rounds", 1_000_000, least=1),
)

BUNDLED: dict[str, Bundled] = {each.name: each for each in _ALL}
"""In the order in which a listing shows them."""
