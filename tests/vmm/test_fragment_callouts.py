"""Short ways of frequent callouts change nothing but speed. The judge is the same run without them."""

from __future__ import annotations

import pytest

from tests.vmm.images import _SET_UP, ENTRY, code_image, timer_image
from vilab.events import EventLog
from vilab.guests.image import LoadedImage
from vilab.vmm.vm import VirtualMachine

TIMES = 300
# mov edi,300; again: stc; pushf; push cs; push behind; iret; behind: adc esi,1; mov eax,ds; mov es,eax; push es; pop ds
# xor eax,eax; mov fs,eax; rdtsc; add ebx,eax; dec edi; jnz again; mov eax,esi; ret
HEAD = bytes.fromhex("bf 2c010000 f9 9c 0e 68")
BEHIND = ENTRY + len(HEAD) + 5
LOOP = (
    HEAD + BEHIND.to_bytes(4, "little")
    + bytes.fromhex("cf 83d601 8cd8 8ec0 06 1f 31c0 8ee0 0f31 01c3 4f 75e4 89f0 c3")
)  # fmt: skip
HANDLER = "45 b020 e620 cf"
"""inc ebp; end of interrupt; iret"""


def run(image: LoadedImage, log: EventLog | None = None, **options: object) -> VirtualMachine:
    native = bool(options.pop("native_hook", True))
    vm = VirtualMachine(
        image, "bt", 4 << 20, log=log, native_hook=native, engine_options={"superblocks": True, "ahead": 2} | options
    )
    ended = vm.engine.run()
    assert ended is not None
    assert ended.reason == "returned"
    return vm


def outcome(vm: VirtualMachine) -> tuple[object, ...]:
    v = vm.engine.vcpu
    return list(v.gpr), v.eflags(), [v.segment(i) for i in range(6)], vm.engine.statistics()


def looped() -> LoadedImage:
    code = bytearray(LOOP)
    code[code.index(b"\x75") + 1] = 5 - (code.index(b"\x75") + 2) & 0xFF
    return code_image(bytes(code))


def test_irets_and_segment_loads_are_those_of_the_slow_way() -> None:
    pytest.importorskip("llvmlite")
    fast, slow = run(looped()), run(looped(), native_hook=False)
    assert fast.cpu.is_native
    assert outcome(fast) == outcome(slow)
    assert fast.engine.exits["iret"] == TIMES
    assert fast.engine.exits["mov to seg"] == 2 * TIMES
    assert fast.engine.vcpu.gpr[0] == 2 * TIMES


def test_time_is_the_same_when_somebody_listens() -> None:
    log, seen = EventLog(), []
    log.listen(lambda event: seen.append(getattr(event, "reason", "")))
    assert outcome(run(looped())) == outcome(run(looped(), log))
    assert seen.count("iret") == TIMES
    assert seen.count("pop seg") == TIMES


def test_python_is_not_asked_for_irets(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("llvmlite")
    vm = VirtualMachine(looped(), "bt", 4 << 20, engine_options={"superblocks": True})
    calls: list[str] = []
    engine = vm.engine
    returns = engine._returns_plainly  # type: ignore[attr-defined]
    monkeypatch.setattr(engine, "_returns_plainly", lambda i: calls.append(i.op) or returns(i))
    engine.run()
    assert engine.exits["iret"] == TIMES
    assert len(calls) < 5


def test_an_interrupt_that_waits_is_taken_behind_the_iret_that_lets_it_in() -> None:
    start = ENTRY + len(bytes.fromhex(_SET_UP))
    # push 200h (IF) with interrupts off; push cs; push behind; iret; behind: cli; inc esi; dec edi; jnz
    body = "bf2c010000 6800020000 0e 68{behind} cf fa 46 4f 75{back} 89e8 c3"
    behind = start + 5 + 5 + 1 + 5 + 1
    code = body.format(behind=behind.to_bytes(4, "little").hex(), back="00")
    raw = bytearray(bytes.fromhex(code))
    at = raw.index(b"\x75") + 1
    raw[at] = 5 - (at + 1) & 0xFF

    def machine(**options: object) -> VirtualMachine:
        return run(timer_image(raw.hex(), HANDLER), **options)

    fast, slow = machine(), machine(native_hook=False)
    assert outcome(fast) == outcome(slow)
    assert fast.engine.vcpu.gpr[0] & 0xFFFFFFFF == 1
    logged = machine(log=EventLog())
    assert logged.engine.vcpu.gpr[6] == TIMES
    assert fast.engine.exits["interrupt"] == 1


def test_a_changed_code_descriptor_is_noticed() -> None:
    """The descriptor of CS becomes a data segment's: the next IRET faults, and there is no handler."""
    # as LOOP, but after the first round: mov byte [GDT+8+5], 92h
    head = bytes.fromhex("bf 02000000 9c 0e 68")
    behind = (ENTRY + len(head) + 5).to_bytes(4, "little")
    tail = bytes.fromhex("cf 46 c6050d10000092 4f 75 ef 89f0 c3")
    raw = bytearray(head + behind + tail)
    at = len(head) + 4 + tail.index(b"\x75") + 1
    raw[at] = 5 - (at + 1) & 0xFF
    ends = []
    for native in (True, False):
        vm = VirtualMachine(
            code_image(bytes(raw)), "bt", 4 << 20, native_hook=native, engine_options={"superblocks": True}
        )
        ended = vm.engine.run()
        assert ended is not None
        ends.append((ended.reason, vm.engine.vcpu.gpr[6], vm.engine.vcpu.eip, vm.engine.now_ns()))
    assert ends[0] == ends[1]
    assert ends[0][0] == "triple_fault"
    assert ends[0][1] == 1


@pytest.mark.parametrize("trace", ["all", "lazy", "prevalidate"])
def test_code_behind_a_load_of_the_directory_is_that_of_the_new_address_space(trace: str) -> None:
    # Two directories map the page at 4 MB, with the code that loads CR3, to two different pages.
    first, second, low, one, other = 0x10000, 0x11000, 0x12000, 0x13000, 0x14000
    tables = [bytearray(4096) for _ in range(5)]
    for index in range(1024):
        tables[2][4 * index : 4 * index + 4] = (index << 12 | 7).to_bytes(4, "little")
    for table, page in ((3, 0x20000), (4, 0x21000)):
        tables[table][:4] = (page | 7).to_bytes(4, "little")
    for directory, code_table in ((0, one), (1, other)):
        tables[directory][:8] = (low | 7).to_bytes(4, "little") + (code_table | 7).to_bytes(4, "little")
    # mov cr3,ecx; add esi,1 or 0x10; xchg ecx,edx; dec edi; jnz back; jmp ebx
    moving = [bytes.fromhex(f"0f22d9 83c6{step} 87ca 4f 75f5 ffe3") for step in ("01", "10")]
    more = tuple(zip((first, second, low, one, other), map(bytes, tables), strict=True))
    more += ((0x20000, moving[0]), (0x21000, moving[1]))
    begin = "b9 00000100 0f22d9 0f20c0 0d00000080 0f22c0 b9 00100100 ba 00000100 bf 0a000000 31f6 bb"
    start = bytes.fromhex(begin)
    behind = ENTRY + len(start) + 4 + 7
    start += behind.to_bytes(4, "little") + bytes.fromhex("b8 00004000 ffe0 89f0 c3")
    vm = run(code_image(start, more=more), trace=trace)
    assert vm.engine.vcpu.gpr[0] == 5 * 0x10 + 5 * 0x01
    log = EventLog()
    log.listen(lambda _event: None)
    assert outcome(vm) == outcome(run(code_image(start, more=more), log, trace=trace))
