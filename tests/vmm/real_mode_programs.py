"""Random programs of 16-bit code.

::

    0000:0400   world: vectors, handlers          each slot is 16 bytes: one or a few instructions, then NOPs;
    1000:0000   the program, slot after slot      the handler of a fault goes on with the next slot,
    2000-9000   data and stack segments           so every program runs to its end, whatever it meets

INT 50h to 53h lead to protected mode and back, each by another way (``real_mode_world.S``).
"""

from __future__ import annotations

import random
from typing import Any

import msgspec

WORLD_AT, PROGRAM_AT = 0x600, 0x10000
PROGRAM_CS = PROGRAM_AT >> 4
SLOT_BYTES, SLOTS = 16, 48
DATA_SEGMENTS = (0x2000, 0x2345, 0x4000, 0x5800, 0x9000)
TIMER_VECTOR, EXCURSIONS = 0x28, (0x50, 0x51, 0x52, 0x53)


_HANDLERS = ("next", "return", "change", "excursion 0", "excursion 1", "excursion 2", "excursion 3", "trapped", "timer")


class Case(msgspec.Struct, frozen=True):
    """``seed`` draws the program. limit : instructions to execute. interrupt_at : a device's interrupt, 0 for none."""

    seed: int
    limit: int
    interrupt_at: int = 0


def vectors(world: bytes) -> bytes:
    at = {name: int.from_bytes(world[2 * n : 2 * n + 2], "little") for n, name in enumerate(_HANDLERS)}
    handler = dict.fromkeys(range(256), at["change"])
    handler |= dict.fromkeys((0, 2, 5, 6, 7, 8, *range(9, 20)), at["next"])
    handler |= {1: at["trapped"], 3: at["return"], 4: at["change"], TIMER_VECTOR: at["timer"]}
    handler |= {vector: at[f"excursion {n}"] for n, vector in enumerate(EXCURSIONS)}
    return b"".join(handler[vector].to_bytes(4, "little") for vector in range(256))


