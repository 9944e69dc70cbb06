"""A stock Debian guest that computes, writes to its disk and answers datagrams, and notices if anything gets lost.

::

    round N       memory: the sum of a program is what it was     disk: a new file, synced, its sum kept in memory
    udpecho       sends back what comes to UDP port 7 (i386, Linux's own system calls, 103 bytes; busybox has no UDP)
"""

from __future__ import annotations

import base64
import re
import struct

from tests.migration.host_processes import Site, Terminal

ADDRESS = bytes((10, 0, 0, 1))
DISK_MB = 32
LOAD = """\
mkdir -p /tmp/sums
n=0 sum=$(md5sum </bin/busybox)
while [ ! -e /tmp/stop ]; do
    n=$((n+1)) f=f$((n%200))
    [ "$(md5sum </bin/busybox)" = "$sum" ] || echo "wrong memory"
    dd if=/dev/urandom of=/mnt/$f bs=4k count=8 2>/dev/null && sync || echo "wrong disk"
    md5sum /mnt/$f >/tmp/sums/$f
    echo "round $n"
done
echo "load ended"
"""
UDP_ECHO = bytes.fromhex(
    "31ff575757680200000789e5"  # struct sockaddr_in at ebp: family 2, port 7, any address
    "6a1089e7"  # its length at edi
    "6a006a026a0289e16a015b6a6658cd8089c6"  # esi = socket(AF_INET, SOCK_DGRAM, 0)
    "6a10555689e16a025b6a6658cd80"  # bind(esi, ebp, 16)
    "81ec0008000089e2"  # edx: 2048 bytes on the stack
    "57556a006800080000525689e16a0c5b6a6658cd8083c418"  # eax = recvfrom(esi, edx, 2048, 0, ebp, edi)
    "6a10556a0050525689e16a0b5b6a6658cd8083c418"  # sendto(esi, edx, eax, 0, ebp, 16)
    "ebd1"
)
BASE, HEADERS = 0x0804_8000, 84


def program(code: bytes) -> bytes:
    """An ELF file for Linux on i386: one segment, which begins with the headers."""
    size = HEADERS + len(code)
    head = b"\x7fELF" + bytes((1, 1, 1)) + bytes(9)
    head += struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, BASE + HEADERS, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    return head + struct.pack("<8I", 1, 0, BASE, BASE, size, size, 5, 4096) + code


def register(site: Site, engine: str, memory_mb: int = 64, card: str = "vmxnet3") -> str:
    return site.register(
        "deb", DISK_MB, memsize=str(memory_mb), vilab_image="debian", vilab_append="quiet", vilab_engine=engine,
        ethernet0_present="TRUE", ethernet0_virtualDev=card,
    )  # fmt: skip


def put(terminal: Terminal, path: str, content: bytes) -> None:
    """A file in the guest, by typing."""
    text = base64.b64encode(content).decode()
    for at in range(0, len(text), 200):
        terminal.run(f"printf {text[at : at + 200]} >>{path}.b64")
    terminal.succeed(f"busybox base64 -d {path}.b64 >{path}")


def prepare(terminal: Terminal, most_s: float) -> None:
    """From the first prompt on: its file system, its address, and who answers."""
    terminal.until_prompt(0, most_s)
    terminal.run("dmesg -n 1")
    terminal.succeed("mkfs.ext4 -q /dev/sda && mount -t ext4 /dev/sda /mnt", most_s)
    put(terminal, "/tmp/echo", program(UDP_ECHO))
    put(terminal, "/tmp/load", LOAD.encode())
    address = ".".join(map(str, ADDRESS))
    terminal.succeed(f"ifconfig eth0 {address} netmask 255.255.255.0 up && chmod +x /tmp/echo")
    terminal.run("/tmp/echo &")


def start_load(terminal: Terminal) -> int:
    """Where in ``text`` its first line begins."""
    after = terminal.type("sh /tmp/load &")
    terminal.until("round 1\n", after)
    return terminal.text.index("round 1\n", after)


def end_load(terminal: Terminal, began: int, most_s: float = 60.0) -> int:
    """Its rounds. Every line was said once, in order, and nothing else; no memory, no file is another than it was."""
    stopped = terminal.type("touch /tmp/stop")
    said = terminal.until("load ended\n", began, most_s)
    rounds = [int(number) for number in re.findall(r"round (\d+)\n", said)]
    assert rounds == list(range(1, len(rounds) + 1))
    before = terminal.text[began:stopped]
    assert before == "".join(f"round {n}\n" for n in range(1, before.count("\n") + 1)) + before.rpartition("\n")[2]
    assert "wrong" not in said
    terminal.run("", most_s)
    terminal.succeed("echo 3 >/proc/sys/vm/drop_caches; cat /tmp/sums/* | md5sum -c -s", most_s)
    terminal.succeed("umount /mnt && e2fsck -f -n /dev/sda", most_s)
    return len(rounds)
