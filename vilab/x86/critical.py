"""The critical instructions: they tell or change what only ring 0 should, and in another ring they do not trap.

::

    ring 0, a machine of its own          ring 1, under a monitor that sees nothing
    push cs  ->  0060                     push cs  ->  0061        it can see that it was moved
    popf     ->  IF 0                     popf     ->  IF 1        its wish is dropped in silence

Robin and Irvine, "Analysis of the Intel Pentium's Ability to Support a Secure Virtual Machine Monitor", USENIX Security
2000, count 17 of them; written out by mnemonic there are 18. Their two groups: 3B, sensitive registers are read or
changed; 3C, the protection system is consulted.

Each entry has a snippet that shows it: a few instructions of 32-bit kernel code that may stand anywhere, run in the
surroundings that ``critical_environment`` describes. ``answer`` says what came of it, ``expected`` what had to come,
worked out from those surroundings.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from vilab.errors import VECTOR_NAMES
from vilab.x86.critical_environment import (
    CODE_SELECTOR,
    DATA_SELECTOR,
    FAR_POINTER,
    GATE_HANDLER,
    LANDING,
    SYSTEM_CALL_VECTOR,
    CriticalEnvironment,
)
from vilab.x86.decode import Instruction, disassemble
from vilab.x86.descriptors import Segment
from vilab.x86.flags import IF, ONE, ZF

REGISTERS = "read or write the machine's registers"
PROTECTION = "ask the machine about protection"
CATEGORIES = {"3B": REGISTERS, "3C": PROTECTION}
"""Group of the paper -> what its instructions do, in a few words."""


class After(msgspec.Struct, frozen=True):
    """What the guest is left with after a snippet, by its own lights.

    gpr : EAX ECX EDX EBX ESP EBP ESI EDI. eflags, selectors (ES CS SS DS FS GS), eip : as the guest's kernel has them.
    stack : the 8 bytes at SS:ESP.
    fault : the vector of an exception that ended it, else ``None``. An INT that found its gate is no fault.
    """

    gpr: tuple[int, ...]
    eip: int
    eflags: int
    selectors: tuple[int, ...]
    stack: bytes
    fault: int | None = None


class CriticalInstruction(msgspec.Struct, frozen=True):
    """One row of the table.

    name : as it is written, with its operands. group : ``3B`` or ``3C``.
    wrong : what goes wrong in another ring, with no trap to tell.
    snippet : machine code, position independent; its last instruction is the critical one.
    observe : what of ``After`` counts, in words. interrupts : IF at the start.
    """

    name: str
    group: str
    wrong: str
    snippet: bytes
    observe: str
    read: Callable[[After], str]
    right: Callable[[CriticalEnvironment], str]
    interrupts: bool = True

    @property
    def category(self) -> str:
        return CATEGORIES[self.group]

    @property
    def text(self) -> str:
        """The snippet, an instruction a line, Intel syntax."""
        return "\n".join(instruction.text for instruction in self.instructions())

    def instructions(self, address: int = 0) -> list[Instruction]:
        """The snippet decoded, as if it stood at ``address``; the critical instruction is the last."""
        return disassemble(self.snippet, address)

    def answer(self, after: After) -> str:
        """What the guest has learned or got: ``00cf9b00``, ``IF 0``, ``#GP``."""
        if after.fault is not None:
            return VECTOR_NAMES.get(after.fault, f"vector {after.fault}")
        return self.read(after)

    def expected(self, environment: CriticalEnvironment) -> str:
        """The answer on a machine of its own, worked out from its tables and registers."""
        return self.right(environment)


def _segment(environment: CriticalEnvironment, selector: int) -> Segment:
    return Segment.parse(environment.descriptor(selector))


def _stack_u32(after: After, offset: int = 0) -> int:
    return int.from_bytes(after.stack[offset : offset + 4], "little")


def _flag(name: str, mask: int, eflags: int) -> str:
    return f"{name} {1 if eflags & mask else 0}"


def _zf_or(after: After) -> str:
    """LAR and LSL give a value only with ZF."""
    return f"{after.gpr[0]:08x}" if after.eflags & ZF else "ZF 0"


def _arrived(after: After) -> str:
    return f"cs {after.selectors[1]:04x}" if after.eip == LANDING else f"eip {after.eip:08x}"


def _through_gate(after: After) -> str:
    return f"gate {SYSTEM_CALL_VECTOR:02x}" if after.eip == GATE_HANDLER else f"eip {after.eip:08x}"


def _entry(
    name: str, group: str, code: str, observe: str, read: Callable[[After], str],
    right: Callable[[CriticalEnvironment], str], wrong: str, interrupts: bool = True,
) -> CriticalInstruction:  # fmt: skip
    return CriticalInstruction(name, group, wrong, bytes.fromhex(code), observe, read, right, interrupts)


_FAR_POINTER = FAR_POINTER.to_bytes(4, "little").hex()
_LANDING = LANDING.to_bytes(4, "little").hex()

