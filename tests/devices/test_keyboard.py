"""8042: the sequences that kernels run at start."""

from __future__ import annotations

from tests.devices.helpers import Line
from vilab.devices.keyboard import Keyboard


class Bench:
    def __init__(self) -> None:
        self.line = Line()
        self.resets = 0
        self.kbd = Keyboard(self.line, self._reset)

    def _reset(self) -> None:
        self.resets += 1

    def command(self, *values: int) -> None:
        self.kbd.write_port(0x64, 1, values[0])
        for value in values[1:]:
            self.kbd.write_port(0x60, 1, value)

    def drain(self) -> list[int]:
        answers = []
        while self.kbd.read_port(0x64) & 1:
            answers.append(self.kbd.read_port(0x60))
        return answers


def test_self_tests_pass() -> None:
    bench = Bench()
    bench.command(0xAA)
    assert bench.drain() == [0x55]
    bench.command(0xAB)
    assert bench.drain() == [0x00]
    assert bench.kbd.read_port(0x64) & 0x04


def test_configuration_byte_reads_back() -> None:
    bench = Bench()
    bench.command(0x60, 0x45)
    bench.command(0x20)
    assert bench.drain() == [0x45]


def test_keyboard_answers_reset_identify_and_leds() -> None:
    bench = Bench()
    for sent, answer in (
        (0xFF, [0xFA, 0xAA]),
        (0xF2, [0xFA, 0xAB, 0x83]),
        (0xED, [0xFA]),
        (0x02, [0xFA]),
        (0xEE, [0xEE]),
    ):
        bench.kbd.write_port(0x60, 1, sent)
        assert bench.drain() == answer


def test_each_waiting_byte_is_an_edge_on_irq_1_when_it_is_on() -> None:
    bench = Bench()
    bench.command(0x60, 0x01)
    bench.kbd.write_port(0x60, 1, 0xF2)
    for _ in range(3):
        assert bench.line.level
        bench.kbd.read_port(0x60)
    assert bench.line.edges == [True, False] * 3


def test_mouse_port_says_that_nothing_is_there() -> None:
    bench = Bench()
    bench.command(0xD4, 0xFF)
    assert bench.kbd.read_port(0x64) & 0x21 == 0x21
    assert bench.drain() == [0xFE]


def test_reset_by_pulse_and_by_output_port() -> None:
    bench = Bench()
    bench.command(0xFE)
    bench.command(0xD1, 0xDE)
    assert bench.resets == 2
    bench.command(0xFF)  # pulses nothing
    assert bench.resets == 2
