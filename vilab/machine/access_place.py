"""Which instruction of its block reads or writes a device's registers.

Unicorn calls the hook of a memory access in the middle of a block, with EIP still at the block's start. Its processor
does know the place in the compiled code that the access came from, and how to find the instruction behind it: it does
so whenever an access faults. Both are internal, so they are found by provocation, as ``context`` finds registers::

    uc_struct ──> CPUState  | tb_jmp_cache ... | mem_io_pc | ... uc | ...   env: EAX ECX EDX EBX ...
                  a pointer in it leads to env, another one back to uc_struct

MODEL: where the library does not offer ``cpu_restore_state`` or the probe finds nothing certain (only Linux was tried),
an access counts as if it stood at the start of its block.
"""

from __future__ import annotations

import ctypes
import functools
import struct
import sys
from typing import Any

import msgspec
from unicorn import UC_ARCH_X86, UC_MODE_32, Uc
from unicorn import x86_const as reg
from unicorn.unicorn_py3.unicorn import uclib

UC_STRUCT_BYTES = 4096
OBJECT_BYTES = 128 << 10
_SAMPLE = struct.pack("<4Q", *(0x5A5A000 + i for i in range(4)))
_CODE = bytes.fromhex("9090 a100000200 4090 8b1d00000200 90 8b0d00000200 f4")
_ACCESSES_AT = (0x1002, 0x1009, 0x1010)


class Place(msgspec.Struct, frozen=True):
    """Byte offsets: of the pointer to the processor in ``uc_struct``, and of the access's return address in it."""

    cpu_at: int
    pc_at: int


def _function() -> Any:
    """``bool cpu_restore_state(CPUState *, uintptr_t host_pc, bool will_exit)``; ``None`` if it is not exported."""
    function = getattr(uclib, "cpu_restore_state_x86_64", None)
    if function is not None:
        function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_bool]
        function.restype = ctypes.c_bool
    return function


def _memory(address: int, size_bytes: int) -> bytes:
    """This process's own memory; short where it is not mapped."""
    with open("/proc/self/mem", "rb", buffering=0) as file:
        try:
            file.seek(address)
            return file.read(size_bytes)
        except (OSError, ValueError, OverflowError):
            return b""


def _find_processor(uc: Uc) -> tuple[int, int, int] | None:
    """Offset in ``uc_struct``, address of CPUState, and how many bytes of it lie before the registers."""
    handle = uc._uch.value
    registers = (reg.UC_X86_REG_EAX, reg.UC_X86_REG_ECX, reg.UC_X86_REG_EDX, reg.UC_X86_REG_EBX)
    for index, register in enumerate(registers):
        uc.reg_write(register, 0x5A5A000 + index)
    found = []
    for at, (pointer,) in enumerate(struct.iter_unpack("<Q", _memory(handle, UC_STRUCT_BYTES))):
        if pointer < 0x10000 or pointer >> 47 or pointer % 16:
            continue
        content = _memory(pointer, OBJECT_BYTES)
        registers_at = content.find(_SAMPLE)
        before = content[: max(registers_at, 0)]
        if struct.pack("<Q", pointer + registers_at) in before and struct.pack("<Q", handle) in before:
            found.append((registers_at, 8 * at, pointer))
    if not found:
        return None
    size, at, pointer = min(found)  # the other ones are objects that happen to lie before it
    return at, pointer, size


@functools.cache
def find_place() -> Place | None:
    """Probe a scratch processor, once a process. ``None``: nothing certain."""
    restore = _function()
    if restore is None or not sys.platform.startswith("linux"):
        return None
    uc = Uc(UC_ARCH_X86, UC_MODE_32)
    uc.mem_map(0, 0x10000)
    processor = _find_processor(uc)
    if processor is None:
        return None
    cpu_at, cpu, size = processor
    seen: list[set[tuple[int, int]]] = []

    def on_read(_uc: Uc, _offset: int, _size: int, _data: object) -> int:
        places = set()
        for at, (value,) in enumerate(struct.iter_unpack("<Q", _memory(cpu, size & ~7))):
            if 0x10000 <= value < 1 << 47 and restore(cpu, value, False):
                places.add((8 * at, int(uc.reg_read(reg.UC_X86_REG_EIP))))
        seen.append(places)
        return 0

    uc.mmio_map(0x20000, 0x1000, on_read, None, lambda *_: None, None)
    uc.mem_write(0x1000, _CODE)
    uc.emu_start(0x1000, 0)
    if len(seen) != len(_ACCESSES_AT):
        return None
    right = [{at for at, eip in places if eip == true} for places, true in zip(seen, _ACCESSES_AT, strict=True)]
    certain = set.intersection(*right)
    return Place(cpu_at, certain.pop()) if len(certain) == 1 else None


class AccessPlace:
    """For one processor.

    ``take`` says where in the compiled code the access stands that is being served, 0 if nobody knows: an access of
    the page walker does not belong to an instruction. ``bring_eip`` sets the processor's EIP to it (0.5 us).
    """

    def __init__(self, handle: int) -> None:
        place = find_place()
        self.is_exact = place is not None
        self._pc = ctypes.c_uint64()
        if place is not None:
            self._restore = _function()
            self._cpu = ctypes.c_uint64.from_address(handle + place.cpu_at).value
            self._pc = ctypes.c_uint64.from_address(self._cpu + place.pc_at)

    def take(self) -> int:
        host_pc = self._pc.value
        self._pc.value = 0
        return host_pc

    def bring_eip(self, host_pc: int) -> None:
        if host_pc:
            self._restore(self._cpu, host_pc, False)
