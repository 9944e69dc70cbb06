"""What happened, as typed values: the only coupling upwards.

A component that has something to say calls ``log.emit(Event(...))``. Views, graders, cost tables and replays read the
log; nothing below floor 9 reads it. Two levels keep it cheap: ``log.active`` is false when nobody listens, and events
per instruction are made only when ``log.wants_instructions`` is set.

The log is a value too: same image, engine, options and seed give the same events, byte for byte; ``encode`` is the
byte form (one JSON object a line) and ``sha256`` its digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TypeVar

import msgspec


class Event(msgspec.Struct, frozen=True, tag_field="event"):
    """Common to all: when, in nanoseconds of virtual time."""

    at_ns: int


class PoweredOn(Event, frozen=True, tag=True):
    """The virtual machine starts: entry point and what runs it."""

    engine: str
    image: str
    eip: int


class InstructionRetired(Event, frozen=True, tag=True):
    """One guest instruction has been executed. Only in runs that are stepped.

    ``cpl`` is the guest's own, before the instruction; ``cpu_cpl`` the ring that the processor was really in.
    ``how``: ``native`` (ran as it is), ``translated`` (in the cache), ``emulated`` (the VMM did it).
    """

    eip: int
    cpl: int
    cpu_cpl: int
    code: bytes
    how: str


class TrapTaken(Event, frozen=True, tag=True):
    """The processor faulted on a guest instruction and control went to the VMM.

    ``vector`` is the processor's. ``handled`` is false where there is no VMM to help.
    """

    eip: int
    cpl: int
    vector: int
    error_code: int
    code: bytes
    why: str
    handled: bool
    cycles: int


class VmExit(Event, frozen=True, tag=True):
    """Hardware assist: #VMEXIT. ``exit_code`` as in the VMCB (0x72 = CPUID, 0x400 = nested page fault)."""

    eip: int
    cpl: int
    exit_code: int
    reason: str
    info1: int
    info2: int
    code: bytes
    cycles: int


class HypercallTaken(Event, frozen=True, tag=True):
    """A paravirtual kernel has asked its monitor. ``first``, ``second``: EBX, ECX; a negative answer is a refusal."""

    eip: int
    number: int
    name: str
    first: int
    second: int
    answer: int


class Emulated(Event, frozen=True, tag=True):
    """The VMM has carried out an instruction for the guest. ``effect`` in a few words: ``vIF <- 0``."""

    eip: int
    code: bytes
    effect: str


class CalloutTaken(Event, frozen=True, tag=True):
    """Translated code has called the VMM. ``reason``: a mnemonic, ``ret_miss``, ``indirect_miss``, ``chain``..."""

    eip: int
    tc_address: int
    reason: str
    cycles: int


class UnitTranslated(Event, frozen=True, tag=True):
    """A translation unit became a compiled code fragment.

    ``guest_code`` are the unit's bytes; ``lines`` has one entry a guest instruction:
    (guest address, length, kind, address in the cache, length there), kind one of ``ident``, ``in_cache``,
    ``callout``, ``control``.
    """

    eip: int
    guest_code: bytes
    tc_address: int
    tc_code: bytes
    lines: tuple[tuple[int, int, str, int, int], ...]


class FragmentChained(Event, frozen=True, tag=True):
    """An exit of one fragment now leads straight to another. ``how``: ``jump`` or ``fall_through``."""

    from_tc_address: int
    to_tc_address: int
    to_eip: int
    how: str


class UnitRetranslated(Event, frozen=True, tag=True):
    """The first bytes of one fragment now jump to another one for the same guest code. ``why``: ``guilty`` (a store of
    its has hit traced pages too often, and is simulated), ``innocent`` (it has not for long), ``device``."""

    eip: int
    from_tc_address: int
    to_tc_address: int
    why: str


