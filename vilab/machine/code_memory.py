"""Code that the processor has executed and keeps translations of, when its bytes change behind the processor's back.

::

    bytes at a linear address       code_changed        the processor looks the page up, in ring 0
    bytes of machine memory         code_changed_at     it is as at power-on for a moment: linear = machine address
    all memory                      forget_code         every translation

Its own stores it notices itself.
"""

from __future__ import annotations

import ctypes

from unicorn.unicorn_py3.unicorn import uclib

from vilab.machine.registers import HF_CPL, RegisterFile

_REMOVE_CACHE = 0x48000009
"""A request to ``uc_ctl``: to write, with two arguments."""


class CodeMemory(RegisterFile):
    """Part of the processor."""

    _spare: ctypes.c_void_p
    _at_power_on: ctypes.c_void_p

    def code_changed(self, address: int, size_bytes: int) -> None:
        """Bytes at a linear address that may have been executed were changed behind the processor's back.

        The processor looks the address up with the rights of its current ring, and does nothing where ring 3 may not
        look; so it is asked in ring 0.
        """
        mode = self.d[self.D_HFLAGS]
        self.d[self.D_HFLAGS] = mode & ~HF_CPL
        self.store()
        self._forget_code(address, size_bytes)
        self.d[self.D_HFLAGS] = mode

    def _forget_code(self, address: int, size_bytes: int) -> None:
        end = ctypes.c_uint64(address + size_bytes)
        uclib.uc_ctl(self._handle, ctypes.c_int(_REMOVE_CACHE), ctypes.c_uint64(address), end)

    def code_changed_at(self, mpa: int, size_bytes: int) -> None:
        """Bytes of machine memory that may have been executed were changed behind the processor's back (about 10 us).

        The processor can be asked only by linear address, which says nothing about a machine address while the guest
        has paging on. So it becomes for a moment what it was at power-on, with paging off.
        """
        self._save(self._handle, self._spare)
        self._restore(self._handle, self._at_power_on)
        self.flush_tlb()
        self._forget_code(mpa, size_bytes)
        self.flush_tlb()
        self._restore(self._handle, self._spare)

    def forget_code(self) -> None:
        """Forget all code that was executed: memory has been replaced (0.5 ms)."""
        self._uc.ctl_flush_tb()
