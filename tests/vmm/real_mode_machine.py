"""A machine in which random 16-bit programs run, used again and again, and what is left when they stop."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from tests.guests import assemble
from tests.vmm.real_mode_programs import (
    DATA_SEGMENTS,
    PROGRAM_AT,
    PROGRAM_CS,
    TIMER_VECTOR,
    WORLD_AT,
    Case,
    Writer,
    vectors,
)
from vilab.devices.pic import ChipState, reset_state
from vilab.errors import VilabError
from vilab.guests.image import LoadedImage
from vilab.vmm.differential_machine import StandInPorts
from vilab.vmm.engine_state import EngineState
from vilab.vmm.vcpu import NULL_SEGMENT, VcpuState
from vilab.vmm.vm import VirtualMachine, VmState

MEMORY_BYTES = 2 << 20
RANDOM_AT, RANDOM_BYTES = 0x20000, 0x20000


def world(folder: Path) -> bytes:
    """The bytes of ``real_mode_world.S``."""
    return assemble.flat(Path(__file__).with_name("real_mode_world.S"), folder, WORLD_AT)


class Machine:
    """A virtual machine that is used again and again. ``engine``: or ``mirrored``, bt's second placement."""

    def __init__(self, engine: str, world: bytes, **options: Any) -> None:
        if engine == "mirrored":
            engine, options = "bt", {**options, "engine_options": {"placement": "mirrored"}}
        image = LoadedImage(
            name="real mode", kind="flat", segments=(), zeroed=(), entry=0, gpr={}, esp=0, gdt_base=0, gdt_limit=0,
            cs=PROGRAM_CS, ds=0, real_mode=True,
        )  # fmt: skip
        self.name = engine
        self.vm = VirtualMachine(image, engine, MEMORY_BYTES, count_instructions=1 << 60, **options)
        self.vm.pc = self.ports = StandInPorts(self.vm)  # type: ignore[assignment]
        self._world = world

    def load(self, case: Case) -> None:
        """Start again."""
        rng = random.Random(case.seed)
        memory = bytearray(MEMORY_BYTES)
        memory[RANDOM_AT : RANDOM_AT + RANDOM_BYTES] = rng.randbytes(RANDOM_BYTES)
        table, program = vectors(self._world), Writer(case.seed).program()
        memory[: len(table)] = table
        memory[WORLD_AT : WORLD_AT + len(self._world)] = self._world
        memory[PROGRAM_AT : PROGRAM_AT + len(program)] = program
        gpr = [rng.getrandbits(32) for _ in range(8)]
        gpr[4] = 0x8000
        segments = [(s, s << 4, 0xFFFF, 0x9300) for s in rng.choices(DATA_SEGMENTS, k=6)]
        segments[1] = (PROGRAM_CS, PROGRAM_AT, 0xFFFF, 0x9B00)
        state = VcpuState(
            gpr=gpr, eip=0, eflags=2, cpl=0, segments=[*segments, NULL_SEGMENT, (0, 0, 0xFFFF, 0x8B00)],
            cr0=0x10, cr2=0, cr3=0, cr4=0, gdtr=(0, 0xFFFF), idtr=(0, 0x3FF), msrs={},
            debug=[0, 0, 0, 0, 0, 0, 0xFFFF0FF0, 0x400],
        )  # fmt: skip
        vm, pic = self.vm, reset_state()
        pic.master = ChipState(TIMER_VECTOR, icw3=4, imr=0)
        vm.machine_memory.write(vm.pmap.mpn_of[0] << 12, bytes(memory))
        vm.cpu.forget_code()
        vm.load_state(VmState(self.name, EngineState(state, 0, 0, False, None), pic, b""), memory=False)  # type: ignore[arg-type]
        vm.cpu.set_instructions(0)

    def _run_to(self, instructions: int) -> str:
        engine = self.vm.engine
        if engine.ended is not None and engine.ended.reason == "limit":
            engine.ended = None
        self.vm.cpu.set_instruction_limit(instructions)
        ended = engine.run()
        return ended.reason if ended is not None else ""

    def run(self, case: Case) -> dict[str, Any]:
        """Everything that the guest could know, when it has executed as many instructions as the case says."""
        try:
            reason = self._run_to(case.interrupt_at or case.limit)
            if case.interrupt_at and reason == "limit":
                self.ports.pic.set_line(0, True)
                reason = self._run_to(case.limit)
        except VilabError as error:
            reason = str(error)
        return self._outcome(reason)

    def run_stepped(self, case: Case) -> dict[str, Any]:
        """The same, instruction by instruction."""
        engine = self.vm.engine
        self.vm.cpu.set_instruction_limit(1 << 60)
        raised = not case.interrupt_at
        while engine.ended is None:
            if not raised and self.vm.cpu.instructions >= case.interrupt_at:
                self.ports.pic.set_line(0, True)
                raised = True
            if self.vm.cpu.instructions >= case.limit:
                self.vm.cpu.set_instruction_limit(case.limit)
            engine.step_instruction()
        return self._outcome(engine.ended.reason)

    def _outcome(self, reason: str) -> dict[str, Any]:
        vm = self.vm
        state = vm.engine.vcpu.save_state()
        found: dict[str, Any] = {
            "ended": reason, "instructions": vm.cpu.instructions, "sent": tuple(self.ports.sent),
            "memory": vm.pmap.read(0, MEMORY_BYTES),
        }  # fmt: skip
        for name in ("eip", "eflags", "cpl", "cr0", "cr2", "gdtr", "idtr"):
            found[name] = getattr(state, name)
        found |= {f"gpr {n}": value & 0xFFFFFFFF for n, value in enumerate(state.gpr)}
        found |= {f"segment {n}": value for n, value in enumerate(state.segments)}
        return found


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """A line for each thing that differs."""
    found = []
    for name, value in one.items():
        if value == other[name]:
            continue
        if name == "memory":
            at = next(n for n in range(MEMORY_BYTES) if value[n] != other[name][n])
            found.append(f"memory {at:05x}: {value[at : at + 4].hex()} / {other[name][at : at + 4].hex()}")
        else:
            show = [f"{v:#x}" if type(v) is int else str(v) for v in (value, other[name])]
            found.append(f"{name}: {show[0]} / {show[1]}")
    return found
