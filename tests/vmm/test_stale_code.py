"""Code that was changed never runs as it was: whoever changes it, and whichever way it is reached.

Every guest here writes down what its code does, in EAX, as one digit after another: ``old`` code adds 1, ``new`` code
adds 2, behind a multiplication by ten. The bare processor says what is right.
"""

from __future__ import annotations

import pytest

from tests.memory.chaos import Chaos
from tests.vmm.images import ENTRY, MEMORY_BYTES, code_image
from vilab.memory.page_state import PageState
from vilab.vmm import differential_paging_guest as g
from vilab.vmm.differential_paging import Mmu, PagingMachine, named
from vilab.vmm.differential_paging_code import Step, assemble, u32
from vilab.vmm.vm import VirtualMachine

ENGINES: list[Mmu] = [
    ("bare", {}), ("trap", {}), ("svm", {}), ("svm", {"paging": "shadow"}), ("bt", {}), ("bt", {"smc": "flush"}),
    ("bt", {"superblocks": True, "ahead": 4}), ("bt", {"placement": "mirrored"}),
]  # fmt: skip

BODY, PLACE = "8d0480 01c0 83c0{digit} c3", 6
"""lea eax, [eax+eax*4]; add eax, eax; add eax, digit; ret: the digit is byte 7."""


def function(digit: int) -> bytes:
    return bytes.fromhex(BODY.format(digit=f"{digit:02x}"))


DIGIT_AT = 7


def call(at: int) -> bytes:
    return b"\xbb" + u32(at) + b"\xff\xd3"  # mov ebx, at; call ebx


def put_digit(at: int, digit: int = 2) -> bytes:
    return b"\xc6\x05" + u32(at + DIGIT_AT) + bytes((digit,))


def run_flat(engine: str, options: dict[str, object], code: bytes, *more: tuple[int, bytes]) -> VirtualMachine:
    image = code_image(b"\x31\xc0" + code + b"\xc3", more=more)
    vm = VirtualMachine(image, engine, MEMORY_BYTES, engine_options=options)
    assert vm.engine.run(10_000_000) is not None
    return vm


# In ring 0, paging off -----------------------------------------------------------------------------------------------

ELSEWHERE = 0x120000
SAME_PAGE = ENTRY + 0x400


@pytest.mark.parametrize(("engine", "options"), ENGINES, ids=map(named, ENGINES))
@pytest.mark.parametrize(
    "at", [SAME_PAGE, ELSEWHERE, ELSEWHERE + 0xFFA], ids=["same page", "other page", "across pages"]
)
def test_a_kernel_that_patches_a_function(engine, options, at):
    code = call(at) + put_digit(at) + call(at) + put_digit(at, 1) + call(at)
    vm = run_flat(engine, options, code, (at, function(1)))
    assert vm.engine.vcpu.gpr[0] == 121


@pytest.mark.parametrize(("engine", "options"), ENGINES, ids=map(named, ENGINES))
def test_a_loop_that_patches_a_function_again_and_again(engine, options):
    """More often than any threshold for retranslation."""
    store = b"\x88\x15" + u32(SAME_PAGE + DIGIT_AT)  # mov [digit], dl
    body = store + call(SAME_PAGE) + b"\x83\xf2\x03\x49"  # xor edx, 3; dec ecx
    code = b"\xb9" + u32(40) + b"\xba" + u32(1) + body + b"\x75" + bytes((-len(body) - 2 & 0xFF,))
    vm = run_flat(engine, options, code, (SAME_PAGE, function(9)))
    assert vm.engine.vcpu.gpr[0] == int("12" * 20) & 0xFFFFFFFF


@pytest.mark.parametrize(("engine", "options"), ENGINES, ids=map(named, ENGINES))
@pytest.mark.parametrize("gap", [0, 1, 12], ids=["the next instruction", "one further on", "further on"])
def test_the_code_that_is_being_executed_changes_ahead(engine, options, gap):
    """``mov byte [digit of the ADD that follows], 2``, with NOPs between."""
    at = ENTRY + 2 + 7 + gap
    code = b"\xc6\x05" + u32(at + 2) + b"\x02" + b"\x90" * gap + b"\x83\xc0\x01"
    assert run_flat(engine, options, code).engine.vcpu.gpr[0] == 2


@pytest.mark.parametrize(("engine", "options"), ENGINES, ids=map(named, ENGINES))
def test_the_code_that_is_being_executed_changes_behind_and_comes_again(engine, options):
    """add eax, 1; mov byte [its digit], 2; dec ecx; jnz: three rounds."""
    start = ENTRY + 2 + 5
    body = b"\x83\xc0\x01" + b"\xc6\x05" + u32(start + 2) + b"\x02" + b"\x49"
    code = b"\xb9" + u32(3) + body + b"\x75" + bytes((-len(body) - 2 & 0xFF,))
    assert run_flat(engine, options, code).engine.vcpu.gpr[0] == 5


