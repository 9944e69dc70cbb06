"""Several ways to one LUN: policies, failover with nothing lost, reservations that move along."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.storage.san import DISK_BYTES, PORTS, San, claim
from vilab.errors import AdminError
from vilab.protocols import Lun, ReadableBytes
from vilab.storage.block import BlockError, ReservationConflict, ReservationLost
from vilab.storage.luns.fc_events import LunTrespassed
from vilab.storage.luns.paths import EVALUATION_NS, MultipathLun
from vilab.storage.scsi.lun_identity import Answer
from vilab.storage.storage_events import PathsLost, PathStateChanged, PathSwitched, ReservationMoved


def test_paths_are_sorted_by_the_disk_that_they_lead_to():
    san = San(disks=3)
    luns = claim(san.hosts[0].paths(), "fixed", san.clock, san.log)
    assert [sorted(lun.states) for lun in luns] == [
        [f"vmhba{a}:{t}:{n}" for a in (1, 2) for t in (0, 1)] for n in range(3)
    ]
    assert len({lun.identity.name for lun in luns}) == 3
    luns[1].write(0, b"\x01" * 512)
    assert san.disks[1].content[:512] == b"\x01" * 512
    assert luns[1].identity.name == "naa." + san.array.target.units[1].identity.naa.hex()
    typed: Lun = luns[0]
    assert typed.size_bytes == DISK_BYTES


def test_a_block_device_like_any_other():
    lun = San().lun()
    data = random.Random(1).randbytes(3 << 20)
    lun.write(512, data)
    lun.flush()
    assert lun.read(512, len(data)) == data
    lun.unmap(1024, 1 << 20)
    assert lun.read(512, 1024 + (1 << 20)) == data[:512] + bytes(1 << 20) + data[512 + (1 << 20) :][:512]


def test_fixed_goes_back_to_its_preferred_path_and_mru_does_not():
    for policy, after in (("fixed", "vmhba1:0:0"), ("mru", "vmhba1:1:0")):
        san = San()
        lun = san.lun(policy=policy)  # type: ignore[arg-type]
        assert lun.active == "vmhba1:0:0"
        san.pull("A0")
        lun.write(0, b"\x5a" * 512)
        assert lun.active == "vmhba1:1:0"
        assert lun.states["vmhba1:0:0"] == "dead"
        san.pull("A0", up=True)
        lun.watch()
        assert lun.active == "vmhba1:1:0", "nobody has looked yet"
        san.clock.advance(EVALUATION_NS)
        san.clock.run_due()
        assert lun.active == after
        lun.stop_watching()
        assert lun.read(0, 512) == b"\x5a" * 512
        assert {*lun.states.values()} == {"active", "standby"}
        switched = [(event.from_path, event.to_path) for event in san.log.of(PathSwitched)]
        assert switched[:2] == [("", "vmhba1:0:0"), ("vmhba1:0:0", "vmhba1:1:0")]
        assert len(switched) == (3 if policy == "fixed" else 2)


def test_all_paths_down_and_back():
    san = San()
    lun = san.lun()
    for port in PORTS:
        san.pull(port)
    with pytest.raises(BlockError, match="are dead") as caught:
        lun.read(0, 512)
    assert caught.value.kind == "away"
    assert lun.active is None
    assert set(lun.states.values()) == {"dead"}
    assert san.log.of(PathsLost)
    san.pull("B1", up=True)
    assert lun.read(0, 512) == bytes(512), "a command looks for itself"
    assert lun.active == "vmhba2:1:0"


def test_an_adapter_that_hears_of_changes_makes_the_paths_be_looked_at():
    san = San()
    lun = san.lun()
    for adapter in san.hosts[0].adapters:
        adapter.on_change = lun.check
    san.pull("A0")
    assert lun.active == "vmhba1:1:0", "before any command"
    san.pull("A0", up=True)
    assert lun.active == "vmhba1:0:0"


def test_the_administrator_switches_paths_off_and_on():
    san = San()
    lun = san.lun()
    lun.disable("vmhba1:0:0")
    assert lun.states["vmhba1:0:0"] == "disabled"
    lun.check()
    assert lun.active == "vmhba1:1:0"
    lun.set_policy("fixed", "vmhba2:0:0")
    assert lun.active == "vmhba2:0:0"
    for name in ("vmhba1:1:0", "vmhba2:1:0"):
        lun.disable(name)
    with pytest.raises(AdminError, match="the only path"):
        lun.disable("vmhba2:0:0")
    lun.enable("vmhba1:0:0")
    assert lun.states["vmhba1:0:0"] == "standby"
    assert "vmhba2:0:0   active *" in lun.describe()
    with pytest.raises(AdminError, match="no path vmhba9"):
        lun.disable("vmhba9:0:0")


def test_a_path_that_comes_later_is_used_too():
    san = San()
    paths = san.hosts[0].paths()
    (lun,) = claim(paths[:1], "mru", san.clock, san.log)
    lun.add(paths[1])
    lun.add(paths[1])
    assert len(lun.states) == 2
    san.pull("A0")
    assert lun.read(0, 512) == bytes(512)


# --- active/passive arrays --------------------------------------------------------------------------------------------


def test_a_passive_array_gives_the_lun_to_its_other_processor_where_the_first_is_lost():
    san = San("active/passive")
    lun = san.lun(policy="mru")
    lun.write(0, b"\x01" * 512)
    assert lun.active == "vmhba1:0:0"
    san.pull("A0")
    lun.read(0, 512)
    assert lun.active == "vmhba2:0:0", "the same processor over the other switch: no trespass"
    assert not san.log.of(LunTrespassed)
    san.pull("A1")
    assert lun.read(0, 512) == b"\x01" * 512
    assert lun.active == "vmhba1:1:0"
    assert [(e.from_processor, e.to_processor) for e in san.log.of(LunTrespassed)] == [("A", "B")]
    san.pull("A0", up=True)
    lun.check()
    assert lun.active == "vmhba1:1:0", "MRU stays"


def two_hosts_one_without_processor_a(policy: str) -> int:
    """Two hosts write in turn; how often the LUN moves between the processors."""
    san = San("active/passive", hosts=2)
    first, second = san.lun(0, policy), san.lun(1, policy)  # type: ignore[arg-type]
    for fabric, wwpn, port in zip(san.fabrics, san.hosts[1].wwpns, ("B0", "B1"), strict=True):
        others = san.hosts[0].wwpns
        fabric.set_zones({"all": [*others, *PORTS.values()], "b": [wwpn, PORTS[port]]})
    for number in range(10):
        first.write(512 * number, b"\x01" * 512)
        second.write(512 * (20 + number), b"\x02" * 512)
    return len(san.log.of(LunTrespassed))


def test_fixed_on_a_passive_array_makes_the_lun_go_back_and_forth_and_mru_does_not():
    assert two_hosts_one_without_processor_a("fixed") > 10
    assert two_hosts_one_without_processor_a("mru") == 1


# --- reservations -----------------------------------------------------------------------------------------------------


class SilentPath:
    """A path that stops answering though the array sees its session."""

    def __init__(self, path: object) -> None:
        self.path, self.silent = path, False
        self.answers = -1

    @property
    def name(self) -> str:
        return self.path.name  # type: ignore[attr-defined, no-any-return]

    @property
    def connected(self) -> bool:
        return self.path.connected  # type: ignore[attr-defined, no-any-return]

    def submit(self, cdb: bytes, data_out: ReadableBytes = b"") -> Answer:
        if self.silent:
            raise BlockError("away", f"{self.name} does not answer.")
        answer: Answer = self.path.submit(cdb, data_out)  # type: ignore[attr-defined]
        if self.answers == 0:
            raise BlockError("away", "the answer was lost")
        self.answers -= 1
        return answer

    def reset_unit(self) -> None:
        self.path.reset_unit()  # type: ignore[attr-defined]


def silent_san(hosts: int = 1) -> tuple[San, MultipathLun, list[SilentPath]]:
    san = San(hosts=hosts)
    paths = [SilentPath(path) for path in san.hosts[0].paths()]
    (lun,) = claim(paths, "fixed", san.clock, san.log)
    return san, lun, paths


@pytest.mark.parametrize("silent", [False, True])
def test_a_reservation_moves_to_the_next_path(silent: bool):
    san, lun, paths = silent_san(hosts=2)
    other = san.lun(1)
    lun.reserve()
    with pytest.raises(ReservationConflict):
        other.write(0, bytes(512))
    if silent:
        paths[0].silent = True
    else:
        san.pull("A0")
    lun.write(512, b"\x01" * 512)
    assert lun.active == "vmhba1:1:0"
    assert [(e.from_path, e.to_path, e.kept) for e in san.log.of(ReservationMoved)] == [
        ("vmhba1:0:0", "vmhba1:1:0", True)
    ]
    with pytest.raises(ReservationConflict):
        other.write(0, bytes(512))
    lun.release()
    other.write(0, b"\x02" * 512)
    assert lun.read(0, 1024) == b"\x02" * 512 + b"\x01" * 512


def test_while_a_lun_is_reserved_there_is_no_failback():
    san, lun, _ = silent_san()
    san.pull("A0")
    lun.reserve()
    assert lun.active == "vmhba1:1:0"
    san.pull("A0", up=True)
    lun.check()
    assert lun.active == "vmhba1:1:0"
    lun.release()
    lun.check()
    assert lun.active == "vmhba1:0:0"
    assert not san.log.of(ReservationMoved)


def test_an_administrator_who_disables_the_path_moves_the_reservation_without_a_gap():
    san, lun, _ = silent_san(hosts=2)
    other = san.lun(1)
    lun.reserve()
    lun.disable("vmhba1:0:0")
    assert [event.kept for event in san.log.of(ReservationMoved)] == [True]
    with pytest.raises(ReservationConflict):
        other.read(0, 512)


def test_where_another_host_was_quicker_the_reservation_is_lost_and_nothing_is_written():
    san, lun, _ = silent_san(hosts=2)
    other = san.lun(1)
    lun.reserve()
    san.pull("A0")
    other.reserve()
    with pytest.raises(ReservationLost, match="another host has reserved"):
        lun.write(0, b"\x01" * 512)
    assert san.disks[0].content[:512] == bytes(512)
    assert not lun.reserved
    assert [event.kept for event in san.log.of(ReservationMoved)] == [False]


def test_a_reset_by_another_host_is_told_to_whoever_had_reserved():
    san = San(hosts=2)
    lun, path = san.lun(0), san.hosts[1].paths()[0]
    lun.reserve()
    lun.read(0, 512)
    path.submit(bytes(6))
    path.reset_unit()
    with pytest.raises(ReservationLost, match="29/03"):
        lun.write(0, b"\x01" * 512)
    assert san.disks[0].content[:512] == bytes(512)
    lun.write(0, b"\x01" * 512)


def test_a_reservation_is_made_again_where_the_only_path_comes_back():
    san = San(hosts=2)
    (lun,) = claim(san.hosts[0].paths()[:1], "fixed", san.clock, san.log)
    other = san.lun(1)
    lun.reserve()
    san.pull("A0")
    with pytest.raises(BlockError, match="are dead"):
        lun.read(0, 512)
    san.pull("A0", up=True)
    lun.write(0, b"\x03" * 512)
    with pytest.raises(ReservationConflict):
        other.read(0, 512)
    san.pull("A0")
    with pytest.raises(BlockError, match="are dead"):
        lun.read(0, 512)
    other.reserve()
    san.pull("A0", up=True)
    with pytest.raises(ReservationLost):
        lun.write(0, b"\x04" * 512)
    assert san.disks[0].content[:512] == b"\x03" * 512


def test_a_command_whose_answer_is_lost_is_sent_again():
    _, lun, paths = silent_san()
    paths[0].answers = 0
    lun.write(0, b"\x07" * 512)
    assert lun.active == "vmhba1:1:0"
    assert lun.read(0, 512) == b"\x07" * 512


# --- at random --------------------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["pull", "plug", "write", "read", "check", "disable", "enable", "host down", "host up"]),
        st.integers(0, 3),
        st.integers(0, 63),
    ),
    max_size=40,
)


@settings(deadline=None, max_examples=150)
@given(
    steps=STEPS,
    policy=st.sampled_from(["fixed", "mru"]),
    kind=st.sampled_from(["active/active", "active/passive"]),
)
def test_whatever_is_pulled_a_write_is_there_or_refused_and_states_are_true(
    steps: list[tuple[str, int, int]], policy: str, kind: str
):
    san = San(kind)  # type: ignore[arg-type]
    lun = san.lun(policy=policy)  # type: ignore[arg-type]
    model = bytearray(64 * 512)
    names, ports = list(lun.states), list(PORTS)

    def usable() -> bool:
        host = san.hosts[0]
        return any(
            san.fabrics[int(path.name[5]) - 1].reachable(host.wwpns[int(path.name[5]) - 1], path.target)
            and lun.states[path.name] != "disabled"
            for path in known
        )

    known = san.hosts[0].paths()
    actions: dict[str, Callable[[int], None]] = {
        "pull": lambda n: san.pull(ports[n]),
        "plug": lambda n: san.pull(ports[n], up=True),
        "check": lambda n: lun.check(),
        "enable": lambda n: lun.enable(names[n]),
        "host down": lambda n: san.fabrics[n & 1].link(san.hosts[0].wwpns[n & 1], False),
        "host up": lambda n: san.fabrics[n & 1].link(san.hosts[0].wwpns[n & 1], True),
    }
    for number, (what, which, sector) in enumerate(steps):
        if what == "disable":
            try:
                lun.disable(names[which])
            except AdminError:
                assert "standby" not in lun.states.values()
        elif what in actions:
            actions[what](which)
        else:
            data = bytes([number + 1]) * 512
            if not usable():
                with pytest.raises(BlockError, match="are dead"):
                    lun.write(sector * 512, data)
            elif what == "write":
                lun.write(sector * 512, data)
                model[sector * 512 : sector * 512 + 512] = data
            else:
                assert lun.read(sector * 512, 512) == model[sector * 512 : sector * 512 + 512]
        assert [*lun.states.values()].count("active") == (lun.active is not None)
    assert san.disks[0].content[: len(model)] == model
    told: dict[str, str] = dict.fromkeys(names, "standby")
    for event in san.log.of(PathStateChanged):
        assert event.before == told[event.path]
        told[event.path] = event.after
    assert told == lun.states
