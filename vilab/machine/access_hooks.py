"""What the processor asks in the middle of a block: ports, registers of devices in memory, CPUID.

::

    block    ... | in al, dx | ...          _on_in  ──> handler.on_in  ──> AL; the block goes on
    block    ... | mov eax, [device] | ...  _on_mmio_read ──> handler.on_mmio_read
             └── EIP stands on the access (``current_eip``); the view is the last exit's until somebody asks (``look``)

An error must not pass through Unicorn, so it is kept, and raised by ``run``. Once somebody has asked to stop, what the
rest of the block asks for is not done (``Cpu.stop``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from unicorn import x86_const as reg

from vilab.machine import native, native_mmio
from vilab.machine.access_place import AccessPlace
from vilab.machine.executed_bytes import ExecutedBytes
from vilab.machine.exits import ExitHandler
from vilab.machine.prefixes import PREFIXES
from vilab.x86.decode import decode

_PORT_IN_BYTE = frozenset((0xE4, 0xE5, 0xE6, 0xE7))

_HOOK_REGISTERS = (reg.UC_X86_REG_EAX, reg.UC_X86_REG_EBX, reg.UC_X86_REG_ECX, reg.UC_X86_REG_EDX,
                   reg.UC_X86_REG_ESI, reg.UC_X86_REG_EDI)  # fmt: skip
_CPUID_REGISTERS = (reg.UC_X86_REG_EAX, reg.UC_X86_REG_EBX, reg.UC_X86_REG_ECX, reg.UC_X86_REG_EDX)


class AccessHooks(ExecutedBytes):
    """Part of the processor."""

    handler: ExitHandler | None
    stop: Callable[[], None]

    def _make_access_state(self, mmio_base: int) -> None:
        self._mmio_base = mmio_base
        self._register_cells: native.Cells = np.full(native_mmio.CELLS + 1, -1, dtype=np.int64)
        self._register = memoryview(self._register_cells)  # type: ignore[arg-type]
        self._in_port_hook = self._in_mmio_hook = False
        self._access_pc = 0
        self._place = AccessPlace(self._handle.value or 0)
        self._stopped_at: tuple[int, int] | None = None
        self._failure: BaseException | None = None

    @property
    def in_port_hook(self) -> bool:
        """Are we inside ``on_in``, ``on_out`` or ``on_mmio_*``, in the middle of a block?"""
        return self._in_port_hook or self._in_mmio_hook

    def look(self) -> None:
        """In a port or MMIO hook: bring the view up to date, EIP on the instruction. For reading only."""
        eip = self.current_eip()
        self.load()
        self.q[self.Q_EIP] = eip

    def registers_in_hook(self) -> list[int]:
        """In a port hook: EAX, EBX, ECX, EDX, ESI and EDI."""
        return [int(self._uc.reg_read(register)) for register in _HOOK_REGISTERS]

    def set_registers_in_hook(self, values: Sequence[int]) -> None:
        """In a port hook: EAX, EBX, ECX, EDX, ESI and EDI for the instructions behind this one (3 us each)."""
        for register, value in zip(_HOOK_REGISTERS, values, strict=True):
            self._uc.reg_write(register, value)

    def answer_loads(self, mpa: int | None, value: int) -> None:
        """Answer 32-bit loads from a register above memory with this, and tell nobody; ``None``: from none."""
        self._register[native_mmio.AT] = -1 if mpa is None else mpa - self._mmio_base
        self._register[native_mmio.VALUE] = value

    def _access_instruction_bytes(self) -> int:
        if self._in_mmio_hook:
            return decode(self.handler.read_code(self.pc, 15), self.pc).size  # type: ignore[union-attr]
        code = self.handler.read_code(self.pc, 1)  # type: ignore[union-attr]
        length = 1
        while code[0] in PREFIXES:
            code = self.handler.read_code(self.pc + length, 1)  # type: ignore[union-attr]
            length += 1
        return length + (code[0] in _PORT_IN_BYTE)

    def _on_in(self, _uc: int, port: int, size: int, _user_data: Any) -> int:
        if self._stopped_at is not None:
            return 0xFFFFFFFF
        self._in_port_hook = True
        try:
            return self.handler.on_in(port, size) & 0xFFFFFFFF  # type: ignore[union-attr]
        except BaseException as failure:
            self._failure = failure
            self.stop()
            return 0
        finally:
            self._in_port_hook = False

    def _on_out(self, _uc: int, port: int, size: int, value: int, _user_data: Any) -> None:
        if self._stopped_at is not None:
            return
        self._in_port_hook = True
        try:
            self.handler.on_out(port, size, value)  # type: ignore[union-attr]
        except BaseException as failure:
            self._failure = failure
            self.stop()
        finally:
            self._in_port_hook = False

    def _on_cpuid(self, _uc: int, _user_data: Any) -> int:
        try:
            read, write = self._uc.reg_read, self._uc.reg_write
            answer = self.handler.on_cpuid(  # type: ignore[union-attr]
                read(reg.UC_X86_REG_EAX), read(reg.UC_X86_REG_ECX)
            )
            if answer is None:
                return 0
            for register, value in zip(_CPUID_REGISTERS, answer, strict=True):
                write(register, value)
        except BaseException as failure:
            self._failure = failure
            self.stop()
        return 1

    def _on_mmio_read(self, _uc: int, offset: int, size: int, _user_data: Any) -> int:
        if offset == self._register[native_mmio.AT] and size == native_mmio.WIDTH_BYTES:
            return self._register[native_mmio.VALUE]
        if self._stopped_at is not None:
            return 0
        self._in_mmio_hook, self._access_pc = True, self._place.take()
        try:
            return self.handler.on_mmio_read(self._mmio_base + offset, size)  # type: ignore[union-attr]
        except BaseException as failure:
            self._failure = failure
            self.stop()
            return 0
        finally:
            self._in_mmio_hook, self._access_pc = False, 0

    def _on_mmio_write(self, _uc: int, offset: int, size: int, value: int, _user_data: Any) -> None:
        if self._stopped_at is not None:
            return
        self._in_mmio_hook, self._access_pc = True, self._place.take()
        try:
            self.handler.on_mmio_write(self._mmio_base + offset, size, value)  # type: ignore[union-attr]
        except BaseException as failure:
            self._failure = failure
            self.stop()
        finally:
            self._in_mmio_hook, self._access_pc = False, 0
