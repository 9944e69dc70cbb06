"""The virtual machine control block: AMD's record of one guest, which VMRUN reads and #VMEXIT writes.

One frame of machine memory; VMRUN takes its address in EAX::

    000h  +------------------------------------------------------+
          | control area: what the VMM wants                     |   intercepts, ASID, nested paging, what to inject
          |               why the guest stopped                  |   EXITCODE, EXITINFO1, EXITINFO2
    400h  +------------------------------------------------------+
          | state save area: the guest's registers               |   all but EAX's seven companions, which the VMM keeps
    698h  +------------------------------------------------------+
          | not used                                             |
    fffh  +------------------------------------------------------+

Intercepts are five words of bits at its begin; what each bit stands for is in ``svm_exits``.

A segment register takes 16 bytes: selector, attributes, limit, base. The attributes are the descriptor's bits without
the gap in which the upper half of the limit lies::

    descriptor's second dword  | 23 | 22 | 21 | 20 | 19-16 | 15 | 14-13 | 12 | 11-8 |
                               | G  | DB | L  | AVL| limit | P  |  DPL  | S  | type |
    attributes                 | 11 | 10 | 9  |  8 |   -   | 7  |  6-5  | 4  | 3-0  |

Source: AMD64 Architecture Programmer's Manual volume 2, appendix B, tables B-1 and B-2.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

import msgspec

VMCB_BYTES = 0x1000
SAVE_AREA = 0x400
SEGMENT_FIELD_BYTES = 16


class Field(msgspec.Struct, frozen=True):
    """One line of the table. ``offset`` and ``size_bytes`` count bytes; ``source``: where in the APM, volume 2."""

    offset: int
    size_bytes: int
    name: str
    meaning: str
    source: str

    @property
    def is_segment(self) -> bool:
        """Selector, attributes, limit and base, in this order."""
        return self.size_bytes == SEGMENT_FIELD_BYTES


_B1, _B2 = "table B-1", "table B-2"

CONTROL_AREA = (
    Field(0x000, 4, "intercept_cr", "bit n: reads of CRn; bit 16 + n: writes", _B1),
    Field(0x004, 4, "intercept_dr", "bit n: reads of DRn; bit 16 + n: writes", _B1),
    Field(0x008, 4, "intercept_exceptions", "bit n: exception vector n", _B1),
    Field(0x00C, 4, "intercept_misc1", "exit codes 60h-7fh, see svm_exits", _B1),
    Field(0x010, 4, "intercept_misc2", "exit codes 80h-9fh, see svm_exits; VMRUN's own bit must be 1", _B1),
    Field(0x03C, 2, "pause_filter_threshold", "PAUSEs closer together than this belong to one loop", _B1),
    Field(0x03E, 2, "pause_filter_count", "so many PAUSEs before the intercept counts", _B1),
    Field(0x040, 8, "iopm_base_pa", "I/O permission map, 12 KB: one bit a port", _B1),
    Field(0x048, 8, "msrpm_base_pa", "MSR permission map, 8 KB: two bits an MSR, read and write", _B1),
    Field(0x050, 8, "tsc_offset", "added to the time-stamp counter that the guest reads", _B1),
    Field(0x058, 4, "guest_asid", "tags the guest's TLB entries; 0 is the host's", _B1),
    Field(0x05C, 1, "tlb_control", "at VMRUN: 0 keep, 1 flush all, 3 flush this ASID's, 7 not its globals", _B1),
    Field(0x060, 8, "virtual_interrupt", "V_TPR 3-0, V_IRQ 8, priority 19-16, V_INTR_MASKING 24, vector 39-32", _B1),
    Field(0x068, 8, "interrupt_shadow", "bit 0: the guest is just behind STI or a load of SS", _B1),
    Field(0x070, 8, "exitcode", "why the guest stopped, see svm_exits", _B1),
    Field(0x078, 8, "exitinfo1", "more on it: the error code, the port and its access, read or write", _B1),
    Field(0x080, 8, "exitinfo2", "more on it: the faulting gpa, EIP behind IN and OUT", _B1),
    Field(0x088, 8, "exitintinfo", "the event whose delivery was cut short by this exit", _B1),
    Field(0x090, 8, "np_enable", "bit 0: nested paging", _B1),
    Field(0x0A8, 8, "eventinj", "deliver on entry: vector 7-0, type 10-8, EV 11, V 31, error code 63-32", _B1),
    Field(0x0B0, 8, "n_cr3", "root of the nested tables, gpa -> mpa", _B1),
    Field(0x0B8, 8, "lbr_virtualization", "bit 0: save the last-branch records", _B1),
    Field(0x0C0, 4, "clean_bits", "parts that the VMM has not touched since the last exit", _B1),
    Field(0x0C8, 8, "nrip", "EIP behind the intercepted instruction, where the processor provides it", _B1),
    Field(0x0D0, 1, "bytes_fetched", "decode assist: how many instruction bytes follow", _B1),
)

STATE_SAVE_AREA = (
    Field(0x400, 16, "es", "selector, attributes, limit, base", _B2),
    Field(0x410, 16, "cs", "", _B2),
    Field(0x420, 16, "ss", "", _B2),
    Field(0x430, 16, "ds", "", _B2),
    Field(0x440, 16, "fs", "by VMLOAD and VMSAVE only", _B2),
    Field(0x450, 16, "gs", "by VMLOAD and VMSAVE only", _B2),
    Field(0x460, 16, "gdtr", "base and limit", _B2),
    Field(0x470, 16, "ldtr", "by VMLOAD and VMSAVE only", _B2),
    Field(0x480, 16, "idtr", "base and limit", _B2),
    Field(0x490, 16, "tr", "by VMLOAD and VMSAVE only", _B2),
    Field(0x4CB, 1, "cpl", "the guest's own ring", _B2),
    Field(0x4D0, 8, "efer", "bit 12, SVME, must be 1 in a guest too", _B2),
    Field(0x548, 8, "cr4", "", _B2),
    Field(0x550, 8, "cr3", "the guest's own, gva -> gpa", _B2),
    Field(0x558, 8, "cr0", "", _B2),
    Field(0x560, 8, "dr7", "", _B2),
    Field(0x568, 8, "dr6", "", _B2),
    Field(0x570, 8, "rflags", "", _B2),
    Field(0x578, 8, "rip", "", _B2),
    Field(0x5D8, 8, "rsp", "", _B2),
    Field(0x5F8, 8, "rax", "the one general register here: VMRUN needs it for its operand", _B2),
    Field(0x600, 8, "star", "by VMLOAD and VMSAVE only, like the next seven", _B2),
    Field(0x608, 8, "lstar", "", _B2),
    Field(0x610, 8, "cstar", "", _B2),
    Field(0x618, 8, "sfmask", "", _B2),
    Field(0x620, 8, "kernel_gs_base", "", _B2),
    Field(0x628, 8, "sysenter_cs", "", _B2),
    Field(0x630, 8, "sysenter_esp", "", _B2),
    Field(0x638, 8, "sysenter_eip", "", _B2),
    Field(0x640, 8, "cr2", "", _B2),
    Field(0x668, 8, "g_pat", "the guest's page attribute table, with nested paging", _B2),
    Field(0x670, 8, "dbgctl", "", _B2),
)

FIELDS = CONTROL_AREA + STATE_SAVE_AREA
FIELD = {field.name: field for field in FIELDS}

INTERCEPT_FIELDS = ("intercept_cr", "intercept_dr", "intercept_exceptions", "intercept_misc1", "intercept_misc2")

EVENT_VALID, EVENT_EXTERNAL, EVENT_EXCEPTION, EVENT_SOFTWARE = 1 << 31, 0 << 8, 3 << 8, 4 << 8
EFER_SVME = 1 << 12
MSR_EFER, MSR_VM_HSAVE_PA = 0xC000_0080, 0xC001_0117
TLB_KEEP, TLB_FLUSH_ALL = 0, 1

# Packing -------------------------------------------------------------------------------------------------------------

SegmentValue = tuple[int, int, int, int]
"""(selector, attributes, limit, base)."""
Values = dict[str, "int | SegmentValue"]

_SEGMENT = struct.Struct("<HHIQ")


def attributes(flags: int) -> int:
    """Descriptor bits (second dword, in place) -> the VMCB's twelve."""
    return flags >> 8 & 0xFF | flags >> 12 & 0xF00