class UnitInvalidated(Event, frozen=True, tag=True):
    """The guest's code changed under a translation, which is dropped. ``why``: ``write``, ``remap``, ``full``..."""

    eip: int
    tc_address: int
    why: str


class CacheFlushed(Event, frozen=True, tag=True):
    """The whole translation cache was emptied."""

    units: int
    why: str


class HiddenFault(Event, frozen=True, tag=True):
    """A page fault that the guest never sees: a shadow or nested entry was missing and has been filled."""

    gva: int
    error_code: int
    ppn: int
    mpn: int


class TraceFault(Event, frozen=True, tag=True):
    """A store hit a page that the VMM watches (translated code, a descriptor table)."""

    gva: int
    eip: int
    ppn: int


class TrueFault(Event, frozen=True, tag=True):
    """A page fault by the guest's own tables: the guest's handler runs next."""

    gva: int
    error_code: int
    eip: int


class ExceptionDelivered(Event, frozen=True, tag=True):
    """The guest's IDT was consulted and its handler entered."""

    vector: int
    error_code: int | None
    eip: int
    handler: int
    why: str = ""


class InterruptDelivered(Event, frozen=True, tag=True):
    vector: int
    eip: int
    handler: int


class AddressSpaceSwitched(Event, frozen=True, tag=True):
    """The guest has loaded CR3."""

    cr3: int


class RingChanged(Event, frozen=True, tag=True):
    """The guest's current privilege level is another one now."""

    eip: int
    from_cpl: int
    to_cpl: int


class PortRead(Event, frozen=True, tag=True):
    port: int
    size_bytes: int
    value: int


class PortWritten(Event, frozen=True, tag=True):
    port: int
    size_bytes: int
    value: int


class MmioRead(Event, frozen=True, tag=True):
    """A load from a device's registers in memory. ``gpa``: guest physical address."""

    gpa: int
    size_bytes: int
    value: int


class MmioWritten(Event, frozen=True, tag=True):
    """A store to a device's registers in memory."""

    gpa: int
    size_bytes: int
    value: int


class ConsoleOutput(Event, frozen=True, tag=True):
    """Bytes that the guest has sent to its serial line."""

    data: bytes


class Halted(Event, frozen=True, tag=True):
    """HLT: the clock jumps to the next thing that is due."""

    eip: int


class RunEnded(Event, frozen=True, tag=True):
    """``reason``: ``returned``, ``halted``, ``powered_off``, ``limit``, ``triple_fault``, ``trapped``, ``stopped``."""

    eip: int
    reason: str
    sentence: str


E = TypeVar("E", bound=Event)


class EventLog:
    """Collects events, or hands them on, or both.

    Parameters
    ----------
    keep : hold every event in ``events`` (lessons and tests). Long runs pass a listener instead.
    instructions : also ask for ``InstructionRetired``.
    """

    def __init__(self, keep: bool = False, instructions: bool = False) -> None:
        self.keep = keep
        self.events: list[Event] = []
        self.wants_instructions = instructions
        self.listeners: list[Callable[[Event], None]] = []
        self.active = keep

    def listen(self, listener: Callable[[Event], None]) -> None:
        self.listeners.append(listener)
        self.active = True

    def emit(self, event: Event) -> None:
        if self.keep:
            self.events.append(event)
        for listener in self.listeners:
            listener(event)

    def of(self, kind: type[E]) -> list[E]:
        """The kept events of one kind, in order."""
        return [e for e in self.events if isinstance(e, kind)]


_encoder = msgspec.json.Encoder(order="deterministic")


def encode(event: Event) -> bytes:
    """One line of JSON, without the newline; bytes appear in base64."""
    return _encoder.encode(event)


class EventDigest:
    """A listener that keeps only a running SHA-256 of the encoded log."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.count = 0

    def __call__(self, event: Event) -> None:
        self._hash.update(encode(event) + b"\n")
        self.count += 1

    def hexdigest(self) -> str:
        return self._hash.hexdigest()
