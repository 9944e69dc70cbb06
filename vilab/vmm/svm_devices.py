"""Devices of a guest under AMD-V: what exits on hardware, and is served here in the middle of the guest.

==================  ========================================  =============================
here                on hardware                               counted as
==================  ========================================  =============================
port hook           #VMEXIT IOIO                              ``in``, ``out``
MMIO hook           #VMEXIT, nested page fault                ``mmio``
interrupt           #VMEXIT INTR, then EVENTINJ at VMRUN;     ``intr``
                    no exit where the guest has halted
==================  ========================================  =============================

Their cost is owed, and paid at a boundary that every run has (``engine_time``).

MODEL: IN and OUT ignore the I/O permission map and never exit. They are counted, logged and charged as the IOIO exits
that they are on hardware (the map in the VMCB says: every port).
MODEL: an access to a device's registers in memory does not exit either, but is served in the middle of the guest, and
counted as ``mmio``, logged and charged as the nested page fault that it is on hardware.
MODEL: a device's interrupt is the VMM's doing, so a running guest has to be stopped for it: charged as an INTR exit
and an entry with EVENTINJ. A halted guest has exited already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vilab.errors import VmmBug
from vilab.events import VmExit
from vilab.vmm import svm_exits as codes
from vilab.vmm.svm_guest_code import SvmGuestCode

if TYPE_CHECKING:
    from vilab.vmm.vm import VirtualMachine


class SvmDevices(SvmGuestCode):
    """Part of ``SvmEngine``."""

    _exit_words: memoryview
    _cycles: int

    def __init__(self, vm: VirtualMachine) -> None:
        super().__init__(vm)
        self._left_by_hlt = self._stopped_for_it = False

    # Ports and registers in memory -------------------------------------------------------------------------------

    def on_in(self, port: int, size_bytes: int) -> int:
        self._port_exit(port, size_bytes, is_in=True)
        return self.port_in(port, size_bytes)

    def on_out(self, port: int, size_bytes: int, value: int) -> None:
        self._port_exit(port, size_bytes, is_in=False)
        self.port_out(port, size_bytes, value)

    def port_cost(self) -> int:
        return self._cycles

    def _port_exit(self, port: int, size_bytes: int, *, is_in: bool) -> None:
        reason = "in" if is_in else "out"
        self.exits[reason] += 1
        if self.log.active:
            at_ns = self.now_ns()
            self.look_in_port_hook()
            i = self.instruction()
            if i is None:
                raise VmmBug(f"The port access at {self.vcpu.eip:08x} cannot be read.")
            info1, info2 = codes.ioio_info(port, size_bytes, i), self.vcpu.eip + i.size & 0xFFFFFFFF
            words = self._exit_words
            words[0], words[1], words[2] = codes.IOIO, info1, info2
            self.log.emit(
                VmExit(at_ns, self.vcpu.eip, self.vcpu.cpl, codes.IOIO, reason, info1, info2, i.code, self._cycles)
            )
        self.charge_port_access(self._cycles)

    def on_mmio_read(self, mpa: int, size_bytes: int) -> int:
        self._mmio_exit(mpa, 0)
        return super().on_mmio_read(mpa, size_bytes)

    def on_mmio_write(self, mpa: int, size_bytes: int, value: int) -> None:
        self._mmio_exit(mpa, codes.NPF_WRITE)
        super().on_mmio_write(mpa, size_bytes, value)

    def _mmio_exit(self, gpa: int, error_code: int) -> None:
        """On hardware: a nested page fault at an entry that is never filled, and an instruction to emulate."""
        if self.log.active:
            at_ns = self.now_ns()
            self.look_in_port_hook()
            i = self.instruction()
            code = b"" if i is None else i.code
            words, info1 = self._exit_words, error_code | codes.NPF_USER
            words[0], words[1], words[2] = codes.NPF, info1, gpa
            self.log.emit(VmExit(at_ns, self.vcpu.eip, self.vcpu.cpl, codes.NPF, "npf", info1, gpa, code, self._cycles))

    # Interrupts --------------------------------------------------------------------------------------------------

    def halt(self) -> None:
        self._left_by_hlt = True
        super().halt()

    def before_delivery(self) -> None:
        self._stopped_for_it = not self._left_by_hlt
        self._left_by_hlt = False
        if self._stopped_for_it:
            self.exits["intr"] += 1
            words = self._exit_words
            words[0], words[1], words[2] = codes.INTR, 0, 0
            if self.log.active:
                v = self.vcpu
                self.log.emit(VmExit(self.now_ns(), v.eip, v.cpl, codes.INTR, "intr", 0, 0, b"", self._cycles))

    def interrupt_cost(self) -> int:
        return self._cycles if self._stopped_for_it else 0
