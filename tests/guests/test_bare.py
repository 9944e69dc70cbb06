"""Images without a kernel, run by plain Unicorn from their first state to their return address."""

from __future__ import annotations

import pytest
import unicorn
from unicorn import x86_const as x86

from vilab.errors import AdminError
from vilab.guests import LoadedImage, load
from vilab.guests.bundled import BUNDLED

MEMORY_BYTES = 4 << 20
MASK = 0xFFFFFFFF


class Run:
    """One image in a fresh Unicorn. ``instructions`` counts those retired."""

    def __init__(self, image: LoadedImage, most: int = 2_000_000) -> None:
        self.uc = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_32)
        self.uc.mem_map(0, MEMORY_BYTES)
        for gpa, data in image.segments:
            self.uc.mem_write(gpa, data)
        for name, value in image.gpr.items():
            self.uc.reg_write(getattr(x86, f"UC_X86_REG_{name.upper()}"), value)
        self.uc.reg_write(x86.UC_X86_REG_ESP, image.esp)
        self.addresses: list[int] = []
        self.ports: list[tuple[int, int]] = []
        self.interrupts: list[int] = []
        self.uc.hook_add(unicorn.UC_HOOK_CODE, lambda uc, address, size, data: self.addresses.append(address))
        self.uc.hook_add(unicorn.UC_HOOK_INSN, self._out, None, 1, 0, x86.UC_X86_INS_OUT)
        self.uc.hook_add(unicorn.UC_HOOK_INTR, self._interrupt)
        assert image.stop_eip is not None
        self.uc.emu_start(image.entry, image.stop_eip, count=most)

    def _out(self, uc: unicorn.Uc, port: int, size: int, value: int, data: object) -> None:
        self.ports.append((port, value))

    def _interrupt(self, uc: unicorn.Uc, number: int, data: object) -> None:
        self.interrupts.append(number)
        uc.emu_stop()

    @property
    def eip(self) -> int:
        return self.uc.reg_read(x86.UC_X86_REG_EIP)

    @property
    def eax(self) -> int:
        return self.uc.reg_read(x86.UC_X86_REG_EAX)


def run(name: str, append: str = "") -> Run:
    image = load(name, memory_bytes=MEMORY_BYTES, append=append)
    result = Run(image)
    assert result.eip == image.stop_eip
    return result


def mixed(rounds: int) -> int:
    """What bench-ring0-mixed and bench-ring3 leave in EAX."""
    return 4 * rounds & MASK


def test_isprime_49_retires_51_instructions_and_never_reaches_prime() -> None:
    result = run("isprime")
    assert result.eax == 0
    assert len(result.addresses) == 51
    assert len(set(result.addresses)) == 14
    assert 0x100019 not in result.addresses  # the block "prime"


def test_isprime_code_is_the_papers() -> None:
    code = load("isprime", memory_bytes=MEMORY_BYTES).segments[0][1]
    assert code.startswith(bytes.fromhex("89 f9 be 02 00 00 00 39 ce 7d"))


@pytest.mark.parametrize("number", [*range(30), 97, 221, 2147483647 % 10007])
def test_isprime_is_right(number: int) -> None:
    assert run("isprime", str(number)).eax == int(all(number % i for i in range(2, number)))


def test_straight25_is_25_instructions_in_a_row_that_end_in_a_return() -> None:
    result = run("straight25")
    assert result.eax == sum(range(1, 25))
    assert len(result.addresses) == 25
    assert result.addresses == sorted(result.addresses)
    assert result.uc.mem_read(result.addresses[-1], 1) == b"\xc3"


def test_mixed_loop_has_eleven_instructions_a_round() -> None:
    one, many = run("bench-ring0-mixed", "1000"), run("bench-ring0-mixed", "3000")
    assert many.eax == mixed(3000)
    assert len(many.addresses) - len(one.addresses) == 2000 * 11 - 1000  # every other round skips one


def test_cli_sti_lets_no_device_interrupt_in_and_counts_its_pairs() -> None:
    result = run("bench-cli-sti", "500")
    assert result.ports == [(0x21, 0xFF), (0xA1, 0xFF)]
    code = bytes(result.uc.mem_read(0x100000, 64))
    executed = [code[address - 0x100000] for address in result.addresses if address < 0x100040]
    assert executed.count(0xFA) == 501  # cli, and one at the end
    assert executed.count(0xFB) == 500  # sti


def test_call_ret_counts_its_calls() -> None:
    assert run("bench-call-ret", "700").eax == 700


def test_ring_3_image_computes_in_ring_3_and_leaves_it_by_int_0x80() -> None:
    image = load("bench-ring3", memory_bytes=MEMORY_BYTES, append="1000")
    result = Run(image)
    assert result.interrupts == [0x80]
    assert result.uc.reg_read(x86.UC_X86_REG_CS) & 3 == 3
    assert result.eax == mixed(1000)


@pytest.mark.parametrize("text", ["-1", "abc", "1.5", "2147483648", "4 5", "٣", "9" * 5000])
def test_argument_that_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(AdminError, match="takes one whole number from 0 to"):
        load("isprime", memory_bytes=MEMORY_BYTES, append=text)


def test_benchmark_of_no_rounds_is_refused() -> None:
    with pytest.raises(AdminError, match="from 1 to"):
        load("bench-call-ret", memory_bytes=MEMORY_BYTES, append="0")


@pytest.mark.parametrize("name", [each.name for each in BUNDLED.values() if each.file.startswith("bare-")])
def test_return_address_is_on_top_of_the_stack_and_outside_the_code(name: str) -> None:
    image = load(name, memory_bytes=MEMORY_BYTES)
    memory = bytearray(MEMORY_BYTES)
    for gpa, data in image.segments:
        memory[gpa : gpa + len(data)] = data
    assert int.from_bytes(memory[image.esp : image.esp + 4], "little") == image.stop_eip
    assert memory[image.stop_eip or 0] == 0xF4
    assert image.returns_register == "eax"