def flags_of(attribute_bits: int) -> int:
    """The VMCB's twelve -> descriptor bits in place."""
    return (attribute_bits & 0xFF) << 8 | (attribute_bits & 0xF00) << 12


def put(block: bytearray | memoryview, values: Mapping[str, int | SegmentValue]) -> None:
    """Write fields by name into a block of ``VMCB_BYTES``."""
    for name, value in values.items():
        field = FIELD[name]
        if isinstance(value, tuple):
            _SEGMENT.pack_into(block, field.offset, *value)
        else:
            block[field.offset : field.offset + field.size_bytes] = value.to_bytes(field.size_bytes, "little")


def parse(block: bytes | memoryview) -> Values:
    """Every field by name."""
    values: Values = {}
    for field in FIELDS:
        if field.is_segment:
            selector, attribute_bits, limit, base = _SEGMENT.unpack_from(block, field.offset)
            values[field.name] = (selector, attribute_bits, limit, base)
        else:
            values[field.name] = int.from_bytes(block[field.offset : field.offset + field.size_bytes], "little")
    return values


def render(values: Mapping[str, int | SegmentValue] | None = None) -> str:
    """The table as text, a field a line; with ``values`` also what they are."""
    lines = []
    for field in FIELDS:
        line = f"{field.offset:03x}h {field.size_bytes:>3}  {field.name:<23}"
        if values is not None:
            value = values.get(field.name, 0)
            shown = "{:04x} {:03x} {:08x} {:08x}".format(*value) if isinstance(value, tuple) else f"{value:x}"
            line += f"{shown:<28}"
        lines.append((line + field.meaning).rstrip())
    return "\n".join(lines)