CRITICAL: tuple[CriticalInstruction, ...] = (
    _entry("sgdt [m]", "3B", "0f0104 24", "base, at [esp + 2]",
           lambda a: f"{_stack_u32(a, 2):08x}", lambda e: f"{e.gdtr[0]:08x}",
           "stores where the monitor's descriptor table is, not the guest's"),
    _entry("sidt [m]", "3B", "0f010c 24", "base, at [esp + 2]",
           lambda a: f"{_stack_u32(a, 2):08x}", lambda e: f"{e.idtr[0]:08x}",
           "stores where the monitor's interrupt table is: the \"red pill\""),
    _entry("sldt ax", "3B", "66 0f00c0", "AX",
           lambda a: f"{a.gpr[0] & 0xFFFF:04x}", lambda e: f"{e.ldtr:04x}",
           "stores the selector of the monitor's local table"),
    _entry("smsw ax", "3B", "66 0f01e0", "AX",
           lambda a: f"{a.gpr[0] & 0xFFFF:04x}", lambda e: f"{e.cr0 & 0xFFFF:04x}",
           "stores the low half of the CR0 that the monitor has loaded"),
    _entry("pushf", "3B", "9c", "IF, on top of the stack",
           lambda a: _flag("IF", IF, _stack_u32(a)), lambda e: _flag("IF", IF, e.eflags(interrupts=False)),
           "shows the processor's flags: IF is on although the guest has turned it off", interrupts=False),
    _entry("popf", "3B", f"6a{ONE:02x} 9d", "IF",
           lambda a: _flag("IF", IF, a.eflags), lambda e: _flag("IF", IF, ONE),
           "drops the change of IF (and IOPL) outside ring 0"),
    _entry("lar eax,cx", "3C", f"b9{CODE_SELECTOR:02x}000000 0f02c1", "EAX, if ZF",
           _zf_or, lambda e: f"{_segment(e, CODE_SELECTOR).access_rights:08x}",
           "refuses access rights of a ring 0 segment to who is not in ring 0"),
    _entry("lsl eax,cx", "3C", f"b9{CODE_SELECTOR:02x}000000 0f03c1", "EAX, if ZF",
           _zf_or, lambda e: f"{_segment(e, CODE_SELECTOR).limit:08x}",
           "refuses the limit of a ring 0 segment to who is not in ring 0"),
    _entry("verr cx", "3C", f"b9{CODE_SELECTOR:02x}000000 0f00e1", "ZF",
           lambda a: _flag("ZF", ZF, a.eflags), lambda e: f"ZF {int(_segment(e, CODE_SELECTOR).readable)}",
           "tests with the real ring whether a segment can be read"),
    _entry("verw cx", "3C", f"b9{DATA_SELECTOR:02x}000000 0f00e9", "ZF",
           lambda a: _flag("ZF", ZF, a.eflags), lambda e: f"ZF {int(_segment(e, DATA_SELECTOR).writable)}",
           "tests with the real ring whether a segment can be written"),
    _entry("pop ss", "3C", f"6a{DATA_SELECTOR:02x} 17", "SS",
           lambda a: f"{a.selectors[2]:04x}", lambda e: f"{DATA_SELECTOR:04x}",
           "faults: a ring 0 stack cannot be loaded in another ring"),
    _entry("push cs", "3C", "0e", "top of the stack",
           lambda a: f"{_stack_u32(a) & 0xFFFF:04x}", lambda e: f"{e.selectors[1]:04x}",
           "pushes a selector whose two low bits are the real ring"),
    _entry("call far", "3C", f"ff1d{_FAR_POINTER}", "CS, after arriving",
           _arrived, lambda e: f"cs {CODE_SELECTOR:04x}",
           "faults: ring 0 code cannot be called from another ring without a gate"),
    _entry("jmp far", "3C", f"ff2d{_FAR_POINTER}", "CS, after arriving",
           _arrived, lambda e: f"cs {CODE_SELECTOR:04x}",
           "faults: no jump leads into ring 0"),
    _entry("ret far", "3C", f"6a{CODE_SELECTOR:02x} 68{_LANDING} cb", "CS, after arriving",
           _arrived, lambda e: f"cs {CODE_SELECTOR:04x}",
           "faults: no return leads to an inner ring"),
    _entry("int 0x80", "3C", f"cd{SYSTEM_CALL_VECTOR:02x}", "whether the gate's handler was reached",
           _through_gate, lambda e: f"gate {SYSTEM_CALL_VECTOR:02x}",
           "faults or enters the monitor: the gate looked at is the real table's, tested with the real ring"),
    _entry("str ax", "3C", "66 0f00c8", "AX",
           lambda a: f"{a.gpr[0] & 0xFFFF:04x}", lambda e: f"{e.tr:04x}",
           "stores the selector of the monitor's task segment"),
    _entry("mov eax,cs", "3C", "8cc8", "AX",
           lambda a: f"{a.gpr[0] & 0xFFFF:04x}", lambda e: f"{e.selectors[1]:04x}",
           "copies a selector whose two low bits are the real ring"),
)  # fmt: skip
"""In teaching order: first those of 3B, then those of 3C."""

TRAP_BY_THEMSELVES = frozenset(("pop ss", "call far", "jmp far", "ret far", "int 0x80"))
"""Those that fault by themselves when ring 0 code runs them in ring 1, so that trap and emulate can repair them."""
