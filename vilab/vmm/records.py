"""What a step of a run looks like from outside: values that views, quizzes and checkers read."""

from __future__ import annotations

from typing import Protocol

import msgspec

from vilab.events import Event

GPR_NAMES = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")
SEGMENT_NAMES = ("es", "cs", "ss", "ds", "fs", "gs")


class Registers(msgspec.Struct, frozen=True):
    """One truth about a processor: either what the guest set, or what the CPU holds.

    ``gpr`` in the order of ``GPR_NAMES``, ``selectors`` in that of ``SEGMENT_NAMES``. ``stack_top`` is the dword at
    SS:ESP, ``None`` where it cannot be read. ``nested_cr3`` only for the CPU's own truth under nested paging.
    """

    gpr: tuple[int, ...]
    eip: int
    eflags: int
    cpl: int
    selectors: tuple[int, ...]
    cr0: int
    cr2: int
    cr3: int
    cr4: int
    gdtr_base: int
    gdtr_limit: int
    idtr_base: int
    idtr_limit: int
    ldtr: int
    tr: int
    stack_top: int | None
    nested_cr3: int | None = None


class StepRecord(msgspec.Struct, frozen=True):
    """One step: the guest instruction that was executed, what was logged meanwhile, and both truths afterwards.

    ``index`` counts from 1. ``virtual_ns`` is the time after the step. ``eip``, ``code``, ``mnemonic``, ``operands``
    describe the instruction; ``cpl`` is the guest's ring before it and ``cpu_cpl`` the ring that the CPU really ran
    it in (-1 stands for the VMM under hardware assist and never appears here). ``tc_address`` is where its translation
    runs, ``None`` outside the translation cache. ``how`` as in ``InstructionRetired``.
    """

    index: int
    virtual_ns: int
    eip: int
    code: bytes
    mnemonic: str
    operands: str
    cpl: int
    cpu_cpl: int
    how: str
    tc_address: int | None
    events: tuple[Event, ...]
    guest: Registers
    cpu: Registers


class Steppable(Protocol):
    """A run that can be walked in both directions; positions are 0 (before the first step) to ``total``.

    ``records[i]`` is the step that leads from position i to i + 1. Seeking re-executes the machine from the nearest
    checkpoint, so that after it the machine *is* in that state and can be changed or run on from there.
    """

    engine: str
    start: Registers
    start_cpu: Registers

    @property
    def records(self) -> list[StepRecord]: ...

    @property
    def position(self) -> int: ...

    @property
    def total(self) -> int: ...

    @property
    def ending(self) -> str:
        """One sentence: why the run ends after the last step."""
        ...

    def step(self) -> StepRecord | None: ...

    def back(self) -> None: ...

    def seek(self, position: int) -> None: ...

    def read_guest(self, gva: int, size_bytes: int) -> bytes:
        """Guest memory now, through the guest's own page tables. Raises ``GuestFault`` where nothing is mapped."""
        ...


class Ended(msgspec.Struct, frozen=True):
    """Why a run is over. ``reason`` as in ``RunEnded``; ``good``: the guest came to an end of its own."""

    reason: str
    sentence: str
    good: bool = True