@pytest.mark.parametrize(("engine", "options"), ENGINES, ids=map(named, ENGINES))
@pytest.mark.parametrize("whole_page", [False, True])
def test_the_host_writes_into_a_kernels_code(engine, options, whole_page):
    """As DMA does: through the pmap, between two instructions of the guest."""
    wait = b"\xb9" + u32(20_000) + b"\x49\x75\xfd"  # mov ecx, n; dec ecx; jnz
    code = call(ELSEWHERE) + wait + call(ELSEWHERE)
    image = code_image(b"\x31\xc0" + code + b"\xc3", more=((ELSEWHERE, function(1)),))
    vm = VirtualMachine(image, engine, MEMORY_BYTES, engine_options=options)

    def look() -> None:
        if vm.engine.vcpu.gpr[0] == 1:
            _dma(vm, ELSEWHERE, whole_page)
        else:
            vm.clock.at(vm.clock.now_ns + 500, look)

    vm.clock.at(500, look)
    vm.engine.run(10_000_000)
    assert vm.engine.vcpu.gpr[0] == 12


def _dma(vm: VirtualMachine, gpa: int, whole_page: bool) -> None:
    if whole_page:
        vm.pmap.write(gpa & ~0xFFF, function(2).ljust(4096, b"\x90"))
    else:
        vm.pmap.write(gpa + DIGIT_AT, b"\x02")


# Paging, ring 0 and ring 3: steps of the world of ``differential_paging_guest`` -----

WINDOW = g.FIRST << 22 | g.FIRST << 12
ALIAS = WINDOW + 0x1000
ENTRY_AT, ALIAS_ENTRY = (g.TABLES[0] << 12) + 4 * g.FIRST, (g.TABLES[0] << 12) + 4 * g.FIRST + 4
ONE, OTHER = 0x40, 0x41
FULL = 0x67
PAGED = [mmu for mmu in ENGINES if mmu[0] != "trap"]
"""Without translation a kernel cannot tell its rings apart, and sees the monitor's."""


def step(user: bool, code: bytes) -> Step:
    return Step(user, code, lambda _: None, "")


def store(at: int, value: int) -> Step:
    return step(False, b"\xc7\x05" + u32(at) + u32(value))


def call_in(user: bool, at: int) -> Step:
    return step(user, b"\xa1" + u32(SCORE) + call(at) + b"\xa3" + u32(SCORE))


SCORE = WINDOW + 0x2000
"""A page that both rings may write to."""


def run_steps(mmu: Mmu, steps: list[Step]) -> int:
    """The score at the end."""
    frames = ((ENTRY_AT, ONE), (ALIAS_ENTRY, ONE), (ENTRY_AT + 8, 0x42))
    head = [store((g.DIRECTORIES[d] << 12) + 4 * g.FIRST, g.TABLES[d] << 12 | FULL) for d in (0, 1)]
    head += [store(at, frame << 12 | FULL) for at, frame in frames]
    head += [store((g.TABLES[1] << 12) + (at & 0xFFF), frame << 12 | FULL) for at, frame in frames]
    for frame, digit in ((ONE, 1), (OTHER, 2)):
        code = function(digit).ljust(12, b"\x90")
        head += [store((frame << 12) + i, int.from_bytes(code[i : i + 4], "little")) for i in (0, 4, 8)]
    machine = PagingMachine(mmu)
    outcome = machine.run(assemble([*head, store(SCORE, 0), *steps], 1))
    machine.vm.close()
    assert outcome.ended == "halted"
    assert all(record[0] == g.RETURN_VECTOR for record in outcome.records)
    return int(outcome.memory[0x42000:0x42004].view("<u4")[0])


