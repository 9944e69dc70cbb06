"""8259A: who goes first, against a second description of the chip; and the modes one by one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vilab.devices.pic import Pic

ICW = {0x20: (0x11, 0x20, 0x04, 0x01), 0xA0: (0x11, 0x28, 0x02, 0x01)}


def initialized(master_icw4: int = 0x01, slave_icw4: int = 0x01) -> Pic:
    pic = Pic()
    for base, icw4 in ((0x20, master_icw4), (0xA0, slave_icw4)):
        icw1, icw2, icw3, _ = ICW[base]
        pic.write_port(base, 1, icw1)
        for value in (icw2, icw3, icw4):
            pic.write_port(base + 1, 1, value)
    return pic


def isr(pic: Pic, base: int = 0x20) -> int:
    pic.write_port(base, 1, 0x0B)
    return pic.read_port(base)


def irr(pic: Pic, base: int = 0x20) -> int:
    pic.write_port(base, 1, 0x0A)
    return pic.read_port(base)


# -- a second description: lists of inputs in order of priority, walked from the top


class Chip:
    def __init__(self, base: int) -> None:
        self.base = base
        self.order = list(range(8))
        self.line = [False] * 8
        self.asked = [False] * 8
        self.served = [False] * 8
        self.masked = [False] * 8
        self.level = [False] * 8
        self.special = self.auto = self.auto_rotate = self.nested = False

    def winner(self) -> int | None:
        for i in self.order:
            if self.served[i] and not (self.special and self.masked[i]):
                again = self.nested and i == 2 and self.asked[i] and not self.masked[i]
                return i if again else None
            if self.asked[i] and not self.masked[i]:
                return i
        return None

    def rotate_to_bottom(self, i: int) -> None:
        at = self.order.index(i)
        self.order = self.order[at + 1 :] + self.order[: at + 1]

    def take(self, i: int) -> None:
        if not self.level[i]:
            self.asked[i] = False
        if self.auto:
            if self.auto_rotate:
                self.rotate_to_bottom(i)
        else:
            self.served[i] = True

    def set_line(self, i: int, high: bool) -> None:
        if high and not self.line[i]:
            self.asked[i] = True
        if not high:
            self.asked[i] = False
        self.line[i] = high

    def end(self, i: int | None, rotate: bool) -> None:
        if i is None:
            serving = [j for j in self.order if self.served[j] and not (self.special and self.masked[j])]
            if not serving:
                return
            i = serving[0]
        self.served[i] = False
        if rotate:
            self.rotate_to_bottom(i)


class Pair:
    def __init__(self, master_icw4: int, slave_icw4: int) -> None:
        self.chips = (Chip(0x20), Chip(0x28))
        for chip, icw4 in zip(self.chips, (master_icw4, slave_icw4), strict=True):
            chip.auto, chip.nested = bool(icw4 & 2), bool(icw4 & 16)

    def cascade(self) -> None:
        self.chips[0].set_line(2, self.chips[1].winner() is not None)

    def acknowledge(self) -> int:
        master, slave = self.chips
        i = master.winner()
        if i is None:
            return master.base + 7
        master.take(i)
        if i != 2:
            return master.base + i
        j = slave.winner()
        if j is None:
            return slave.base + 7
        slave.take(j)
        master.line[2] = False  # the slave's INT falls with INTA
        return slave.base + j


chips = st.integers(0, 1)
inputs = st.integers(0, 7)
ACTIONS = st.one_of(
    st.tuples(st.just("line"), st.integers(0, 15).filter(lambda n: n != 2), st.booleans()),
    st.tuples(st.just("acknowledge"), st.just(0), st.just(0)),
    st.tuples(st.just("poll"), chips, st.just(0)),
    st.tuples(st.just("mask"), chips, st.integers(0, 255)),
    st.tuples(st.just("eoi"), chips, st.booleans()),
    st.tuples(st.just("specific_eoi"), chips, st.tuples(inputs, st.booleans())),
    st.tuples(st.just("set_priority"), chips, inputs),
    st.tuples(st.just("special"), chips, st.booleans()),
    st.tuples(st.just("auto_rotate"), chips, st.booleans()),
    st.tuples(st.just("elcr"), chips, st.integers(0, 255)),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(ACTIONS, max_size=60), st.sampled_from((0x01, 0x03, 0x11, 0x13)), st.sampled_from((0x01, 0x03)))
def test_priorities_agree_with_a_walk_from_the_top(
    actions: list[tuple[str, int, object]], master_icw4: int, slave_icw4: int
) -> None:
    pic, pair = initialized(master_icw4, slave_icw4), Pair(master_icw4, slave_icw4)
    for what, which, argument in actions:
        chip, base = pair.chips[which & 1], (0x20, 0xA0)[which & 1]
        match what, argument:
            case "line", bool(high):
                pic.set_line(which, high)
                pair.chips[which >> 3].set_line(which & 7, high)
            case "acknowledge", _:
                assert pic.acknowledge() == pair.acknowledge()
            case "poll", _:
                pic.write_port(base, 1, 0x0C)
                i = chip.winner()
                assert pic.read_port(base) == (0 if i is None else 0x80 | i)
                if i is not None:
                    chip.take(i)
                    if which:
                        pair.chips[0].line[2] = False
            case "mask", int(mask):
                pic.write_port(base + 1, 1, mask)
                chip.masked = [bool(mask >> i & 1) for i in range(8)]
            case "eoi", bool(rotate):
                pic.write_port(base, 1, 0xA0 if rotate else 0x20)
                chip.end(None, rotate)
            case "specific_eoi", (int(i), bool(rotate)):
                pic.write_port(base, 1, (0xE0 if rotate else 0x60) | i)
                chip.end(i, rotate)
            case "set_priority", int(i):
                pic.write_port(base, 1, 0xC0 | i)
                chip.rotate_to_bottom(i)
            case "special", bool(on):
                pic.write_port(base, 1, 0x68 if on else 0x48)
                chip.special = on
            case "auto_rotate", bool(on):
                pic.write_port(base, 1, 0x80 if on else 0x00)
                chip.auto_rotate = on
            case "elcr", int(bits):
                pic.write_port(0x4D0 + which, 1, bits)
                bits &= (0xF8, 0xDE)[which]
                chip.level = [bool(bits >> i & 1) for i in range(8)]
                for i in range(8):
                    if chip.level[i]:
                        chip.asked[i] = chip.line[i]
        pair.cascade()
        assert pic.pending() == (pair.chips[0].winner() is not None)
        for chip, base in zip(pair.chips, (0x20, 0xA0), strict=True):
            assert irr(pic, base) == sum(asked << i for i, asked in enumerate(chip.asked))
            assert isr(pic, base) == sum(served << i for i, served in enumerate(chip.served))


def test_nothing_comes_through_before_the_guest_has_initialized_the_chips() -> None:
    pic = Pic()
    for irq in (0, 1, 3, 4, 5, 6, 7, *range(8, 16)):
        pic.line(irq).set_level(True)
    assert not pic.pending()
    assert pic.all_masked()


def test_slave_interrupt_needs_an_eoi_on_both_chips() -> None:
    pic = initialized()
    pic.line(8).set_level(True)
    assert pic.acknowledge() == 0x28
    assert (isr(pic), isr(pic, 0xA0)) == (0x04, 0x01)
    pic.line(3).set_level(True)
    assert not pic.pending()
    pic.write_port(0xA0, 1, 0x20)
    pic.write_port(0x20, 1, 0x20)
    assert pic.acknowledge() == 0x23


def test_request_that_goes_away_before_inta_is_a_spurious_irq_7_without_isr_bit() -> None:
    pic = initialized()
    pic.line(3).set_level(True)
    pic.line(3).set_level(False)
    assert not pic.pending()
    assert pic.acknowledge() == 0x27
    assert isr(pic) == 0


def test_edge_input_interrupts_once_and_level_input_until_it_falls() -> None:
    pic = initialized(master_icw4=0x03)
    pic.line(5).set_level(True)
    assert pic.acknowledge() == 0x25
    assert not pic.pending()
    pic.line(5).set_level(False)
    pic.write_port(0x4D0, 1, 0x20)
    pic.line(5).set_level(True)
    for _ in range(3):
        assert pic.acknowledge() == 0x25
    pic.line(5).set_level(False)
    assert not pic.pending()


def test_initialization_forgets_masks_and_latched_edges() -> None:
    pic = initialized()
    pic.write_port(0x21, 1, 0xFE)
    pic.line(3).set_level(True)
    pic.write_port(0x20, 1, 0x11)
    assert pic.read_port(0x21) == 0
    assert irr(pic) == 0


def test_icw4_is_not_awaited_when_icw1_does_not_announce_it() -> None:
    pic = Pic()
    pic.write_port(0x20, 1, 0x10)
    pic.write_port(0x21, 1, 0x40)
    pic.write_port(0x21, 1, 0x04)
    pic.write_port(0x21, 1, 0xAB)
    assert pic.read_port(0x21) == 0xAB
    pic = Pic()
    pic.write_port(0x20, 1, 0x12)
    pic.write_port(0x21, 1, 0x40)
    pic.write_port(0x21, 1, 0xCD)
    assert pic.read_port(0x21) == 0xCD


def test_engine_hears_every_change_of_intr_and_nothing_else() -> None:
    heard: list[bool] = []
    pic = Pic(heard.append)
    for value, port in ((0x11, 0x20), (0x20, 0x21), (0x04, 0x21), (0x01, 0x21)):
        pic.write_port(port, 1, value)
    pic.line(1).set_level(True)
    pic.line(4).set_level(True)
    pic.acknowledge()
    pic.write_port(0x20, 1, 0x20)
    pic.acknowledge()
    assert heard == [True, False, True, False]


def test_all_masked_knows_that_a_masked_slave_closes_the_cascade() -> None:
    pic = initialized()
    pic.write_port(0x21, 1, 0xFB)
    assert not pic.all_masked()
    pic.write_port(0xA1, 1, 0xFF)
    assert pic.all_masked()


@pytest.mark.parametrize("irq", [-1, 2, 16])
def test_line_that_does_not_exist_is_refused(irq: int) -> None:
    with pytest.raises(ValueError, match="no input for IRQ"):
        Pic().line(irq)
