"""What the guests of the benchmark do, and one timed run of one of them.

==================  ====================================================================================  ============
bundled image       a round                                                                               instructions
==================  ====================================================================================  ============
bench-ring3         ring 3: load, store, arithmetic, two branches                                         10.5
bench-ring0-mixed   the same in the kernel                                                                10.5
bench-call-ret      CALL, INC, RET, and the loop                                                          5
bench-cli-sti       CLI, STI, and the loop                                                                1 pair
==================  ====================================================================================  ============

Every run has the same preemption: the processor's block hook, and a timer every 10 ms of virtual time, at which the
processor stops and is walked to the timer's instruction, as for a guest that has set its timer to 100 Hz.
"""

from __future__ import annotations

from vilab.errors import VmmBug
from vilab.guests import function
from vilab.guests.image import LoadedImage
from vilab.guests.layout import Layout
from vilab.guests.load import load
from vilab.vmm.bench_measure import clock
from vilab.vmm.vm import QuietConsole, VirtualMachine

MEMORY_BYTES = 4 << 20
SHELL_MEMORY_BYTES = 16 << 20
TICK_NS = 10_000_000
PROMPT = b"shell> "
BOOT_LIMIT_NS = 2_000_000_000

PER_ROUND = {"bench-ring3": 10.5, "bench-ring0-mixed": 10.5, "bench-call-ret": 5.0, "bench-cli-sti": 1.0}

CPUID_LOOP = bytes.fromhex("31c0 0fa2 31c0 4f 75f9 c3")
"""xor eax,eax; again: cpuid; xor eax,eax; dec edi; jnz again; ret"""


def cpuid_image(rounds: int) -> LoadedImage:
    """The shortest loop around an instruction that a VMM must see."""
    layout = Layout("cpuid-loop", MEMORY_BYTES, None)
    entry = layout.place_high(len(CPUID_LOOP))
    layout.add(entry, CPUID_LOOP)
    return function.call_image("cpuid-loop", "function", layout, entry, {"edi": rounds})


def run_seconds(image: LoadedImage, engine: str) -> float:
    """Run the image to its end; seconds without setting up the machine."""
    vm = VirtualMachine(image, engine, MEMORY_BYTES)
    try:
        _tick(vm)
        started = clock()
        ended = vm.engine.run()
        seconds = clock() - started
        if ended is None or ended.reason != "returned":
            raise VmmBug(f"{image.name} did not return under {engine}: {ended.sentence if ended else 'it still runs'}")
        return seconds
    finally:
        vm.close()


def _tick(vm: VirtualMachine) -> None:
    vm.clock.at(vm.clock.now_ns + TICK_NS, lambda: _tick(vm))


def rate(name: str, engine: str, rounds: int) -> float:
    """Guest instructions (pairs for ``bench-cli-sti``) per second of a bundled benchmark."""
    image = load(name, memory_bytes=MEMORY_BYTES, append=str(rounds))
    return rounds * PER_ROUND[name] / run_seconds(image, engine)


def cpuid_rate(engine: str, rounds: int) -> float:
    """CPUID instructions per second."""
    return rounds / run_seconds(cpuid_image(rounds), engine)


def boot_shell(engine: str) -> tuple[VirtualMachine, float]:
    """The teaching kernel at its prompt, and the seconds that it took from power-on."""
    image = load("shell", memory_bytes=SHELL_MEMORY_BYTES)
    console = QuietConsole()
    vm = VirtualMachine(image, engine, SHELL_MEMORY_BYTES, console=console)
    started = clock()
    until_ns = 0
    while not console.output.endswith(PROMPT):
        until_ns += 2_000_000
        if vm.engine.run(until_ns) is not None or until_ns > BOOT_LIMIT_NS:
            raise VmmBug(f"The teaching kernel did not reach its shell under {engine}.")
    return vm, clock() - started


def boot_seconds(engine: str) -> float:
    """Seconds to the prompt."""
    vm, seconds = boot_shell(engine)
    vm.close()
    return seconds
