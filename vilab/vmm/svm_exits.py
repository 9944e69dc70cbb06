"""Why a guest under AMD-V stops: exit codes, and the intercept bits that ask for them.

The VMCB begins with five words of intercept bits, and an exit code says which bit it was: **code = 32 * word + bit**::

    word 0 at 000h   codes 00-1f   reads of CR0-15, writes of CR0-15
    word 1 at 004h   codes 20-3f   reads of DR0-15, writes of DR0-15
    word 2 at 008h   codes 40-5f   exception vectors 0-31
    word 3 at 00ch   codes 60-7f   INTR ... SHUTDOWN
    word 4 at 010h   codes 80-9f   VMRUN ... XSETBV
                     code  400     nested page fault: no intercept bit, nested paging itself
                     code  -1      VMRUN has refused the block

Source: AMD64 Architecture Programmer's Manual volume 2, appendix C; the words in appendix B, table B-1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from vilab.vmm.vmcb import INTERCEPT_FIELDS
from vilab.x86.decode import REP, REPNE, Instruction

INTR, TR_WRITE, INVD, HLT, IOIO, SHUTDOWN = 0x60, 0x6D, 0x76, 0x78, 0x7B, 0x7F
VMRUN, NPF = 0x80, 0x400
EXCEPTION_BASE = 0x40
INVALID = (1 << 64) - 1

_MISC = (
    (0x60, "intr", "a device's interrupt"),
    (0x61, "nmi", "a non-maskable interrupt"),
    (0x62, "smi", "a system management interrupt"),
    (0x63, "init", "INIT"),
    (0x64, "vintr", "the guest can take the virtual interrupt now"),
    (0x65, "cr0 selective write", "a write of CR0 that changes more than TS and MP"),
    (0x66, "idtr read", "SIDT"),
    (0x67, "gdtr read", "SGDT"),
    (0x68, "ldtr read", "SLDT"),
    (0x69, "tr read", "STR"),
    (0x6A, "idtr write", "LIDT"),
    (0x6B, "gdtr write", "LGDT"),
    (0x6C, "ldtr write", "LLDT"),
    (0x6D, "tr write", "LTR"),
    (0x6E, "rdtsc", "RDTSC"),
    (0x6F, "rdpmc", "RDPMC"),
    (0x70, "pushf", "PUSHF"),
    (0x71, "popf", "POPF"),
    (0x72, "cpuid", "CPUID"),
    (0x73, "rsm", "RSM"),
    (0x74, "iret", "IRET"),
    (0x75, "int n", "INT n"),
    (0x76, "invd", "INVD"),
    (0x77, "pause", "PAUSE"),
    (0x78, "hlt", "HLT"),
    (0x79, "invlpg", "INVLPG"),
    (0x7A, "invlpga", "INVLPGA"),
    (0x7B, "ioio", "IN, OUT, INS, OUTS to a port that the I/O permission map names"),
    (0x7C, "msr", "RDMSR or WRMSR of an MSR that the MSR permission map names"),
    (0x7D, "task switch", "a hardware task switch"),
    (0x7E, "ferr_freeze", "the processor is frozen by an x87 error"),
    (0x7F, "shutdown", "a triple fault"),
    (0x80, "vmrun", "VMRUN"),
    (0x81, "vmmcall", "VMMCALL: the guest calls its VMM"),
    (0x82, "vmload", "VMLOAD"),
    (0x83, "vmsave", "VMSAVE"),
    (0x84, "stgi", "STGI"),
    (0x85, "clgi", "CLGI"),
    (0x86, "skinit", "SKINIT"),
    (0x87, "rdtscp", "RDTSCP"),
    (0x88, "icebp", "INT1"),
    (0x89, "wbinvd", "WBINVD"),
    (0x8A, "monitor", "MONITOR"),
    (0x8B, "mwait", "MWAIT"),
    (0x8C, "mwait armed", "MWAIT with an address being monitored"),
    (0x8D, "xsetbv", "XSETBV"),
)


class Exit(msgspec.Struct, frozen=True):
    """An exit code: its short name, as in the event log and in the counters, and what makes the guest stop."""

    code: int
    reason: str
    meaning: str

    @property
    def is_intercept(self) -> bool:
        """Does a bit of the control area ask for it?"""
        return self.code < 0xA0

    @property
    def word(self) -> int:
        """Index into ``INTERCEPT_FIELDS``."""
        return self.code >> 5

    @property
    def bit(self) -> int:
        return self.code & 31


def _exits() -> Iterator[Exit]:
    for first, what in ((0x00, "cr"), (0x20, "dr")):
        for way in (0, 1):
            for number in range(16):
                code, verb = first + 16 * way + number, ("read", "write")[way]
                yield Exit(code, f"{what}{number} {verb}", f"{what.upper()}{number} is {('read', 'written')[way]}")
    for vector in range(32):
        yield Exit(EXCEPTION_BASE + vector, f"exception {vector:02x}", f"exception vector {vector}")
    for code, reason, meaning in _MISC:
        yield Exit(code, reason, meaning)
    yield Exit(NPF, "npf", "nested page fault: the nested tables do not allow an access to guest physical memory")
    yield Exit(INVALID, "invalid", "VMRUN has found the block inconsistent")


EXITS: dict[int, Exit] = {entry.code: entry for entry in _exits()}
INTERCEPTS: dict[str, Exit] = {entry.reason: entry for entry in EXITS.values() if entry.is_intercept}
"""By reason: what can be asked for."""

# EXITINFO1 of IOIO (APM volume 2, section 15.10.2) and of NPF (15.25.6).
IOIO_IN, IOIO_STRING, IOIO_REPEATED = 1 << 0, 1 << 2, 1 << 3
IOIO_SIZE_SHIFT, IOIO_ADDRESS_16, IOIO_ADDRESS_32, IOIO_PORT_SHIFT = 4, 1 << 7, 1 << 8, 16
NPF_PRESENT, NPF_WRITE, NPF_USER, NPF_RESERVED, NPF_FETCH = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 4
NPF_FINAL_ADDRESS, NPF_TABLE_WALK = 1 << 32, 1 << 33


def intercept_words(reasons: Iterable[str]) -> dict[str, int]:
    """The five words for these reasons. ``KeyError`` for a reason that no bit stands for."""
    words = dict.fromkeys(INTERCEPT_FIELDS, 0)
    for reason in reasons:
        entry = INTERCEPTS[reason]
        words[INTERCEPT_FIELDS[entry.word]] |= 1 << entry.bit
    return words


def ioio_info(port: int, size_bytes: int, i: Instruction) -> int:
    """EXITINFO1 of an IOIO exit. EXITINFO2 is EIP behind the instruction."""
    info = port << IOIO_PORT_SHIFT | size_bytes << IOIO_SIZE_SHIFT
    info |= IOIO_ADDRESS_32 if i.address_bits == 32 else IOIO_ADDRESS_16
    if i.op in ("in", "ins"):
        info |= IOIO_IN
    if i.op in ("ins", "outs"):
        info |= IOIO_STRING
        if i.prefixes & (REP | REPNE):
            info |= IOIO_REPEATED
    return info


_REASONS = {
    "clts": "cr0 write", "lmsw": "cr0 write", "smsw": "cr0 read", "sgdt": "gdtr read", "sidt": "idtr read",
    "sldt": "ldtr read", "str": "tr read", "lgdt": "gdtr write", "lidt": "idtr write", "lldt": "ldtr write",
    "ltr": "tr write", "int": "int n", "rdmsr": "msr", "wrmsr": "msr", "in": "ioio", "out": "ioio", "ins": "ioio",
    "outs": "ioio",
}  # fmt: skip


def exit_reason(i: Instruction) -> str:
    """Which intercept would stop the guest at this instruction, if it is set."""
    if i.op in ("mov from cr", "mov from dr", "mov to cr", "mov to dr"):
        return f"{i.op[-2:]}{i.reg} {'read' if 'from' in i.op else 'write'}"
    return _REASONS.get(i.op, i.op)
