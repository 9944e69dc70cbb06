"""Programs that write while they are moved: they do what they say, and notice a page that is not as they left it."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

import pytest

from vilab.guests.build import PREBUILT, bundled_program_names
from vilab.guests.bundled import BUNDLED
from vilab.guests.load import load
from vilab.vmm.vm import QuietConsole, VirtualMachine

ENGINES = ("bt", "svm")
MEMORY_BYTES = 8 << 20
PAGE, WORDS = 4096, 1024
MASK = 0xFFFFFFFF


class Guest:
    def __init__(self, command_line: str, engine: str, typed: bytes = b"") -> None:
        self.console = QuietConsole(typed)
        image = load("kernel-writer", memory_bytes=MEMORY_BYTES, append=command_line)
        self.vm = VirtualMachine(image, engine, MEMORY_BYTES, console=self.console)

    @property
    def output(self) -> str:
        return self.console.output.decode().replace("\r\n", "\n")

    def run(self) -> str:
        ended = self.vm.engine.run()
        assert ended.reason == "powered_off", self.output
        return self.output

    def run_for(self, duration_ns: int) -> None:
        stop = self.vm.clock.at(self.vm.clock.now_ns + duration_ns, self.vm.engine.pause)
        ended = self.vm.engine.run()
        stop.cancel()
        assert ended is None or ended.reason == "paused", self.output

    def run_until(self, words: str) -> None:
        for _ in range(400):
            if words in self.output:
                return
            self.run_for(20_000_000)
        raise AssertionError(f"it has not said {words!r}: {self.output[-1000:]}")

    def place_of(self, page: int, seed: int) -> int:
        """The guest-physical address of the program's page: its second half is as it was filled."""
        half = page_of(seed, page, 0)[PAGE // 2 :]
        content = self.vm.pmap.content()
        at = content.index(half)
        assert content.count(half) == 1
        return at - PAGE // 2


def value(seed: int, page: int, number: int) -> int:
    return ((seed << 20 & MASK ^ page) * 2654435761 + number * 2246822519) & MASK


def page_of(seed: int, page: int, writes: int) -> bytes:
    words = [value(seed, page, n) for n in range(-WORDS, 0)]
    for n in range(writes):
        words[n % WORDS] = value(seed, page, n)
    return struct.pack("<1024I", *words)


def chosen(seed: int) -> Iterator[int]:
    x = seed * 2654435761 & MASK | 1
    while True:
        x ^= x << 13 & MASK
        x ^= x >> 17
        x ^= x << 5 & MASK
        yield x


def checksum(seed: int, counts: list[int]) -> int:
    total = 2166136261
    for page, count in enumerate(counts):
        for word in struct.unpack("<1024I", page_of(seed, page, count)):
            total = ((total << 5 | total >> 27) & MASK ^ word) * 16777619 & MASK
    return total


def writer_counts(pages: int, hot: int, rate: int, cold: int, ticks: int, seed: int) -> list[int]:
    counts, random, next_cold = [0] * pages, chosen(seed), 0
    for _ in range(ticks):
        for _ in range(rate):
            counts[next(random) % hot] += 1
        for _ in range(cold):
            counts[hot + next_cold % (pages - hot)] += 1
            next_cold += 1
    return counts


@pytest.mark.parametrize("engine", ENGINES)
def test_writer_writes_what_it_says_and_counts_as_it_goes(engine: str) -> None:
    output = Guest("init=writer 40 6 9 2 10 3 5", engine).run()
    counts = writer_counts(40, 6, 9, 2, 30, 5)
    assert sum(counts) == 330
    lines = re.findall(r"^writer: .*$", output, re.MULTILINE)
    assert lines == [
        "writer: 40 pages filled, 6 hot, 9 and 2 writes a tick, seed 5",
        "writer: report 1, 110 writes, ok",
        "writer: report 2, 220 writes, ok",
        "writer: report 3, 330 writes, ok",
        f"writer: 330 writes, checksum {checksum(5, counts):08x}, all ok",
    ]


@pytest.mark.parametrize("engine", ENGINES)
def test_muncher_writes_every_page_in_every_sweep(engine: str) -> None:
    """More sweeps than a page has words: the oldest words go first."""
    output = Guest("init=writer-muncher 10 600 2 3", engine).run()
    assert re.findall(r"^writer-muncher: .*$", output, re.MULTILINE) == [
        "writer-muncher: 10 pages filled, seed 3",
        "writer-muncher: report 1, 6000 writes, ok",
        "writer-muncher: report 2, 12000 writes, ok",
        f"writer-muncher: 12000 writes, checksum {checksum(3, [1200] * 10):08x}, all ok",
    ]


def test_it_can_be_typed_into_the_shell() -> None:
    output = Guest("", "bt", b"writer 20 4 5 1 2 1 3\rwriter-muncher 4 5 1\rpoweroff\r").run()
    assert "shell> writer 20 4 5 1 2 1 3\nwriter: 20 pages filled, 4 hot, 5 and 1 writes a tick, seed 3\n" in output
    assert "writer: report 1, 12 writes, ok\n" in output
    assert "writer-muncher: report 1, 20 writes, ok\n" in output
    assert output.count("all ok\n") == 2


def test_several_of_them_run_at_the_same_time() -> None:
    """For rules that stop one process of several."""
    output = Guest("init=together writer 20 4 5 1 2 3 + writer-muncher 8 9999 + writer 10 1", "svm").run()
    assert "writer: report 3, 36 writes, ok\n" in output
    assert "writer-muncher: report 1, 79992 writes, ok\n" in output
    assert "writer: 10 pages filled, 1 hot, 8 and 1 writes a tick, seed 1\n" in output
    assert "wrong" not in output


@pytest.mark.parametrize("engine", ENGINES)
def test_a_wrong_byte_is_noticed_wherever_it_is(engine: str) -> None:
    """In a page that is not written at all: the check of all pages in turn finds it."""
    guest = Guest("init=writer 32 4 4 0 1 40 9", engine)
    guest.run_until("report 3,")
    at = guest.place_of(20, 9) + 4 * 777 + 2
    (before,) = guest.vm.pmap.look(at, 1)
    guest.vm.pmap.write(at, bytes([before ^ 0x40]))
    output = guest.run()
    right = value(9, 20, 777 - WORDS)
    assert f"writer: page 20 word 777 holds {right ^ 0x400000:08x}, not {right:08x}\n" in output
    assert re.search(r"writer: \d+ writes, checksum [0-9a-f]{8}, all wrong", output)
    assert "writer has ended with status 1" in output
    assert "ok\n" in output, "before"


@pytest.mark.parametrize("engine", ENGINES)
def test_a_page_as_it_was_a_while_ago_is_noticed(engine: str) -> None:
    """What a migration does that loses a dirty page. Every word of it was right once."""
    guest = Guest("init=writer 16 4 8 0 5 0 2", engine)
    guest.run_until("report 2,")
    at = guest.place_of(1, 2)
    old = guest.vm.pmap.look(at, PAGE)
    guest.run_until("report 6,")
    assert "wrong" not in guest.output
    assert guest.vm.pmap.look(at, PAGE) != old, "written since"
    guest.vm.pmap.write(at, old)
    guest.run_until("wrong")
    assert "writer: page 1 word " in guest.output


def test_a_lost_count_is_noticed() -> None:
    """The counts of writes lie in a page, too. If that one is old, its pages seem to be from the future."""
    guest = Guest("init=writer-muncher 16 20000 0 2", "svm")
    guest.run_until("report 1,")
    at = place_of_counts(guest.vm.pmap.content())
    old = guest.vm.pmap.look(at, PAGE)
    guest.run_for(1_000_000)
    assert guest.vm.pmap.look(at, PAGE) != old
    assert "wrong" not in guest.output
    guest.vm.pmap.write(at, old)
    guest.run_until("wrong")
    assert guest.output.count(" word ") == 8, "it does not go on complaining for ever"


def place_of_counts(content: bytes) -> int:
    """Sixteen counts at the beginning of a page, none more than one ahead of another, and zeros after them."""
    for at in range(0, len(content), PAGE):
        counts = struct.unpack_from("<16I", content, at)
        if min(counts) >= 20_000 and max(counts) - min(counts) <= 1 and not any(content[at + 64 : at + PAGE]):
            return at
    raise AssertionError("no page of counts")


@pytest.mark.parametrize("engine", ENGINES)
def test_what_it_makes_dirty_is_its_hot_set_and_a_few_others(engine: str) -> None:
    """30 ticks of 40 writes into 24 pages and 2 into others: 24 + 60, and the pages of its counts, stack and kernel."""
    guest = Guest("init=writer 600 24 40 2 30 0", engine)
    guest.run_until("report 1,")
    before = guest.vm.pmap.content()
    guest.run_until("report 2,")
    after = guest.vm.pmap.content()
    changed = sum(before[at : at + PAGE] != after[at : at + PAGE] for at in range(0, len(before), PAGE))
    assert 24 + 60 - 4 <= changed <= 24 + 60 + 30


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("writer 0", "writer: no room for 0 pages"),
        ("writer 400000", "writer: no room for 400000 pages"),
        ("writer 4 9 1 5 1 1", "writer: 4 pages filled, 4 hot, 1 and 0 writes a tick"),
        ("writer 4 0 7 1 1 2", "writer: 2 writes, checksum"),
        ("writer 4 2 1 1 0 1", "writer: report 1, 2 writes, ok"),
        ("writer-muncher 0", "writer-muncher: no room for 0 pages"),
        ("writer-muncher 3 0 2", "writer-muncher: report 2, 6 writes, ok"),
    ],
)
def test_arguments_at_their_edges(arguments: str, words: str) -> None:
    output = Guest(f"init={arguments}", "svm").run()
    assert words in output
    assert "wrong" not in output


def test_state_goes_to_another_machine_and_it_does_not_notice() -> None:
    """Twice the same run, once with a move of everything in the middle: the same lines, the same checksum."""
    line = "init=writer 100 10 20 3 5 8 4"
    whole = Guest(line, "svm").run()
    first, second = Guest(line, "svm"), Guest(line, "svm")
    first.run_until("report 4,")
    second.vm.load_state(first.vm.save_state())
    assert first.output + second.run() == whole
    assert "all ok" in whole


def test_every_program_of_it_has_a_name_to_run_it_by() -> None:
    names = bundled_program_names("writer")
    assert names[: len(bundled_program_names("network"))] == bundled_program_names("network")
    own = set(names) - set(bundled_program_names("network"))
    assert own == {"writer", "writer-muncher"}
    assert {name for name in own if BUNDLED[name].file == "kernel-writer.elf"} == own
    assert (PREBUILT / "kernel-writer.elf").is_file()
