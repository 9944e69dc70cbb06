"""IN, OUT, INS, OUTS, and who may use which port.

Source: Intel SDM volume 1, section 18.5; volume 2, per instruction.
"""

from __future__ import annotations

from vilab.devices import backdoor
from vilab.errors import GuestFault
from vilab.machine.registers import DS, ES
from vilab.vmm import segments
from vilab.vmm.operands import (
    EAX,
    ECX,
    EDI,
    EDX,
    ESI,
    Operation,
    Platform,
    address_in,
    set_register,
)
from vilab.vmm.vcpu import TR, Vcpu
from vilab.x86.decode import REP, REPNE, Instruction
from vilab.x86.flags import DF


def check_ports(v: Vcpu, port: int, size_bytes: int) -> None:
    """#GP(0) where CPL > IOPL and the TSS's I/O map does not allow the port. VMware's backdoor is open to all rings."""
    if v.cpl <= v.eflags() >> 12 & 3 or port in backdoor.PORTS:
        return
    _, base, limit, flags = v.segment(TR)
    if flags & segments.PRESENT and limit >= 103:
        at = int.from_bytes(v.read(base + 102, 2), "little") + port // 8
        if at + 1 <= limit:
            bits = int.from_bytes(v.read(base + at, 2), "little") >> (port & 7)
            if not bits & (1 << size_bytes) - 1:
                return
    raise GuestFault(13, 0, why=f"port {port:04x} is not for ring {v.cpl}")


def _port_and_size(v: Vcpu, i: Instruction) -> tuple[int, int]:
    size = 1 if not i.opcode & 1 else i.operand_bits // 8
    port = i.immediate or 0 if i.opcode in (0xE4, 0xE5, 0xE6, 0xE7) else v.gpr[EDX] & 0xFFFF
    check_ports(v, port, size)
    return port, size


def _in(v: Vcpu, i: Instruction, platform: Platform) -> str:
    port, size = _port_and_size(v, i)
    value = platform.port_in(port, size)
    set_register(v, EAX, size, value)
    return f"{value:x} from port {port:x}"


def _out(v: Vcpu, i: Instruction, platform: Platform) -> str:
    port, size = _port_and_size(v, i)
    value = v.gpr[EAX] & (1 << 8 * size) - 1
    platform.port_out(port, size, value)
    return f"{value:x} to port {port:x}"


def _string_io(v: Vcpu, i: Instruction, platform: Platform) -> str:
    """One iteration of INS or OUTS; with REP, EIP stays until the counter has run out."""
    size = 1 if not i.opcode & 1 else i.operand_bits // 8
    port = v.gpr[EDX] & 0xFFFF
    check_ports(v, port, size)
    mask = 0xFFFFFFFF if i.address_bits == 32 else 0xFFFF
    repeated = i.prefixes & (REP | REPNE)
    if repeated and not v.gpr[ECX] & mask:
        return "counter 0"
    index = EDI if i.op == "ins" else ESI
    if i.op == "ins":
        address = address_in(v, ES, v.gpr[EDI] & mask)
        v.translate(address, True, v.cpl == 3)
        v.write(address, platform.port_in(port, size).to_bytes(size, "little"), v.cpl == 3)
    else:
        override = i.segment_override
        address = address_in(v, DS if override is None else override, v.gpr[ESI] & mask)
        platform.port_out(port, size, int.from_bytes(v.read(address, size, v.cpl == 3), "little"))
    step = -size if v.eflags() & DF else size
    v.gpr[index] = v.gpr[index] & ~mask & 0xFFFFFFFF | v.gpr[index] + step & mask
    if repeated:
        v.gpr[ECX] = v.gpr[ECX] & ~mask & 0xFFFFFFFF | v.gpr[ECX] - 1 & mask
        if v.gpr[ECX] & mask:
            v.eip = v.eip - len(i.code) & 0xFFFFFFFF
    return f"port {port:x}"


OPERATIONS: dict[str, Operation] = {
    "in": _in, "out": _out, "ins": _string_io, "outs": _string_io,
}  # fmt: skip
