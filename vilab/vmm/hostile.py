"""Guests that mean harm: random programs that try everything a kernel could try against its monitor.

::

    seed ──> snippets, each in ring 0 or ring 3 ──> the world of ``differential_paging_guest``
              stores everywhere · jumps into the cache · forged descriptors · hostile page tables · ports and backdoor
              floods of faults · broken stacks · all flags · x87, SSE · debug and control registers, MSRs · random bytes

A snippet is a string of bytes that is allowed to do anything, to the guest's own handlers too; most guests end badly.
``hostile_watch`` says what they must not have reached.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from vilab.vmm import differential_paging_guest as g
from vilab.vmm.differential_paging_code import Step, assemble, setting_up, u32
from vilab.vmm.monitor import CACHE, GDT, IDT, JUMP_TABLE, LDT, LDT_SELECTOR, RETURN_TABLE, TSS, TSS_SELECTOR, WORDS

Snippet = Callable[[random.Random], bytes]

MONITOR_PLACES = (WORDS, GDT, IDT, TSS, LDT, RETURN_TABLE, JUMP_TABLE, CACHE, 0xF0800000, 0xF2FFF000, 0xF3000000)
MAGIC, BACKDOOR, BACKDOOR_FAST = 0x564D5868, 0x5658, 0x5659


def anywhere(r: random.Random) -> int:
    """An address: the monitor's places, the guest's own tables, the ends of the address space, any."""
    kind = r.randrange(8)
    if kind < 3:
        return r.choice(MONITOR_PLACES) + r.randrange(0x2000) & 0xFFFFFFFF
    if kind == 3:
        return CACHE + r.randrange(0x4000)
    if kind == 4:
        return r.choice((0, 0xFFFFFFFC, 0xFFFFF000, 0x7FFFFFFE, g.MEMORY_BYTES - 2, 0xFEE00000, 0xFEC00000, 0xA0000))
    if kind == 5:
        return r.choice((g.GDT, g.IDT, g.TSS, g.HANDLERS, g.KERNEL_STACK - 64, g.PROGRAM)) + r.randrange(0x200)
    if kind == 6:
        return (g.FIRST + r.randrange(g.WINDOWS)) << 22 | (g.FIRST + r.randrange(g.PAGES)) << 12 | r.randrange(0x1000)
    return r.getrandbits(32)


def garbage(r: random.Random) -> int:
    return r.choice((0, 1, 0xFFFFFFFF, 0x80000000, MAGIC, r.getrandbits(8), r.getrandbits(16), r.getrandbits(32)))


def _registers(r: random.Random) -> bytes:
    return b"".join(
        bytes((0xB8 + i,)) + u32(anywhere(r) if r.random() < 0.5 else garbage(r)) for i in (0, 1, 2, 3, 6, 7)
    )


def stores(r: random.Random) -> bytes:
    """One store, or a sweep page by page over sixteen megabytes or part of the monitor's range."""
    at = anywhere(r)
    if r.random() < 0.6:
        return b"\xc7\x05" + u32(at) + u32(garbage(r))
    count, stride = r.choice(((48, 0x100000), (64, 0x1000), (256, 0x10000), (300, 4)))
    loop = bytes.fromhex("8907 81c7") + u32(stride) + b"\x49"  # mov [edi], eax; add edi, stride; dec ecx
    return b"\xbf" + u32(at) + b"\xb9" + u32(count) + loop + b"\x75" + bytes((-len(loop) - 2 & 0xFF,))


def string_stores(r: random.Random) -> bytes:
    code = r.choice(("f3ab", "f3aa", "f3a5", "f3a4", "fdf3ab", "fdf3a5"))
    ecx = b"\xb9" + u32(r.choice((4, 100, 5000)))
    return b"\xbf" + u32(anywhere(r)) + b"\xbe" + u32(anywhere(r)) + ecx + bytes.fromhex(code)


def jumps(r: random.Random) -> bytes:
    at = anywhere(r) if r.random() < 0.5 else CACHE + r.randrange(0x800)
    return r.choice((
        b"\xb8" + u32(at) + b"\xff\xe0", b"\xb8" + u32(at) + b"\xff\xd0", b"\x68" + u32(at) + b"\xc3",
        b"\x9c\x0e\x68" + u32(at) + b"\xcf", b"\xff\x25" + u32(at), b"\xff\x2d" + u32(at), b"\xff\x1d" + u32(at),
    ))  # fmt: skip