class Writer:
    """Draws the slots."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def program(self) -> bytes:
        slots = [self._slot(n) for n in range(SLOTS)]
        return b"".join(slots) + b"\xeb\xfe"  # then in a circle, until the limit

    def _slot(self, number: int) -> bytes:
        kinds = (
            self.arithmetic, self.arithmetic, self.arithmetic, self.memory, self.memory, self.stack, self.segment,
            self.string, self.flags, self.interrupt, self.far, self.system, self.port, self.near, self.wide,
        )  # fmt: skip
        code = self.rng.choice(kinds)(number)
        assert len(code) <= SLOT_BYTES, code.hex()
        return code.ljust(SLOT_BYTES, b"\x90")

    def of(self, *choices: Any) -> Any:
        return self.rng.choice(choices)

    def word(self) -> bytes:
        return self.of(0, 1, 0x7FFF, 0x8000, 0xFFFF, self.rng.getrandbits(16)).to_bytes(2, "little")

    def modrm(self, reg: int | None = None, memory: bool = False) -> bytes:
        """With 16-bit addressing."""
        reg = self.rng.randrange(8) if reg is None else reg
        mod = self.of(0, 1, 2) if memory else self.of(0, 1, 2, 3, 3, 3)
        rm = self.rng.randrange(8)
        size = 0 if mod == 3 else (2 if rm == 6 else 0) if mod == 0 else mod
        return bytes((mod << 6 | reg << 3 | rm,)) + self.rng.randbytes(size)

    def prefix(self) -> bytes:
        return self.of(b"", b"", b"", b"\x66", b"\x26", b"\x36", b"\x64", b"\x65", b"\x66\x26")

    def arithmetic(self, _n: int) -> bytes:
        code = b""
        for _ in range(self.of(1, 2)):
            operation = 8 * self.rng.randrange(8) + self.rng.randrange(4)
            shift = bytes((self.of(0xD0, 0xD1, 0xD2, 0xD3),)) + self.of(
                self.modrm(self.of(0, 1, 4, 5, 7)), bytes((self.rng.randrange(0xC0, 0x100),))
            )  # RCL and RCR of memory: the processor underneath loses CF when a hidden fault comes in between
            unary = bytes((self.of(0xF6, 0xF7),)) + self.modrm(self.of(2, 3, 4, 5, 6, 7))
            code += self.of(self.of(b"", b"\x66") + bytes((operation,)) + self.modrm(), shift, unary)
            code += self.of(b"", b"\xb8" + self.word(), b"\x27", b"\x37", b"\xd4\x0a", b"\x98", b"\x99")
        return code

    def memory(self, _n: int) -> bytes:
        opcode = self.of(
            b"\x88", b"\x89", b"\x8a", b"\x8b", b"\x86", b"\x87", b"\x8d", b"\x0f\xb6", b"\x0f\xbf", b"\x62"
        )
        return self.prefix() + opcode + self.modrm(memory=True)

    def stack(self, _n: int) -> bytes:
        return self.of(
            b"\x60\x61", b"\x66\x60", b"\x61",
            bytes((0x50 + self.rng.randrange(8), 0x58 + self.of(0, 1, 2, 3, 5, 6, 7))),
            b"\x66" + bytes((0x50 + self.rng.randrange(8),)), b"\x68" + self.word(), b"\x6a\x80",
            b"\xc8" + self.of(b"\x10\x00", b"\x04\x00") + self.of(b"\0", b"\1", b"\3") + b"\xc9",
            b"\xbc" + self.of(b"\x00\x80", b"\x01\x00", b"\x00\x00", b"\x03\x00"), b"\xff" + self.modrm(6, True),
            b"\x8f" + self.modrm(0, True),
        )  # fmt: skip

    def segment(self, _n: int) -> bytes:
        value = self.of(*DATA_SEGMENTS).to_bytes(2, "little")
        register = self.of(0, 2, 3, 3, 4, 5)
        load = b"\xb8" + value + bytes((0x8E, 0xC0 | register << 3))
        push, pop = {0: ("06", "07"), 2: ("16", "17"), 3: ("1e", "1f"), 4: ("0fa0", "0fa1"), 5: ("0fa8", "0fa9")}[
            register
        ]
        far_load = self.of(b"\xc4", b"\xc5", b"\x0f\xb4", b"\x0f\xb5")
        return self.of(
            load, load, b"\x68" + value + bytes.fromhex(pop), bytes.fromhex(push),
            b"\x8c" + self.modrm(self.of(*range(6))),
            b"\x68" + value + b"\x68\x34\x12\x89\xe3\x36" + far_load + b"\x17", b"\x8e" + self.modrm(self.of(1, 6, 7)),
        )  # fmt: skip

    def string(self, _n: int) -> bytes:
        repeat = self.of(b"", b"\xf3", b"\xf2", b"\xf3\x66", b"\xf3\x67")
        counter = b"\x66\xb9" + bytes((self.rng.randrange(20), 0, 0, 0))
        indexes = b"\x66\x0f\xb7\xf6\x66\x0f\xb7\xff" if b"\x67" in repeat else b""
        code = (
            counter + indexes + repeat + bytes((self.of(0xA4, 0xA5, 0xA6, 0xA7, 0xAA, 0xAB, 0xAC, 0xAD, 0xAE, 0xAF),))
        )
        return code if len(code) <= SLOT_BYTES else code[6:]

    def flags(self, _n: int) -> bytes:
        return self.of(
            b"\xfa", b"\xfb", b"\xfb\xfa", b"\xfc", b"\xfd", b"\xf8", b"\xf9", b"\xf5", b"\x9c", b"\x9d\xfc",
            b"\x66\x9c", b"\x9c\x58\x50\x9d",
            b"\x68" + self.of(0, 0x200, 0x3202, 0x7FD7, 0x46, 0x300).to_bytes(2, "little") + b"\x9d",
            b"\x66\x68" + self.of(0x200000, 0x3202, 0x40000).to_bytes(4, "little") + b"\x66\x9d", b"\x9f", b"\x9e",
        )  # fmt: skip

    def interrupt(self, _n: int) -> bytes:
        vector = self.of(*EXCURSIONS, *EXCURSIONS, 0x21, 0x80, 0, 5, 6, 13)
        back = b"\x9c\x0e\xe8\x00\x00\x5b\x83\xc3\x06\x53\xcf"  # pushf, push cs, IP of what comes behind, iret
        return self.of(bytes((0xCD, vector)), bytes((0xCD, vector)), b"\xcc", b"\xce", back)

    def far(self, number: int) -> bytes:
        alias = self.of(0, 1, 0x80)
        cs = (PROGRAM_CS - alias).to_bytes(2, "little")

        def ip(offset: int) -> bytes:
            return (SLOT_BYTES * number + offset + 16 * alias).to_bytes(2, "little")

        jump, pushed = b"\xea" + ip(16) + cs, b"\x68" + cs + b"\x68" + ip(16)
        return self.of(
            jump, pushed + b"\xcb", pushed + b"\xca\x02\x00", b"\x9a" + ip(16) + cs, pushed + b"\x89\xe3\x36\xff\x2f",
            b"\x66\xea" + ip(16) + b"\0\0" + cs, b"\x66\x68" + cs + b"\0\0" + b"\x66\x6a\x00\x66\xcb",
        ) if number < SLOTS - 1 else jump  # fmt: skip

    def system(self, _n: int) -> bytes:
        return self.of(
            b"\x0f\x01" + self.modrm(4), b"\x0f\x01" + self.modrm(self.of(0, 1), True), b"\x0f\x20\xc0", b"\x0f\x06",
            b"\x0f\x20\xd0", b"\x0f\x00" + self.modrm(), b"\x0f\x02" + self.modrm(), b"\x63" + self.modrm(),
            b"\xb8\x10\x00\x0f\x01\xf0", b"\x0f\x20\xc0\x34\x02\x0f\x22\xc0", b"\x0f\x0b",
            b"\x0f\x08", b"\x66\x31\xc0\x0f\xa2",
            b"\xf0\x89\xc0", b"\x0f\x21\xf8", b"\x0f\x01\x3e\x00\x20",
        )  # fmt: skip

    def port(self, _n: int) -> bytes:
        return self.of(
            b"\xe4\x61", b"\xe6\x80", b"\xed", b"\xef", b"\x66\xed", b"\x6c", b"\x6f", b"\xb9\x05\x00\xf3\x6e"
        )

    def near(self, _n: int) -> bytes:
        return self.of(
            bytes((0x70 + self.rng.randrange(16), 2)) + b"\x40\x43", b"\xe8\x01\x00\x40\x58",
            b"\xb9\x04\x00\x40\xe2\xfd",
            b"\xe3\x01\x4b",
            b"\x0f" + bytes((0x80 + self.rng.randrange(16),)) + b"\x01\x00\x42", b"\xe8\x02\x00\xeb\x01\xc3",
        )  # fmt: skip

    def wide(self, _n: int) -> bytes:
        """32-bit addresses, in the first 64 KB of a segment or beyond its end."""
        base = self.of(0x1000, 0xFFFC, 0x12340).to_bytes(4, "little")
        return (
            b"\x66\xbb"
            + base
            + self.prefix()
            + b"\x67"
            + self.of(b"\x89", b"\x8b", b"\x01", b"\x86")
            + self.of(b"\x03", b"\x43\x08", b"\x44\x1b\x04")
        )


def random_case(rng: random.Random) -> Case:
    limit = rng.choice((20, 60, 150, 400))
    return Case(rng.getrandbits(32), limit, rng.randint(1, limit) if rng.random() < 0.5 else 0)
