"""What the processor and the translator cost by themselves: the block hook, one exit, one translated instruction.

::

    block hook   registers   dec ecx; jnz
                 loads       add eax,[ebx]; dec ecx; jnz
                 mixed       the loop of bench-ring0-mixed: 10.5 instructions a round
    exit         int3 ──> registers out ──> a handler that does nothing ──> registers in ──> int3 ...
"""

from __future__ import annotations

from capstone import CS_ARCH_X86, CS_MODE_32, Cs

from vilab.errors import VmmBug
from vilab.machine.cpu import Cpu
from vilab.machine.exits import Stop
from vilab.machine.memory import MachineMemory
from vilab.machine.registers import CS, EBX, ECX, EDI, ESP
from vilab.vmm.bench_guests import boot_shell
from vilab.vmm.bench_measure import clock
from vilab.vmm.engine_bt import TranslationEngine
from vilab.vmm.vm import FLAT_CODE_FLAGS, FLAT_DATA_FLAGS

CODE, DATA, STACK = 0x1000, 0x8000, 0xF000
BREAKPOINT = 3

LOOPS: dict[str, tuple[bytes, float]] = {
    "registers": (bytes.fromhex("31c9 89f9 49 75fd f4"), 2),
    "loads": (bytes.fromhex("89f9 0303 49 75fb f4"), 3),
    "mixed": (
        bytes.fromhex("31c0 89c1 81e1fc000000 8b140b 01c2 89140b 83c004 a904000000 7402 31ca 4f 75e1 f4"), 10.5
    ),
}  # fmt: skip
"""name -> (code with its rounds in EDI, instructions a round)."""

EXITS = bytes.fromhex("cc 4f 75fc f4")
"""again: int3; dec edi; jnz again; hlt"""


class Nothing:
    """An exit handler that only lets the processor go on."""

    def on_exception(self, number: int) -> bool:
        if number != BREAKPOINT:
            raise VmmBug(f"A benchmark's loop ended in exception {number}.")
        return True

    def on_in(self, port: int, size_bytes: int) -> int:
        return 0

    def on_out(self, port: int, size_bytes: int, value: int) -> None:
        return

    def on_cpuid(self, leaf: int, subleaf: int) -> None:
        return None

    def on_mmio_read(self, mpa: int, size_bytes: int) -> int:
        return 0

    def on_mmio_write(self, mpa: int, size_bytes: int, value: int) -> None:
        return

    def read_code(self, linear: int, size_bytes: int) -> bytes:
        return b""


def _processor(code: bytes, block_hook: bool) -> Cpu:
    memory = MachineMemory(1 << 20)
    memory.write(CODE, code)
    cpu = Cpu(memory, block_hook=block_hook)
    cpu.handler = Nothing()
    for index in range(6):
        flags = FLAT_CODE_FLAGS if index == CS else FLAT_DATA_FLAGS
        cpu.set_segment(index, 8 if index == CS else 16, 0, 0xFFFFFFFF, flags)
    cpu.update_mode(0)
    return cpu


def _run(cpu: Cpu, rounds: int) -> float:
    cpu.eip = CODE
    cpu.gpr[EDI], cpu.gpr[ECX], cpu.gpr[EBX], cpu.gpr[ESP] = rounds, 0, DATA, STACK
    started = clock()
    reason = cpu.run()
    seconds = clock() - started
    if reason is not Stop.HALTED:
        raise VmmBug(f"A benchmark's loop ended with {reason}.")
    return seconds


def loop_rate(name: str, block_hook: bool, rounds: int) -> float:
    """Instructions per second of a loop in ring 0, paging off, on a processor of its own."""
    code, each = LOOPS[name]
    cpu = _processor(code, block_hook)
    _run(cpu, 1000)
    seconds = _run(cpu, rounds)
    cpu.close()
    return rounds * each / seconds


def exit_us(rounds: int) -> float:
    """Microseconds from an INT3 through an empty handler to the next."""
    cpu = _processor(EXITS, True)
    seconds = _run(cpu, rounds)
    cpu.close()
    return seconds / rounds * 1e6


class Translations:
    """The teaching kernel's code up to its prompt, to be translated again and again.

    ``instructions`` is how many there are. ``translate`` and ``disassemble`` give instructions per second: the whole
    work of the monitor on a unit (fragment, stubs, maps, traces of its pages), and capstone's alone on the same bytes.
    """

    def __init__(self) -> None:
        vm, _ = boot_shell("bt")
        self._vm = vm
        assert isinstance(vm.engine, TranslationEngine)
        self._engine = vm.engine
        self._units = sorted(
            (unit for units in self._engine.cache.units.values() for unit in units.values()), key=lambda unit: unit.eip
        )
        self.instructions = sum(len(unit.lines) for unit in self._units)
        self._capstone = Cs(CS_ARCH_X86, CS_MODE_32)

    def translate(self) -> float:
        engine = self._engine
        starts = [unit.eip for unit in self._units]
        engine.flush_cache("benchmark")
        before = engine.guest_instructions
        started = clock()
        for eip in starts:
            engine.unit_for(eip)
        return (engine.guest_instructions - before) / (clock() - started)

    def disassemble(self) -> float:
        sources = [(unit.source, unit.eip) for unit in self._units]
        started = clock()
        found = sum(len(list(self._capstone.disasm_lite(source, eip))) for source, eip in sources)
        return found / (clock() - started)

    def close(self) -> None:
        self._vm.close()
