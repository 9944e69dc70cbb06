"""A signal must not raise inside a function that Unicorn has called: each of them is known as one."""

from __future__ import annotations

import sys

from tests.machine.test_cpu import CODE, Recorder, flatten
from vilab.commands.leaving import in_callback
from vilab.machine.cpu import Cpu
from vilab.machine.memory import MachineMemory

EXITS = bytes.fromhex("e460 e660 0fa2 a13000e0fe a33000e0fe cd80 f4")
"""IN, OUT, CPUID, a load and a store above memory, INT 80h, HLT"""


class Asked(Recorder):
    """Notes for each call of the processor's whether it is seen to be one."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: dict[str, bool] = {}

    def note(self, what: str) -> None:
        self.answers[what] = in_callback(sys._getframe())

    def on_exception(self, number: int) -> bool:
        self.note("exception")
        return True

    def on_in(self, port: int, size_bytes: int) -> int:
        self.note("in")
        return 0

    def on_out(self, port: int, size_bytes: int, value: int) -> None:
        self.note("out")

    def on_cpuid(self, leaf: int, subleaf: int) -> tuple[int, int, int, int]:
        self.note("cpuid")
        return 0, 0, 0, 0

    def on_mmio_read(self, mpa: int, size_bytes: int) -> int:
        self.note("read")
        return 0

    def on_mmio_write(self, mpa: int, size_bytes: int, value: int) -> None:
        self.note("write")


def test_every_call_of_the_processor_is_seen_to_be_one() -> None:
    memory = MachineMemory(1 << 20)
    memory.write(CODE, EXITS)
    cpu, handler = Cpu(memory), Asked()
    handler.cpu, cpu.handler = cpu, handler
    flatten(cpu)
    cpu.run()
    assert handler.answers == dict.fromkeys(("in", "out", "cpuid", "read", "write", "exception"), True)
    assert not in_callback(sys._getframe())
