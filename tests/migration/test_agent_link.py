"""The link in one process: what arrives, when, and what is left when it is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.migration.agent_hosts import Got, Pages, Stunned, session
from vilab.clock import VirtualClock
from vilab.errors import AdminError
from vilab.migration.agent_link import CHUNK_BYTES, SEGMENT_BYTES, LinkEnd, LinkSettings, MemoryLink
from vilab.migration.agent_port import AgentPort
from vilab.migration.agent_session import Received
from vilab.protocols import ReadableBytes

GIGABIT = 125_000_000


class Ear:
    """What has arrived at an end, and when."""

    def __init__(self, clock: VirtualClock, end: LinkEnd) -> None:
        self.clock = clock
        self.heard: list[tuple[int, int]] = []
        self.data = b""
        self.ends: list[tuple[int, str]] = []
        end.on_data, end.on_end = self._data, self._end

    def _data(self, data: ReadableBytes) -> None:
        self.heard.append((self.clock.now_ns, len(data)))
        self.data += bytes(data)

    def _end(self, why: str) -> None:
        self.ends.append((self.clock.now_ns, why))


def made(bandwidth: int = GIGABIT, delay_ns: int = 0, loss: float = 0.0, seed: int = 0) -> tuple[
    VirtualClock, MemoryLink, Ear, Ear
]:  # fmt: skip
    clock = VirtualClock()
    link = MemoryLink(clock, LinkSettings(bandwidth, delay_ns, loss, seed), ("esx1", "esx2"))
    return clock, link, Ear(clock, link.a), Ear(clock, link.b)


def test_bytes_take_their_time_on_the_line_and_then_the_delay() -> None:
    clock, link, _, ear = made(bandwidth=1000, delay_ns=7)
    link.a.send([b"x" * 10, b"y" * 20])
    clock.run_to(10_000_006)
    assert ear.heard == []
    clock.run_to(10_000_007)
    assert ear.heard == [(10_000_007, 10)]
    clock.run_to(1 << 40)
    assert ear.heard[1:] == [(30_000_007, 20)]
    assert ear.data == b"x" * 10 + b"y" * 20
    assert clock.next_ns() > 1 << 60


@given(
    st.lists(st.tuples(st.integers(0, 5_000_000), st.integers(0, 200_000)), max_size=8),
    st.integers(1000, 1 << 32), st.integers(0, 1_000_000), st.sampled_from([0.0, 0.01, 0.3]),
)  # fmt: skip
def test_everything_arrives_once_in_order_and_never_faster_than_the_line(
    sends: list[tuple[int, int]], bandwidth: int, delay_ns: int, loss: float
) -> None:
    clock, link, _, ear = made(bandwidth, delay_ns, loss)
    said = b""
    for number, (wait_ns, size) in enumerate(sends):
        clock.run_for(wait_ns)
        said += bytes([number]) * size
        link.a.send([bytes([number]) * size])
    began_ns = sends[0][0] if sends else 0
    clock.run_to(1 << 60)
    assert ear.data == said
    at = 0
    for when_ns, size in ear.heard:
        at += size
        assert when_ns - began_ns >= delay_ns + at * 1_000_000_000 // bandwidth
    assert [when for when, _ in ear.heard] == sorted(when for when, _ in ear.heard)
    assert link.a.waiting_bytes == 0
    assert link.a.sent_bytes == len(said)


def test_a_line_that_was_idle_begins_when_something_is_sent() -> None:
    clock, link, _, ear = made(bandwidth=1000)
    for at_ns in (0, 50_000_000):
        clock.run_to(at_ns)
        link.a.send([b"x" * 10])
    clock.run_for(1 << 40)
    assert ear.heard == [(10_000_000, 10), (60_000_000, 10)]


def test_both_directions_have_the_whole_bandwidth() -> None:
    clock, link, ear_a, ear_b = made(bandwidth=1000)
    link.a.send([b"x" * 10])
    link.b.send([b"y" * 10])
    clock.run_for(1 << 40)
    assert ear_a.heard == ear_b.heard == [(10_000_000, 10)]


def test_what_waits_is_what_the_line_has_not_taken() -> None:
    clock, link, _, _ = made(bandwidth=CHUNK_BYTES, delay_ns=5)
    link.a.send([bytes(3 * CHUNK_BYTES)])
    assert link.a.waiting_bytes == 3 * CHUNK_BYTES
    assert link.a.free_ns == 3_000_000_000
    clock.run_to(1_000_000_000)
    assert link.a.waiting_bytes == 2 * CHUNK_BYTES
    clock.run_to(3_000_000_000)
    assert link.a.waiting_bytes == 0
    assert link.a.free_ns == clock.now_ns
    clock.run_to(4_000_000_000)
    assert link.a.free_ns == clock.now_ns


def test_what_its_owner_changes_after_sending_it_is_not_changed() -> None:
    clock, link, _, ear = made()
    page = bytearray(b"before")
    link.a.send([memoryview(page), page])
    page[:] = b"after!"
    clock.run_for(1 << 40)
    assert ear.data == b"beforebefore"


def test_loss_costs_time_and_nothing_else() -> None:
    sizes = 40 * CHUNK_BYTES
    times = []
    for loss in (0.0, 0.01, 0.2):
        clock, link, _, ear = made(delay_ns=100_000, loss=loss, seed=3)
        link.a.send([bytes(sizes)])
        clock.run_for(1 << 40)
        assert len(ear.data) == sizes
        times.append(ear.heard[-1][0])
    assert times == sorted(times)
    assert times[0] == sizes * 8 + 100_000
    # Of all segments a fifth is sent twice, a fifth of those three times, ...: a quarter more in all.
    assert times[2] - 100_000 == pytest.approx(sizes * 8 * 1.25, rel=0.05)


def test_the_same_seed_loses_the_same_segments() -> None:
    def arrivals(seed: int) -> list[tuple[int, int]]:
        clock, link, _, ear = made(delay_ns=50_000, loss=0.05, seed=seed)
        link.a.send([bytes(20 * CHUNK_BYTES)])
        clock.run_for(1 << 40)
        return ear.heard

    assert arrivals(1) == arrivals(1)
    assert arrivals(1) != arrivals(2)


def test_a_lost_segment_holds_up_what_is_behind_it() -> None:
    """A loss of nearly all: the round trips add up, and nothing overtakes."""
    clock, link, _, ear = made(delay_ns=1_000_000, loss=0.9, seed=1)
    link.a.send([b"x" * SEGMENT_BYTES])
    link.a.send([b"y"])
    clock.run_for(1 << 50)
    assert ear.data == b"x" * SEGMENT_BYTES + b"y"
    assert ear.heard[0][0] > 3_000_000


def test_a_stall_shifts_everything_by_its_length() -> None:
    def arrivals(stall: bool) -> list[tuple[int, int]]:
        clock, link, _, ear = made(bandwidth=1000, delay_ns=500)
        link.a.send([b"x" * 10])
        clock.run_to(5_000_000)
        if stall:
            link.stall()
            link.stall()
            clock.run_for(70_000)
            link.a.send([b"z" * 10])
            clock.run_for(1_000_000_000)
            assert ear.heard == []
            assert link.a.waiting_bytes == 20
            link.resume()
        else:
            link.a.send([b"z" * 10])
        assert not link.stalled
        clock.run_for(1 << 40)
        return ear.heard

    moved = [(at_ns + 1_000_070_000, size) for at_ns, size in arrivals(False)]
    assert arrivals(True) == moved


def test_a_cut_loses_what_is_under_way_and_both_ends_hear_of_it() -> None:
    clock, link, ear_a, ear_b = made(bandwidth=1000, delay_ns=1000)
    link.a.send([b"x" * 10])
    link.b.send([b"y" * 20])
    clock.run_to(10_001_000)
    link.a.send([b"lost"])
    link.cut()
    link.cut()
    link.a.send([b"lost too"])
    clock.run_for(1 << 40)
    why = "The link between host esx1 and host esx2 was cut."
    assert ear_b.data == b"x" * 10
    assert ear_a.data == b""
    assert ear_a.ends == ear_b.ends == [(10_001_000, why)]
    assert not any([link.a.open, link.b.open])
    assert link.a.waiting_bytes == 0
    link.a.send([b"more"])
    link.a.close()
    clock.run_for(1 << 40)
    assert ear_b.data == b"x" * 10


def test_a_cut_in_a_stall_is_heard() -> None:
    clock, link, ear_a, _ = made()
    link.stall()
    link.a.send([b"x"])
    link.cut()
    clock.run_for(1)
    assert len(ear_a.ends) == 1
    link.resume()
    clock.run_for(1 << 40)
    assert len(ear_a.ends) == 1


def test_who_closes_is_heard_to_the_end() -> None:
    clock, link, ear_a, ear_b = made(bandwidth=1000, delay_ns=50)
    link.a.send([b"x" * 10])
    link.b.send([b"y" * 5])
    link.a.close()
    link.a.close()
    link.a.send([b"no more"])
    clock.run_for(1 << 40)
    assert ear_b.data == b"x" * 10
    assert ear_b.ends == [(10_000_050, "Host esx1 has closed the link to host esx2.")]
    assert (ear_a.data, ear_a.ends) == (b"", [])
    assert not link.b.open


def test_a_close_after_a_long_silence_arrives_after_the_delay() -> None:
    clock, link, _, ear_b = made(delay_ns=50)
    clock.run_to(1000)
    link.a.close()
    clock.run_for(1 << 40)
    assert ear_b.ends[0][0] == 1050


def test_an_error_of_a_listener_does_not_stop_the_link() -> None:
    clock, link, _, ear = made(bandwidth=1000)
    heard = link.b.on_data

    def fails(data: ReadableBytes) -> None:
        link.b.on_data = heard
        raise AdminError("No.")

    link.b.on_data = fails
    link.a.send([b"x", b"y", b"z"])
    with pytest.raises(AdminError):
        clock.run_for(1 << 40)
    clock.run_for(1 << 40)
    assert ear.data == b"yz"


def test_answers_are_sent_from_within_what_is_heard() -> None:
    clock, link, ear_a, _ = made(bandwidth=1000, delay_ns=1)
    link.b.on_data = lambda data: link.b.send([bytes(data).upper()])
    link.a.send([b"hello"])
    clock.run_for(1 << 40)
    assert ear_a.heard == [(10_000_002, 5)]
    assert ear_a.data == b"HELLO"


@pytest.mark.parametrize(
    ("bandwidth", "delay_ns", "loss"), [(0, 0, 0.0), (-1, 0, 0.0), (1, -1, 0.0), (1, 0, 1.0), (1, 0, -0.1)]
)
def test_a_link_that_cannot_be_is_refused(bandwidth: int, delay_ns: int, loss: float) -> None:
    with pytest.raises(AdminError, match="cannot be: give"):
        LinkSettings(bandwidth, delay_ns, loss)


# --- with agents at both ends -----------------------------------------------------------------------------------------


class Agents:
    """Two agents over a link: what they have heard, and the sentences at the end."""

    def __init__(self, delay_ns: int = 1000) -> None:
        self.clock, self.link, _, _ = made(delay_ns=delay_ns)
        self.got: dict[str, list[Got]] = {"esx1": [], "esx2": []}
        self.ended: dict[str, list[str]] = {"esx1": [], "esx2": []}
        self.b = self._port("esx2", self.link.b)
        self.a = self._port("esx1", self.link.a)

    def _port(self, name: str, end: LinkEnd) -> AgentPort:
        got, ended = self.got[name], self.ended[name]
        return AgentPort(
            session(name, name == "esx1"), end, lambda one: got.append((one.message, bytes(one.body))), ended.append
        )

    def run(self) -> None:
        self.clock.run_for(1 << 40)


def test_agents_meet_and_talk_over_a_link() -> None:
    agents = Agents()
    agents.a.send(Pages(1), [b"p" * 300_000])
    agents.b.send(Stunned("both ways"))
    agents.run()
    assert agents.got == {"esx1": [(Stunned("both ways"), b"")], "esx2": [(Pages(1), b"p" * 300_000)]}
    agents.a.close()
    agents.a.send(Stunned("not any more"))
    agents.run()
    assert agents.ended == {"esx1": [], "esx2": ["Host esx1 has closed the link to host esx2."]}
    assert not agents.b.open


@pytest.mark.parametrize("fault", ["corrupt", "drop", "reorder", "truncate", "repeat"])
def test_a_link_that_damages_the_stream_ends_it_on_both_sides(fault: str) -> None:
    agents = Agents()
    agents.run()
    count, held = 0, b""

    def damage(data: ReadableBytes) -> bytes:
        """The second chunk."""
        nonlocal count, held
        count += 1
        raw = bytes(data)
        match fault, count:
            case "corrupt", 2:
                return raw[:-1] + bytes([raw[-1] ^ 4])
            case "drop", 2:
                return b""
            case "truncate", 2:
                return raw[:-1]
            case "repeat", 2:
                return raw + raw
            case "reorder", 2:
                held = raw
                return b""
            case "reorder", 3:
                return raw + held
        return raw

    agents.link.a.faults = damage
    for number in range(4):
        agents.a.send(Pages(number), [bytes(CHUNK_BYTES // 2)])
        agents.run()
    received = [message for message, _ in agents.got["esx2"]]
    assert received == [Pages(number) for number in range(len(received))]
    assert len(received) < 4
    assert len(agents.ended["esx1"]) == len(agents.ended["esx2"]) == 1
    assert agents.ended["esx1"] == agents.ended["esx2"]
    assert agents.ended["esx2"][0].startswith("Host esx2 ended the connection with host esx1: host esx1 sends")
    assert not any(end.open for end in (agents.a, agents.b, agents.link.a, agents.link.b))


def test_a_cut_in_the_middle_of_a_frame_is_one_sentence_on_each_side() -> None:
    agents = Agents()
    agents.run()
    agents.a.send(Pages(1), [bytes(4 * CHUNK_BYTES)])
    agents.clock.run_for(CHUNK_BYTES * 8 * 2)
    agents.link.cut()
    agents.run()
    assert agents.got["esx2"] == []
    assert agents.ended["esx1"] == ["The link between host esx1 and host esx2 was cut."]
    assert agents.ended["esx2"] == [
        "Host esx2 ended the connection with host esx1: the stream ended in the middle of a frame, look whether host "
        "esx1 is still up (The link between host esx1 and host esx2 was cut)."
    ]


def test_faults_of_the_link_are_of_both_directions() -> None:
    agents = Agents()
    agents.link.faults = lambda data: b""
    assert agents.link.faults is agents.link.b.faults
    agents.run()
    assert not any(port.session.established for port in (agents.a, agents.b))
    agents.link.faults = None
    agents.link.cut()
    agents.run()
    assert "before both had shown that they know the secret" in agents.ended["esx1"][0]


def test_a_refusal_is_heard_before_the_link_closes() -> None:
    agents = Agents()
    agents.run()
    agents.b.refuse("no memory is left on host esx2.")
    agents.b.refuse("again")
    agents.run()
    assert agents.ended == {
        "esx1": ["Host esx2 ended the connection with host esx1: no memory is left on host esx2."],
        "esx2": [],
    }


def test_whoever_closes_in_the_middle_of_what_came_hears_no_more_of_it() -> None:
    agents = Agents()
    agents.run()
    heard: list[int] = []

    def close(one: object) -> None:
        heard.append(1)
        agents.b.close()

    agents.b._heard = close
    agents.a.session.send(Stunned("one"))
    agents.a.session.send(Stunned("two"))
    agents.link.a.send([b"".join(agents.a.session.output())])
    agents.run()
    assert heard == [1]


def test_an_answer_to_what_came_before_the_damage_is_not_sent_any_more() -> None:
    agents = Agents()
    agents.run()
    heard: list[object] = []

    def answer(one: Received) -> None:
        heard.append(one.message)
        agents.b.send(Stunned("answer"))
        agents.b.refuse("no")

    agents.b._heard = answer
    agents.link.a.faults = lambda data: bytes(data) + bytes(100)
    agents.a.send(Stunned("whole"))
    agents.run()
    assert heard == [Stunned("whole")]
    assert agents.got["esx1"] == []
    assert len(agents.ended["esx1"]) == len(agents.ended["esx2"]) == 1