def selector(r: random.Random) -> int:
    return r.choice(
        (LDT_SELECTOR, TSS_SELECTOR, TSS_SELECTOR | 3, 8, 0x10, 0x1B, 0x23, 0x28, 9, 0x11, 0, r.getrandbits(16))
    )


def far_transfers(r: random.Random) -> bytes:
    s, at = selector(r), r.choice((anywhere(r), g.PROGRAM, CACHE))
    return r.choice((
        b"\xea" + u32(at) + s.to_bytes(2, "little"), b"\x9a" + u32(at) + s.to_bytes(2, "little"),
        b"\x68" + u32(s) + b"\x68" + u32(at) + b"\xcb",
        b"\x68" + u32(r.getrandbits(22)) + b"\x68" + u32(s) + b"\x68" + u32(at) + b"\xcf",
        b"\x68" + u32(selector(r)) + b"\x68" + u32(anywhere(r)) + b"\x68" + u32(r.getrandbits(22)) + b"\x68" + u32(s)
        + b"\x68" + u32(at) + b"\xcf",
    ))  # fmt: skip


def segments(r: random.Random) -> bytes:
    """Load segment registers and table registers with garbage."""
    s = b"\xb8" + u32(selector(r))
    at = b"\xb9" + u32(anywhere(r))
    code = r.choice((
        "8ed8", "8ec0", "8ed0", "8ee0", "8ee8", "0f00d0", "0f00d8", "0f0111", "0f0119", "0f00d0 c5 01", "0fb229",
        "0fb411", "0f0101", "0f0109", "0f00c0", "0f00c8", "0f02c0", "0f03c0", "0f00e0", "0f00e8",
    ))  # fmt: skip
    return s + at + bytes.fromhex(code)


def forged_tables(r: random.Random) -> bytes:
    """Overwrite descriptors, gates or the TSS, then use them."""
    out = b""
    for _ in range(r.randint(1, 4)):
        table, size = r.choice(((g.GDT, 0x30), (g.IDT, 0x400), (g.TSS, 0x68)))
        at = table + r.randrange(0, size, 4)
        word = r.choice((
            r.getrandbits(32), 0x00CF9B00, 0x00CFFB00 | r.getrandbits(8), 0x0000E900, 0x00008900, 0x0000EC00,
            0x0000E500, 0xF0CF93FF, 0x0008F040,
        ))  # fmt: skip
        out += b"\xc7\x05" + u32(at) + u32(word)
    pseudo = (0xFFFF | (anywhere(r) & 0xFFFF) << 16).to_bytes(4, "little") + b"\0\xf0"
    load = b"\x68" + pseudo[2:6] + b"\x66\x68" + pseudo[:2] + r.choice((b"\x0f\x01\x14\x24", b"\x0f\x01\x1c\x24"))
    return out + r.choice((b"", load, b"\xcd" + bytes((r.getrandbits(8),)), b"\xb8\x28\0\0\0\x0f\x00\xd8"))


def tasks(r: random.Random) -> bytes:
    """A null task register, a gate to ring 0 for ring 3, a TSS to switch to with a CR3 of its own, IRET with NT."""
    kind = r.randrange(5)
    descriptor = b"\xc7\x05" + u32(g.GDT + g.TASK)
    if kind == 0:
        return bytes.fromhex("31c0 0f00d8")
    if kind == 1:
        gate = u32(g.KERNEL_CS << 16 | g.PROGRAM & 0xFFFF), u32(g.PROGRAM & 0xFFFF0000 | 0xEC00)
        return descriptor + gate[0] + b"\xc7\x05" + u32(g.GDT + g.TASK + 4) + gate[1]
    if kind == 2:
        return b"\x9a" + u32(0) + (g.TASK | 3).to_bytes(2, "little")
    if kind == 3:
        return bytes.fromhex("9c 810c2400400000 9d cf")
    out = descriptor + u32((g.TSS & 0xFFFF) << 16 | 0x67) + b"\xc7\x05" + u32(g.GDT + g.TASK + 4)
    out += u32(g.TSS & 0xFF000000 | g.TSS >> 16 & 0xFF | r.choice((0x8900, 0x8900, 0x8100, 0xE900)))
    cr3 = r.choice((r.randrange(0x3400) << 12, g.DIRECTORIES[0] << 12, r.getrandbits(32)))
    for at, value in ((0x1C, cr3), (0x20, g.PROGRAM), (0x24, 2), (0x4C, g.KERNEL_CS), (0x50, g.KERNEL_SS)):
        out += b"\xc7\x05" + u32(g.TSS + at) + u32(value)
    return out + r.choice((b"\xea", b"\x9a")) + u32(0) + g.TASK.to_bytes(2, "little")