@pytest.mark.parametrize("user", [False, True], ids=["ring 0", "ring 3"])
@pytest.mark.parametrize("mmu", PAGED, ids=map(named, PAGED))
class TestWithPaging:
    def test_through_another_mapping(self, mmu, user):
        write = step(False, put_digit(ALIAS))
        assert run_steps(mmu, [call_in(user, WINDOW), write, call_in(user, WINDOW), call_in(user, ALIAS)]) == 122

    def test_from_user_mode_through_a_shared_mapping(self, mmu, user):
        write = step(True, put_digit(ALIAS))
        back = step(True, put_digit(WINDOW, 1))
        steps = [call_in(user, WINDOW), write, call_in(user, WINDOW), back, call_in(user, WINDOW)]
        assert run_steps(mmu, steps) == 121

    def test_through_the_kernels_own_mapping(self, mmu, user):
        write = step(False, put_digit(ONE << 12))
        assert run_steps(mmu, [call_in(user, WINDOW), write, call_in(user, WINDOW)]) == 12

    def test_by_changing_the_mapping_and_invlpg(self, mmu, user):
        remap = [store(ENTRY_AT, OTHER << 12 | FULL), step(False, b"\x0f\x01\x3d" + u32(WINDOW))]
        assert run_steps(mmu, [call_in(user, WINDOW), *remap, call_in(user, WINDOW), call_in(user, ALIAS)]) == 121

    def test_by_changing_the_mapping_and_loading_cr3(self, mmu, user):
        remap = [store(ENTRY_AT, OTHER << 12 | FULL), step(False, b"\x0f\x20\xd8\x0f\x22\xd8")]
        assert run_steps(mmu, [call_in(user, WINDOW), *remap, call_in(user, WINDOW)]) == 12

    def test_by_going_to_another_address_space_and_back(self, mmu, user):
        other = store((g.TABLES[1] << 12) + 4 * g.FIRST, OTHER << 12 | FULL)
        loads = [step(False, b"\xb8" + u32(g.DIRECTORIES[d] << 12) + b"\x0f\x22\xd8") for d in (0, 1)]
        steps = [other, call_in(user, WINDOW), loads[1], call_in(user, WINDOW), loads[0], call_in(user, WINDOW)]
        assert run_steps(mmu, steps) == 121

    def test_code_changed_while_another_address_space_was_loaded(self, mmu, user):
        other = store((g.TABLES[1] << 12) + 4 * g.FIRST, OTHER << 12 | FULL)
        loads = [step(False, b"\xb8" + u32(g.DIRECTORIES[d] << 12) + b"\x0f\x22\xd8") for d in (0, 1)]
        steps = [other, call_in(user, WINDOW), loads[1], step(True, put_digit(ALIAS, 3)), loads[0]]
        assert run_steps(mmu, [*steps, call_in(user, WINDOW)]) == 13

    def test_by_the_host(self, mmu, user):
        wait = step(user, b"\xeb\x00" * 1500)
        assert run_steps_with_dma(mmu, [call_in(user, WINDOW), wait, wait, call_in(user, WINDOW)]) == 12


def run_steps_with_dma(mmu: Mmu, steps: list[Step]) -> int:
    """As ``run_steps``; the host writes into the function as soon as it has run once."""
    original = PagingMachine.run

    def run(self: PagingMachine, program: bytes):
        engine, load = self.vm.engine, self.vm.load_state

        def load_and_watch(*args: object, **more: object) -> None:
            load(*args, **more)  # type: ignore[arg-type]
            self.vm.clock.at(self.vm.clock.now_ns + 200, look)

        def look() -> None:
            if self.vm.pmap.read_u32(0x42000) == 1:
                self.vm.pmap.write((ONE << 12) + DIGIT_AT, b"\x02")
            elif engine.ended is None:
                self.vm.clock.at(self.vm.clock.now_ns + 200, look)

        self.vm.load_state = load_and_watch  # type: ignore[method-assign]
        return original(self, program)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PagingMachine, "run", run)
        return run_steps(mmu, steps)


# Somebody else does something to the page, and a device writes there --------------------------------------------------


@pytest.mark.parametrize(("engine", "options"), ENGINES[2:], ids=map(named, ENGINES[2:]))
@pytest.mark.parametrize("done", ["nothing", "watch", "share", "swap", "swap with another"])
def test_a_device_that_patches_a_page_that_was_watched_shared_or_swapped(engine, options, done):
    chaos = Chaos(MEMORY_BYTES, 48 << 20, 1)
    loop = b"\x31\xc0" + call(ELSEWHERE) + b"\xa3" + u32(0x5000)  # xor eax, eax; ...; mov [5000], eax
    image = code_image(loop + b"\xeb" + bytes((-len(loop) - 2 & 0xFF,)), more=((ELSEWHERE, function(1)),))
    vm = VirtualMachine(image, engine, MEMORY_BYTES, engine_options=options, grant=chaos.grant)
    vm.engine.run(200_000)
    pmap, ppn, other = chaos.pmap, ELSEWHERE >> 12, (ELSEWHERE >> 12) + 1
    assert pmap.read_u32(0x5000) == 1
    if done == "watch":
        pmap.watch(ppn)
    elif done == "share":
        pmap.share(ppn)
        chaos.frames.make_shared(pmap.mpn_of[ppn])
    elif done.startswith("swap"):
        chaos.swapped[ppn] = pmap.page(ppn)
        chaos.frames.leave(pmap.take_away(ppn, PageState.SWAPPED))
        if done.endswith("another"):
            pmap.write(other << 12, b"\xf4" * 4096)
    pmap.write(ELSEWHERE + DIGIT_AT, b"\2")
    vm.engine.run(400_000)
    assert pmap.read_u32(0x5000) == 2
