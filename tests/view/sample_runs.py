"""Runs built by hand, for drawing: the guests of the mock-ups, and one that is long.

``SampleRun`` walks a list of records as the real stepper does, and counts how it was moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from vilab.errors import GuestFault
from vilab.events import (
    CalloutTaken,
    Emulated,
    Event,
    ExceptionDelivered,
    FragmentChained,
    InstructionRetired,
    RingChanged,
    TrapTaken,
    UnitTranslated,
    VmExit,
)
from vilab.vmm.records import Registers, StepRecord
from vilab.x86 import flags
from vilab.x86.text import instruction_text

GUEST = Registers(
    gpr=(0, 0, 0, 0, 0xC0390F80, 0, 0, 0), eip=0x08048412, eflags=0x202, cpl=3,
    selectors=(0x7B, 0x73, 0x7B, 0x7B, 0, 0), cr0=0x80000033, cr2=0, cr3=0x00101000, cr4=0,
    gdtr_base=0xC0398000, gdtr_limit=0xFF, idtr_base=0xC0397000, idtr_limit=0x7FF, ldtr=0, tr=0x80, stack_top=None,
)  # fmt: skip
CPU = msgspec.structs.replace(GUEST, cr3=0x07A3C000, gdtr_base=0xFFC07000, idtr_base=0xFFC18000, ldtr=0x58, tr=0x40)


class SampleRun:
    """A ``Steppable`` over records that are there already."""

    def __init__(self, engine: str, records: Sequence[StepRecord], start: Registers, start_cpu: Registers) -> None:
        self.engine = engine
        self.start = start
        self.start_cpu = start_cpu
        self._records = list(records)
        self._position = 0
        self.moves: list[str] = []

    @property
    def records(self) -> list[StepRecord]:
        return self._records

    @property
    def position(self) -> int:
        return self._position

    @property
    def total(self) -> int:
        return len(self._records)

    @property
    def ending(self) -> str:
        return "The sample ends here."

    def step(self) -> StepRecord | None:
        self.moves.append("step")
        if self._position == self.total:
            return None
        self._position += 1
        return self._records[self._position - 1]

    def back(self) -> None:
        self.moves.append("back")
        self._position = max(0, self._position - 1)

    def seek(self, position: int) -> None:
        self.moves.append(f"seek {position}")
        self._position = position

    def read_guest(self, gva: int, size_bytes: int) -> bytes:
        raise GuestFault(14, 0, gva, "the sample has no memory")


class Writer:
    """Writes records one after another; keyword arguments change both truths, ``guest_`` and ``cpu_`` one of them."""

    def __init__(self, engine: str, guest: Registers, cpu: Registers) -> None:
        self.engine = engine
        self.start, self.start_cpu = guest, cpu
        self.guest, self.cpu = guest, cpu
        self.now_ns = 0
        self.records: list[StepRecord] = []

    def add(
        self, code: str, *events: Event, how: str = "native", goes_to: int | None = None, tc: int | None = None,
        cost_ns: int = 5, both: dict[str, object] | None = None, guest: dict[str, object] | None = None,
        cpu: dict[str, object] | None = None,
    ) -> None:  # fmt: skip
        eip, raw = self.guest.eip, bytes.fromhex(code)
        cpl, cpu_cpl = self.guest.cpl, self.cpu.cpl
        mnemonic, operands = instruction_text(raw, eip)
        after = {"eip": eip + len(raw) if goes_to is None else goes_to, **(both or {})}
        self.guest = msgspec.structs.replace(self.guest, **{**after, **(guest or {})})
        self.cpu = msgspec.structs.replace(self.cpu, **{**after, **(cpu or {})})
        self.now_ns += cost_ns
        retired = InstructionRetired(self.now_ns, eip, cpl, cpu_cpl, raw, how)
        self.records.append(
            StepRecord(
                len(self.records) + 1,
                self.now_ns,
                eip,
                raw,
                mnemonic,
                operands,
                cpl,
                cpu_cpl,
                how,
                tc,
                (*events, retired),
                self.guest,
                self.cpu,
            )
        )

    def run(self) -> SampleRun:
        return SampleRun(self.engine, self.records, self.start, self.start_cpu)


def _gpr(registers: Registers, **values: int) -> tuple[int, ...]:
    names = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")
    return tuple(values.get(name, value) for name, value in zip(names, registers.gpr, strict=True))


def silent_pushf() -> SampleRun:
    """a-rings: under trap and emulate, ``pushf`` after ``cli`` tells the kernel that IF is 1."""
    w = Writer("trap", GUEST, CPU)
    kernel = 0xC0104F21
    w.add(
        "cd80", TrapTaken(534, 0x08048412, 3, 13, 0x402, b"\xcd\x80", "gate DPL 0 < CPL 3", True, 2030),
        ExceptionDelivered(1068, 0x80, None, 0x08048412, kernel), RingChanged(1068, 0x08048412, 3, 0),
        how="emulated", goes_to=kernel, cost_ns=1068, guest={"cpl": 0}, cpu={"cpl": 1},
    )  # fmt: skip
    w.add("fa", TrapTaken(1602, kernel, 0, 13, 0, b"\xfa", "CPL 1 > IOPL 0", True, 2030),
          Emulated(2137, kernel, b"\xfa", "vIF <- 0"), how="emulated", cost_ns=1069,
          guest={"eflags": 0x002})  # fmt: skip
    w.add("0f20db", TrapTaken(2671, kernel + 1, 0, 13, 0, b"\x0f\x20\xdb", "CPL 1", True, 2030),
          Emulated(3206, kernel + 1, b"\x0f\x20\xdb", "ebx <- vCR3"), how="emulated", cost_ns=1069,
          both={"gpr": _gpr(w.guest, ebx=0x00101000)})  # fmt: skip
    w.add("9c", cost_ns=1, both={"gpr": _gpr(w.guest, esp=0xC0390F7C), "stack_top": 0x202})
    w.add("5a", cost_ns=1, both={"gpr": _gpr(w.guest, esp=0xC0390F80, edx=0x202), "stack_top": None})
    w.add("f6c602", cost_ns=3)
    w.add("750e", cost_ns=2, goes_to=w.guest.eip + 16)
    return w.run()


def svm_pushf() -> SampleRun:
    """a2-rings-svm: the same kernel under hardware assist; only ``cpuid`` exits."""
    cpu = msgspec.structs.replace(GUEST, nested_cr3=0x07B10000)
    w = Writer("svm", GUEST, cpu)
    kernel = 0xC0104F21
    w.add("cd80", RingChanged(2, 0x08048412, 3, 0), goes_to=kernel, cost_ns=2, both={"cpl": 0})
    w.add("fa", cost_ns=1, both={"eflags": 0x002})
    w.add("0f20db", cost_ns=3, both={"gpr": _gpr(w.guest, ebx=0x00101000)})
    w.add("9c", cost_ns=1, both={"gpr": _gpr(w.guest, esp=0xC0390F7C), "stack_top": 0x002})
    w.add("0fa2", VmExit(900, w.guest.eip, 0, 0x72, "cpuid", 0, 0, b"\x0f\xa2", 1931),
          Emulated(1400, w.guest.eip, b"\x0f\xa2", "cpuid"), how="emulated", cost_ns=1400,
          both={"gpr": _gpr(w.guest, eax=1, ecx=0x6C65746E)})  # fmt: skip
    w.add("83f801", cost_ns=3, both={"eflags": 0x002 | flags.ZF | flags.PF})
    return w.run()


def dropped_popf() -> SampleRun:
    """``popf`` at ring 1 is to clear IF and is not heard."""
    start = msgspec.structs.replace(GUEST, cpl=0, eip=0xC0104F30, stack_top=0x002)
    w = Writer("trap", start, msgspec.structs.replace(CPU, cpl=1, eip=0xC0104F30, stack_top=0x002))
    w.add("9d", cost_ns=1, both={"gpr": _gpr(w.guest, esp=0xC0390F84), "stack_top": 0x1234})
    w.add("90", cost_ns=1)
    return w.run()


def long_loop(steps: int = 5000) -> SampleRun:
    """A kernel that counts, with a ``cli`` that traps every 40 instructions."""
    start = msgspec.structs.replace(GUEST, cpl=0, eip=0xC0100000)
    w = Writer("trap", start, msgspec.structs.replace(CPU, cpl=1, eip=0xC0100000))
    for at in range(steps):
        if at % 40 == 39:
            w.add("fa", TrapTaken(w.now_ns + 534, w.guest.eip, 0, 13, 0, b"\xfa", "CPL 1 > IOPL 0", True, 2030),
                  Emulated(w.now_ns + 1068, w.guest.eip, b"\xfa", "vIF <- 0"), how="emulated", cost_ns=1068,
                  goes_to=0xC0100000, guest={"eflags": 0x002})  # fmt: skip
        elif at % 501 == 500:
            w.add("9c", cost_ns=1, both={"stack_top": 0x202})
        else:
            w.add("40", cost_ns=1, both={"gpr": _gpr(w.guest, eax=at)})
    return w.run()


# --- binary translation ------------------------------------------------------------------------------------------

TC = 0xFD401000


def unit(at_ns: int, eip: int, tc: int, *lines: tuple[str, str, str]) -> UnitTranslated:
    """A translation from lines of (guest bytes, kind, bytes in the cache), placed one after another."""
    rows, guest_code, tc_code = [], b"", b""
    for guest_hex, kind, tc_hex in lines:
        here, there = bytes.fromhex(guest_hex), bytes.fromhex(tc_hex)
        rows.append((eip + len(guest_code), len(here), kind, tc + len(tc_code), len(there)))
        guest_code, tc_code = guest_code + here, tc_code + there
    return UnitTranslated(at_ns, eip, guest_code, tc, tc_code, tuple(rows))


STORE_VIF = "36c6050010c0fd00"
"""mov byte ptr ss:[fdc01000],0"""
LOOK_UP_RETURN = "36890d0410c0fd 59 36ff258010c0fd"
"""mov ss:[fdc01004],ecx; pop ecx; jmp ss:[fdc01080]"""


def translated() -> SampleRun:
    """b-translation: two fragments of the mock-up's kernel, with in-cache code, callouts, a chained jump."""
    eip = 0xC0104F20
    start = msgspec.structs.replace(GUEST, cpl=0, eip=eip, stack_top=0x202)
    w = Writer("bt", start, msgspec.structs.replace(CPU, cpl=1, eip=eip, stack_top=0x202))
    a = unit(
        100, eip, TC, ("9c", "callout", "e8fbff3f00"), ("fa", "in_cache", STORE_VIF),
        ("8b442408", "ident", "8b442408"), ("3b05001c4ac0", "ident", "3b05001c4ac0"),
        ("740e", "control", "0f84c4000000"),
    )  # fmt: skip
    tc_b = TC + len(a.tc_code)
    b = unit(
        900, 0xC0104F2E, tc_b, ("a3001c4ac0", "ident", "a3001c4ac0"), ("0f22d8", "callout", "e8daff3f00"),
        ("ff05041c4ac0", "ident", "ff05041c4ac0"), ("9d", "callout", "e8cfff3f00"), ("c3", "control", LOOK_UP_RETURN),
    )  # fmt: skip
    at = {row[0]: row[3] for row in a.lines + b.lines}

    def callout(code: str, reason: str, effect: str = "", *more: Event, **changes: Any) -> None:
        here, now = w.guest.eip, w.now_ns + 330
        done = (Emulated(now, here, bytes.fromhex(code), effect),) if effect else ()
        events = (CalloutTaken(now, here, at[here], reason, 1254), *more, *done)
        how = "emulated" if effect else "translated"
        w.add(code, *changes.pop("first", ()), *events, how=how, tc=at[here], cost_ns=400, **changes)

    callout("9c", "pushf", "push vEFLAGS", first=(a,))
    w.add("fa", how="translated", tc=at[w.guest.eip], guest={"eflags": 0x002})
    w.add("8b442408", how="translated", tc=at[w.guest.eip], both={"gpr": _gpr(w.guest, eax=0x00102000)})
    w.add("3b05001c4ac0", how="translated", tc=at[w.guest.eip], both={"eflags": 0x002 | flags.CF})
    callout("740e", "chain", "", b, FragmentChained(900, at[0xC0104F2C], tc_b, 0xC0104F2E, "fall_through"))
    w.add("a3001c4ac0", how="translated", tc=at[w.guest.eip])
    callout("0f22d8", "mov to cr", "vCR3 <- 00102000", guest={"cr3": 0x00102000})
    w.add("ff05041c4ac0", how="translated", tc=at[w.guest.eip])
    callout("9d", "popf", "vIF <- 1", guest={"eflags": 0x202})
    callout("c3", "ret_miss", "", goes_to=eip)
    w.add("9c", how="translated", tc=TC, both={"stack_top": 0x202})
    return w.run()