def page_tables(r: random.Random) -> bytes:
    """Lead somewhere that is none of the guest's business, and go there."""
    frame = r.choice((
        r.randrange(0x3400), r.randrange(0x3400), g.MEMORY_PAGES + r.randrange(0x400), 0xFFFFF, 0xFEE00, 0xF0000,
        r.choice(g.DIRECTORIES), r.choice(g.TABLES), r.getrandbits(20),
    ))  # fmt: skip
    flags = r.choice((7, 7, 0x67, 0x67, 0x87, 0xE7, r.getrandbits(12)))
    index = r.choice((g.FIRST, g.FIRST + 1, 0x3C0, 0x3C1, 0x3CB, 0x3FF, 0, 1))
    directory = r.choice(g.DIRECTORIES)
    if r.random() < 0.4:
        value = frame << 12 | flags
        at = (directory << 12) + 4 * index
    else:
        value = frame << 12 | flags
        at = (r.choice(g.TABLES) << 12) + 4 * r.choice((g.FIRST, 0, 0x10, 0x20, 0x3FF))
    out = b"\xc7\x05" + u32(at) + u32(value)
    if index >= 0x3C0 and r.random() < 0.7:
        out += b"\xc7\x05" + u32((directory << 12) + 4 * index) + u32(r.choice(g.TABLES) << 12 | 0x67)
    out += b"\xb8" + u32(directory << 12) + b"\x0f\x22\xd8"
    if r.random() < 0.3:
        out += bytes.fromhex("0f20e0 83c810 0f22e0")  # CR4.PSE
    place = index << 22 | r.choice((0, 0x10, 0x20, g.FIRST, 0x3FF)) << 12 | r.randrange(0xFFC)
    access = r.choice(
        (b"\xa1" + u32(place), b"\xc7\x05" + u32(place) + u32(garbage(r)), b"\xb8" + u32(place) + b"\xff\xe0")
    )
    return out + access


def ports(r: random.Random) -> bytes:
    count = r.choice((1, 3, 40))
    one = r.choice(("ec", "ed", "66ed", "ee", "ef", "66ef", "6c", "6d", "6e", "6f", "f36c", "f36e", "f36f"))
    port = r.choice((r.getrandbits(16), r.getrandbits(8), 0x1F0, 0xCF8, 0x64, 0x92, 0x402, BACKDOOR, BACKDOOR_FAST))
    head = b"\xba" + u32(port) + b"\xb8" + u32(garbage(r)) + b"\xbe" + u32(anywhere(r)) + b"\xbf" + u32(anywhere(r))
    loop = b"\x51\xb9" + u32(r.choice((1, 3, 600))) + bytes.fromhex(one) + b"\x59\x42\x49"
    return head + b"\xb9" + u32(count) + loop + b"\x75" + bytes((-len(loop) - 2 & 0xFF,))


def backdoor(r: random.Random) -> bytes:
    command = b"\xb9" + u32(
        r.choice((r.randrange(0x60), r.getrandbits(32), r.randrange(0x20) | r.getrandbits(16) << 16))
    )
    rest = b"\xbb" + u32(garbage(r)) + b"\xbe" + u32(anywhere(r)) + b"\xbf" + u32(anywhere(r)) + command
    port = b"\xba" + u32(r.choice((BACKDOOR, BACKDOOR, BACKDOOR_FAST)) | r.getrandbits(16) << 16)
    return b"\xb8" + u32(MAGIC) + rest + port + bytes.fromhex(r.choice(("ed", "ed", "ef", "f36c", "f36e", "ec")))


def floods(r: random.Random) -> bytes:
    """The same fault again and again: the handler goes on behind the snippet, so the snippet loops by itself."""
    fault = r.choice((b"\x0f\x0b", b"\xcc", b"\xce", b"\xcd" + bytes((r.getrandbits(8),)), b"\x31\xc9\xf7\xf1",
                      b"\xa1" + u32(anywhere(r)), b"\xf4", b"\x62\x05" + u32(anywhere(r)), b"\xf1"))  # fmt: skip
    return b"\xbd" + u32(g.PROGRAM + 0x100 + r.randrange(0x200)) + fault if r.random() < 0.5 else fault


