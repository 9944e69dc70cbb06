"""Random programs that edit page tables and feel their effect: choices, what each becomes, and what it should do.

::

    choice (kind, seed) ──> Step: ring, machine code ──┬──> slot of the program:  mov ebp, next; mov esp, stack; code
                              └─ act(model) ───────────┘    what should happen, by ``differential_paging_model``

A step that would be stale gets an INVLPG or a load of CR3 before it; one that would damage the world is left out. So
every list of choices is a proper program, and a failing one can be made smaller by leaving out any of them.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec

from vilab.errors import GuestFault
from vilab.vmm import differential_paging_guest as g
from vilab.vmm.differential_code.choice import Choice, Digits
from vilab.vmm.differential_paging_model import PG, PGE, PSE, WP, Forbidden, Model, Stale
from vilab.x86 import paging as pg

Act = Callable[[Model], None]


class Step(msgspec.Struct, frozen=True):
    """Machine code, the ring that it runs in, and what it should do to the model."""

    user: bool
    code: bytes
    act: Act
    text: str


def u32(value: int) -> bytes:
    return (value & 0xFFFFFFFF).to_bytes(4, "little")


def _mov(register: int, value: int) -> bytes:
    return bytes((0xB8 + register,)) + u32(value)


MIX = bytes.fromhex("c1c305 31c3")
"""rol ebx, 5; xor ebx, eax: EBX remembers what was read."""
FLAGS_KNOWN = b"\x39\xdb"
"""cmp ebx, ebx: many of the instructions below leave some flag undefined."""
HEAD_BYTES = 12
EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI = range(8)

# Where and what -----------------------------------------------------------------------------------------------------

_OFFSETS = (0xFFD, 0xFFE, 0xFFF, 0xFFC, 0x7FE, 0x802)


def address(d: Digits) -> int:
    """A place in a window, often where an entry would be if a table is behind it, sometimes across two pages."""
    where = d.below(10)
    if where == 9:
        base = g.KERNEL_FREE + d.below(g.KERNEL_FREE_PAGES - 1) << 12
    else:
        page = d.below(g.PAGES) if where > 5 else d.below(6)
        base = (g.FIRST + d.below(g.WINDOWS if where > 3 else 3)) << 22 | (g.FIRST + page) << 12
    kind = d.below(8)
    if kind == 7:
        return base + d.of(_OFFSETS)
    return base + 0x100 + 4 * d.below(g.PAGES) + (d.below(4) if kind == 6 else 0)


_FLAGS = (0x07, 0x07, 0x67, 0x67, 0x03, 0x63, 0x05, 0x25, 0x01, 0x27, 0x47, 0x21)


def _flags(d: Digits) -> int:
    flags = d.of(_FLAGS)
    if d.one_in(6):
        flags ^= 1 << d.below(12)
    if d.one_in(6):
        flags |= pg.GLOBAL
    return flags


def page_entry(d: Digits) -> int:
    """Mostly a page of data; also tables, directories, and addresses without memory."""
    where = d.below(12)
    if where == 11:
        return 0
    if where == 10:
        frame = d.of((0x700, 0x12345, 0x480))
    elif where > 7:
        frame = d.of((*g.TABLES, *g.DIRECTORIES))
    elif where > 6:
        frame = d.of((*g.LOW_FRAMES, *g.HIGH_FRAMES))
    else:
        frame = d.of(g.DATA_FRAMES)
    return frame << 12 | _flags(d)


def directory_entry(d: Digits) -> int:
    """A table, mostly; also 4 MB pages, a directory as a table, and nonsense."""
    where = d.below(12)
    if where == 11:
        return 0
    if where > 7:
        large = d.of((0, 0x400000, 0x400000, 0, 0x800000)) | pg.LARGE | _flags(d)
        return large | d.of((0, 0, 0, 0, 0, 0, pg.LARGE_PAT, pg.LARGE_RESERVED))
    if where == 7:
        return d.of((*g.DIRECTORIES, *g.DATA_FRAMES)) << 12 | _flags(d) & ~pg.LARGE
    return d.of(g.TABLES) << 12 | _flags(d) & ~pg.LARGE


def entry_place(d: Digits) -> tuple[int, int]:
    """(linear address of an entry through the kernel's own mapping, a new value for it)"""
    where = d.below(8)
    if where == 7:
        return g.KERNEL_TABLE + 4 * (g.KERNEL_FREE + d.below(g.KERNEL_FREE_PAGES)), page_entry(d)
    if where > 4:
        directory = d.of(g.DIRECTORIES) << 12
        return directory + 4 * (g.FIRST + d.below(g.WINDOWS)), directory_entry(d)
    page = d.below(g.PAGES) if d.one_in(3) else d.below(6)
    return (d.of(g.TABLES) << 12) + 4 * (g.FIRST + page), page_entry(d)


def value(d: Digits) -> int:
    """Data, code, or what makes sense in a page table."""
    kind = d.below(4)
    if kind == 0:
        return int.from_bytes(g.STUBS[d.below(len(g.STUBS))], "little")
    if kind == 1:
        return page_entry(d)
    if kind == 2:
        return directory_entry(d)
    return d.below(1 << 32)


# Steps --------------------------------------------------------------------------------------------------------------

Change = tuple[str, str, int, Callable[[int, int], int]]
"""(text, machine code, size, (old, EAX) -> new): [ECX] is changed."""

RMW: tuple[Change, ...] = (
    ("add [ecx], eax", "0101", 4, lambda old, v: old + v),
    ("xor [ecx], eax", "3101", 4, lambda old, v: old ^ v),
    ("or [ecx], eax", "0901", 4, lambda old, v: old | v),
    ("and [ecx], eax", "2101", 4, lambda old, v: old & v),
    ("xchg [ecx], eax", "8701", 4, lambda _, v: v),
    ("lock or [ecx], eax", "f00901", 4, lambda old, v: old | v),
    ("lock xadd [ecx], eax", "f00fc101", 4, lambda old, v: old + v),
    ("xor [ecx], al", "3001", 1, lambda old, v: old ^ v),
    ("or [ecx], ax", "660901", 2, lambda old, v: old | v),
    ("not dword [ecx]", "f711", 4, lambda old, _: ~old),
    ("inc dword [ecx]", "ff01", 4, lambda old, _: old + 1),
    ("btr dword [ecx], 5", "0fba3105", 4, lambda old, _: old & ~0x20),
    ("btr dword [ecx], 6", "0fba3106", 4, lambda old, _: old & ~0x40),
    ("bts dword [ecx], 1", "0fba2901", 4, lambda old, _: old | 2),
    ("btr dword [ecx], 1", "0fba3101", 4, lambda old, _: old & ~2),
    ("btc dword [ecx], 0", "0fba3900", 4, lambda old, _: old ^ 1),
    ("btc dword [ecx], 2", "0fba3902", 4, lambda old, _: old ^ 4),
)
BITS = RMW[11:]


def _modify(d: Digits, at: int, value: int, user: bool, table: tuple[Change, ...]) -> Step:
    text, code, size, change = table[d.below(len(table))]
    mask = (1 << 8 * size) - 1

    def act(m: Model) -> None:
        old = int.from_bytes(m.read(at, size, user), "little")
        m.write(at, (change(old, value) & mask).to_bytes(size, "little"), user)

    return Step(user, _mov(ECX, at) + _mov(EAX, value) + bytes.fromhex(code) + MIX, act, f"{text}  {at:08x} {value:x}")


def _store(d: Digits, at: int, value: int, user: bool) -> Step:
    size, form = ((4, "8901"), (4, ""), (4, "8901"), (2, "668901"), (1, "8801"))[d.below(5)]
    data = u32(value)[:size]
    code = _mov(ECX, at) + _mov(EAX, value) + bytes.fromhex(form) if form else b"\xc7\x05" + u32(at) + u32(value)
    return Step(user, code, lambda m: m.write(at, data, user), f"mov {size} bytes [{at:08x}], {value:x}")


def edit(d: Digits) -> Step:
    """The kernel changes an entry: the whole of it, a bit, a byte, two at once."""
    at, new = entry_place(d)
    kind = d.below(8)
    if kind < 5:
        return _store(Digits(kind & 1), at, new, False)
    if kind == 5:
        return _modify(d, at, new, False, BITS)
    if kind == 6:
        return _modify(d, at, d.of((1, 2, 4, 0x20, 0x40, 0x80, new)), False, RMW)
    return _store(d, at + d.of((0, 0, 2, 3)), new, False)


def copy_entries(d: Digits) -> Step:
    """A few entries from one table to another, as fork does it."""
    (source, _), (target, _) = entry_place(d), entry_place(d)
    return _move(source, target, 1 + d.below(4), 4, False)


def clear_entries(d: Digits) -> Step:
    """A whole table is cleared, or a few entries."""
    at, new = entry_place(d)
    if d.one_in(3) and at >> 12 in g.TABLES:
        return _fill(at & ~0xFFF, 0, 1024, False)
    return _fill(at, d.of((0, 0, new)), 1 + d.below(5), False)


def _move(source: int, target: int, count: int, size: int, user: bool) -> Step:
    def act(m: Model) -> None:
        for i in range(0, count * size, size):
            m.write(target + i, m.read(source + i, size, user), user)

    code = _mov(ESI, source) + _mov(EDI, target) + _mov(ECX, count) + (b"\xf3\xa5" if size == 4 else b"\xf3\xa4")
    return Step(user, code, act, f"rep movs {count} * {size}  [{target:08x}], [{source:08x}]")


def _fill(at: int, value: int, count: int, user: bool) -> Step:
    def act(m: Model) -> None:
        for i in range(count):
            m.write(at + 4 * i, u32(value), user)

    code = _mov(EDI, at) + _mov(EAX, value) + _mov(ECX, count) + b"\xf3\xab"
    return Step(user, code, act, f"rep stosd {count}  [{at:08x}], {value:x}")


def load_cr3(d: Digits) -> Step:
    return reload(d.of(g.DIRECTORIES) << 12 | d.of((0, 0, 0, 0x18)))


def reload(cr3: int) -> Step:
    return Step(False, _mov(EAX, cr3) + b"\x0f\x22\xd8", lambda m: m.load_cr3(cr3), f"mov cr3, {cr3:x}")


def invalidate(d: Digits) -> Step:
    return invlpg(address(d), d.one_in(16))


def invlpg(at: int, user: bool = False) -> Step:
    def act(m: Model) -> None:
        if user:
            raise GuestFault(13, 0)
        m.invalidate(at)

    return Step(user, _mov(ECX, at) + b"\x0f\x01\x39", act, f"invlpg [{at:08x}]")


def toggle(d: Digits) -> Step:
    """CR0.WP, CR4.PSE, CR4.PGE; seldom CR0.PG."""
    kind = d.below(10)
    if kind < 4:
        return _toggle_cr0("WP", WP, 16)
    if kind < 7:
        return _toggle_cr4("PSE", PSE, 4)
    return _toggle_cr4("PGE", PGE, 7) if kind < 9 else _toggle_cr0("PG", PG, 31)


def _toggle_cr0(name: str, bit: int, number: int) -> Step:
    code = b"\x0f\x20\xc0\x0f\xba\xf8" + bytes((number,)) + b"\x0f\x22\xc0"
    return Step(False, code, lambda m: m.toggle_cr0(bit), f"toggle CR0.{name}")


def _toggle_cr4(name: str, bit: int, number: int) -> Step:
    code = b"\x0f\x20\xe0\x0f\xba\xf8" + bytes((number,)) + b"\x0f\x22\xe0"
    return Step(False, code, lambda m: m.toggle_cr4(bit), f"toggle CR4.{name}")


def read(d: Digits) -> Step:
    user, at = bool(d.below(2)), address(d)
    size, form = ((4, "8b01"), (1, "0fb601"), (2, "0fb701"), (4, ""))[d.below(4)]
    code = _mov(ECX, at) + bytes.fromhex(form) if form else b"\xa1" + u32(at)
    return Step(user, code + MIX, lambda m: _ignore(m.read(at, size, user)), f"read {size} bytes [{at:08x}]")


def _ignore(_: bytes) -> None:
    return


def store(d: Digits) -> Step:
    user, at = bool(d.below(2)), address(d)
    return _store(d, at, value(d), user)


def modify(d: Digits) -> Step:
    user, at = bool(d.below(2)), address(d)
    return _modify(d, at, value(d), user, RMW)


def string(d: Digits) -> Step:
    user, target = bool(d.below(2)), address(d)
    kind = d.below(3)
    if kind == 0:
        return _fill(target, value(d), 1 + d.below(5), user)
    return _move(address(d), target, 1 + d.below(5), (4, 1)[kind - 1], user)


def stack(d: Digits) -> Step:
    """PUSH and POP where ESP leads into a window. In ring 0 only where there is no fault."""
    user, at, kind = bool(d.below(4)), address(d), d.below(4)
    v = value(d)
    if kind == 0:
        code, text = _mov(ESP, at) + b"\x58" + MIX, "pop eax"
        act: Act = lambda m: _ignore(m.read(at, 4, user))  # noqa: E731
    elif kind == 3:
        code, text = _mov(ESP, at + 4) + b"\x68" + u32(v), "push imm"
        act = lambda m: m.write(at, u32(v), user)  # noqa: E731
    else:
        code, text = _mov(EAX, v) + _mov(ESP, at + 4) + b"\x50", "push eax"
        act = lambda m: m.write(at, u32(v), user)  # noqa: E731

    def careful(m: Model) -> None:
        try:
            act(m)
        except GuestFault as fault:
            if not user:
                raise Forbidden("a fault on the stack of ring 0") from fault
            raise

    return Step(user, code, careful, f"{text}, at {at:08x}")


def call(d: Digits) -> Step:
    """Execute what is there."""
    user, at = bool(d.below(2)), address(d) & ~3
    if d.one_in(5):
        at = at & ~0xFFF | 0xFFE
    code = _mov(ECX, 0) + _mov(EAX, at) + b"\xff\xd0\x91" + MIX
    return Step(user, code, lambda m: m.execute(at, user), f"call {at:08x}")


TEMPLATES: tuple[Callable[[Digits], Step], ...] = (
    read, edit, edit, edit, edit, edit, copy_entries, clear_entries, load_cr3, load_cr3, invalidate, toggle,
    read, read, store, store, store, modify, modify, string, stack, call, call,
)  # fmt: skip
KINDS = len(TEMPLATES)


def step_of(choice: Choice) -> Step:
    return TEMPLATES[choice[0] % KINDS](Digits(choice[1]))


# Programs -----------------------------------------------------------------------------------------------------------


def setting_up(large: bool) -> list[Step]:
    """What every program begins with, so that its windows are not all empty: two tables with pages of every kind.

    ``large``: with CR4.PSE, a page of 4 MB, and one with a reserved bit.
    """
    steps = []
    if large:
        at = (g.DIRECTORIES[0] << 12) + 4 * (g.FIRST + 2)
        steps += [_toggle_cr4("PSE", PSE, 4), _store(Digits(1), at, 0x400087, False)]
        steps.append(_store(Digits(1), at + 4, pg.LARGE_RESERVED | 0x87, False))
    for number, frame in enumerate(g.DATA_FRAMES[:6]):
        at = (g.TABLES[0] << 12) + 4 * (g.FIRST + number)
        steps.append(_store(Digits(1), at, frame << 12 | _FLAGS[number], False))
    for directory in g.DIRECTORIES[:2]:
        at = (directory << 12) + 4 * g.FIRST
        steps.append(_store(Digits(1), at, g.TABLES[0] << 12 | 7, False))
        steps.append(_store(Digits(1), at + 4, g.TABLES[1] << 12 | 7, False))
    return steps


def proper_steps(choices: tuple[Choice, ...], rounds: int = 1, large: bool = False) -> tuple[list[Step], Model]:
    """The steps that are left, with what had to be added, and the model behind the last of them."""
    steps = setting_up(large) + [step_of(choice) for choice in choices]
    rng = random.Random(len(choices))
    while True:
        model, again = Model(), False
        for number in range(rounds):
            at = 0
            while at < len(steps) and not again:
                step, before = steps[at], model.saved()
                try:
                    step.act(model)
                except GuestFault as fault:
                    model.faults.append((fault.vector, fault.error_code or 0, fault.address or 0))
                except Stale as stale:
                    model.restore(before)
                    by_cr3 = not model.cr4 & PGE and rng.random() < 0.25
                    steps.insert(at, reload(model.cr3) if by_cr3 else invlpg(stale.gva))
                    again = number > 0
                    continue
                except Forbidden:
                    model.restore(before)
                    del steps[at]
                    again = number > 0
                    continue
                at += 1
            if again:
                break
        if not again:
            return steps, model


def assemble(steps: list[Step], rounds: int) -> bytes:
    """The program, at ``PROGRAM``."""
    code = bytearray(b"\xc7\x05" + u32(g.ROUNDS) + u32(rounds))
    start, user = len(code), False

    def slot(body: bytes, in_ring_3: bool) -> None:
        following = g.PROGRAM + len(code) + HEAD_BYTES + len(body)
        stack = g.USER_STACK if in_ring_3 else g.KERNEL_STACK
        code.extend(_mov(EBP, following) + _mov(ESP, stack) + FLAGS_KNOWN + body)

    def change_ring(to_user: bool) -> None:
        if to_user:
            frame = b"".join(b"\x68" + u32(v) for v in (g.FLAT_DS, g.USER_STACK, 2, g.USER_CS)) + b"\x55\xcf"
            slot(frame, False)
        else:
            slot(b"\xcd\x80", True)

    for step in steps:
        if step.user != user:
            change_ring(step.user)
            user = step.user
        slot(step.code, user)
    if user:
        change_ring(False)
    code += b"\xff\x0d" + u32(g.ROUNDS)
    code += b"\x0f\x85" + u32(start - len(code) - 6) + b"\xfa\xf4"
    return bytes(code)
