"""What the processor tells whoever runs it: why it has stopped, and what it asks in the middle of a run.

==================  ==================================================================
exception number    what has happened
==================  ==================================================================
0 to 31             an exception, or (``is_software_interrupt``) INT3, INTO, INT1
0 to 255            INT n
256 and more        a #VMEXIT: ``VMEXIT_BASE`` plus the exit code of the VMCB
==================  ==================================================================
"""

from __future__ import annotations

import enum
from typing import Protocol

VMEXIT_BASE = 0x100
"""A #VMEXIT arrives in ``on_exception`` as this plus the exit code of the VMCB."""

UNLIMITED = (1 << 62) - 1


class Stop(enum.Enum):
    """Why ``run`` or ``step`` returned."""

    LIMIT = "limit"
    INTERRUPT = "interrupt"
    HALTED = "halted"
    STOPPED = "stopped"
    STEPPED = "stepped"
    COUNTED = "counted"


class ExitHandler(Protocol):
    """What the processor calls. Registers may be read and changed in ``on_exception`` only."""

    def on_exception(self, number: int) -> bool:
        """Exception, INT n (``is_software``: EIP is behind it) or #VMEXIT. True: go on; False: stop."""
        ...

    def on_in(self, port: int, size_bytes: int) -> int: ...

    def on_out(self, port: int, size_bytes: int, value: int) -> None: ...

    def on_cpuid(self, leaf: int, subleaf: int) -> tuple[int, int, int, int] | None:
        """EAX, EBX, ECX, EDX; ``None``: the processor's own answer."""
        ...

    def on_mmio_read(self, mpa: int, size_bytes: int) -> int: ...

    def read_code(self, linear: int, size_bytes: int) -> bytes:
        """The bytes of an instruction that has just been executed, or was to be. Raises ``GuestFault``."""
        ...

    def on_mmio_write(self, mpa: int, size_bytes: int, value: int) -> None: ...