def stacks(r: random.Random) -> bytes:
    """ESP at the ends of memory, in the monitor's range, in the dark; then something that needs a stack."""
    at = r.choice((0, 1, 3, 0xFFFFFFFF, 0xFFFFFFFC, anywhere(r), anywhere(r), CACHE + 0x100))
    use = r.choice(
        ("50", "60", "9c", "58", "9d", "c3", "cf", "cb", "cc", "0f0b", "cd80", "c8000010", "c9", "ff3424", "61")
    )
    out = b"\xbc" + u32(at) + bytes.fromhex(use)
    if r.random() < 0.3:
        out = b"\xc7\x05" + u32(g.TSS + 4) + u32(at) + out
    return out


def flags(r: random.Random) -> bytes:
    value = r.choice((r.getrandbits(22), 1 << 17 | 2, 1 << 14 | 2, 0x100 | 2, 1 << 16 | 2, 0x3000 | 2, 0x200 | 2))
    if r.random() < 0.5:
        return b"\x68" + u32(value) + b"\x9d" + r.choice((b"\x90", b"\xcf", b"\xfb\x90\xf4", b"\xcd\x80"))
    frame = [
        garbage(r) & 0xFFFF,
        garbage(r) & 0xFFFF,
        0x23,
        anywhere(r),
        value,
        r.choice((8, 0x1B, selector(r))),
        g.PROGRAM,
    ]
    return b"".join(b"\x68" + u32(v) for v in frame) + b"\xcf"


def floating_point(r: random.Random) -> bytes:
    code = r.choice(("0fae01", "0fae09", "dd31", "dd21", "d921", "d931", "0fae11", "0fae19", "0f1001", "0f1101",
                     "660fe701", "0f77", "9bdbe3", "0f0601", "dfe0", "0f6f01", "0f2901", "660f6f01"))  # fmt: skip
    return b"\xb9" + u32(anywhere(r) & ~15 if r.random() < 0.5 else anywhere(r)) + bytes.fromhex(code)


def registers_of_the_system(r: random.Random) -> bytes:
    """Control and debug registers, MSRs, and what only a VMM would do."""
    kind = r.randrange(5)
    value = b"\xb8" + u32(garbage(r))
    if kind == 0:
        number = r.choice((0, 0, 2, 3, 3, 4, 4, 1, 8))
        way = b"\x0f\x20" if r.random() < 0.3 else b"\x0f\x22"
        return (
            (value if r.random() < 0.7 else b"\xb8" + u32(0x80000001 ^ 1 << r.randrange(32)))
            + way
            + bytes((0xC0 | (number & 7) << 3,))
        )
    if kind == 1:
        return value + r.choice((b"\x0f\x21", b"\x0f\x23", b"\x0f\x23")) + bytes((0xC0 | r.randrange(8) << 3,))
    if kind == 2:
        msr = r.choice((0xC0000080, 0xC0010117, 0x1B, 0x10, 0x174, 0x175, 0x176, 0xC0010114, r.getrandbits(32)))
        return b"\xb9" + u32(msr) + value + b"\xba" + u32(garbage(r)) + r.choice((b"\x0f\x30", b"\x0f\x32"))
    code = r.choice(("0f01d8", "0f01d9", "0f01da", "0f01db", "0f01dc", "0f01dd", "0f01de", "0f01df", "0f01d1", "0f01c8",
                     "0f01c9", "0f34", "0f35", "0f05", "0f07", "0faa", "0f08", "0f09", "0f33", "0fa2", "0f31", "0f01f0",
                     "0f06", "0f01f9", "0f01c1", "0f01c2", "0fc7f1"))  # fmt: skip
    return _registers(r) + bytes.fromhex(code)


def random_bytes(r: random.Random) -> bytes:
    return _registers(r) + bytes(r.getrandbits(8) for _ in range(r.randint(4, 40)))


SNIPPETS: tuple[Snippet, ...] = (
    stores, stores, string_stores, jumps, jumps, far_transfers, segments, segments, forged_tables, page_tables,
    page_tables, page_tables, ports, backdoor, floods, stacks, flags, floating_point, registers_of_the_system,
    registers_of_the_system, random_bytes, random_bytes, tasks, tasks,
)  # fmt: skip


def hostile_program(r: random.Random) -> bytes:
    """One to thirty snippets, once or several times over."""
    steps = setting_up(large=False)
    for _ in range(r.randint(1, 30)):
        steps.append(Step(r.random() < 0.35, r.choice(SNIPPETS)(r), lambda _: None, ""))
    return assemble(steps, r.choice((1, 1, 2, 20)))
