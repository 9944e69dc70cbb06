"""Exercises of lesson 17: what may stay in the VMM, and when frames that wait are worth a world switch. The judges: the
card itself, in recorded runs, and the hosted product with the student's rule in it.

::

    17a   may_stay(access) ──> bool             what has reached the card's port after each access
    17b   switch_now(waiting) ──> bool          a guest that runs: switches made for frames, and how long frames waited
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial

import msgspec

from vilab.course.exercise_student import call, yes_or_no
from vilab.course.feedback import Feedback, WrongAnswer, columns, right
from vilab.devices import pcnet_registers as r
from vilab.errors import AdminError
from vilab.host.hosted_lance import Access, HostedLance
from vilab.host.hosted_machine import GUEST_IP, HostedMachine
from vilab.host.hosted_product import ALL, FORCED, HostedProduct, Waiting
from vilab.host.world_costs import WORLD_COSTS
from vilab.protocols import NetworkInterface, NetworkPort

# 17a -------------------------------------------------------------------------------------------------------------

MayStay = Callable[[Access], object]
FIRST_RUNS, OTHER_RUNS = ("a driver starts", "netsend"), ("netsink", "another driver")
FRAME = "a frame"
SHOWN = 4
"""Accesses before the wrong one that are shown."""


class Judged(msgspec.Struct, frozen=True):
    """An access of a run. ``reached``: what came to the host because of it; empty: nothing."""

    access: Access
    reached: str = ""


class _Listening:
    """A ``NetworkPort`` in front of another one, which says what reaches it."""

    def __init__(self, port: NetworkPort, reached: Callable[[str], None]) -> None:
        self.port, self._reached = port, reached

    @property
    def link_up(self) -> bool:
        return self.port.link_up

    def plug(self, interface: NetworkInterface) -> None:
        self.port.plug(interface)

    def transmit(self, frame: bytes) -> None:
        self._reached(FRAME)
        self.port.transmit(frame)

    def listen(self, address: bytes, promiscuous: bool) -> None:
        self._reached(f"listen for {address.hex(':')}{', and all others' if promiscuous else ''}")
        self.port.listen(address, promiscuous)

    def save_state(self) -> bytes:
        return self.port.save_state()

    def load_state(self, state: bytes) -> None:
        self.port.load_state(state)


class _RecordedLance(HostedLance):
    """``inside``: in the middle of an access."""

    inside = False

    def read_bar(self, index: int, offset: int, size_bytes: int) -> int:
        self.inside = True
        value = super().read_bar(index, offset, size_bytes)
        self.inside = False
        return value

    def write_bar(self, index: int, offset: int, size_bytes: int, value: int) -> None:
        self.inside = True
        super().write_bar(index, offset, size_bytes, value)
        self.inside = False


class _Recorder:
    """A native machine whose card's accesses are kept, each with what it caused: within itself, or, where the card
    has gone to memory because of it, a moment later. That was then the last command of its kind."""

    def __init__(self) -> None:
        self.machine = HostedMachine("native")
        product = self.machine.product
        self._product = product
        product.card.__class__ = _RecordedLance
        assert isinstance(product.card, _RecordedLance)
        self.card = product.card
        self.card.port = _Listening(self.card.port, self._reached)
        self.card.owner = self
        self._accesses: list[Judged] = []
        self._within = ""

    @property
    def may_take(self) -> bool:
        return self._product.may_take

    def accessed(self, access: Access) -> None:
        self._accesses.append(Judged(access, self._within))
        self._within = ""
        self._product.accessed(access)

    def _reached(self, what: str) -> None:
        if self.card.inside:
            self._within = what
            return
        for at in range(len(self._accesses) - 1, -1, -1):
            access = self._accesses[at].access
            if access.sends if what == FRAME else access.write and access.register == "CSR0":
                self._accesses[at] = Judged(access, what)
                return

    def take(self) -> tuple[Judged, ...]:
        taken, self._accesses = tuple(self._accesses), []
        return taken


@cache
def recorded(run: str) -> tuple[Judged, ...]:
    """The accesses of a run. ``run``: one of ``FIRST_RUNS``, ``OTHER_RUNS``."""
    recorder = _Recorder()
    machine = recorder.machine
    machine.run_until(lambda: machine.console.said.endswith("shell> "))
    started = recorder.take()
    if run == "a driver starts":
        found = started
    elif run == "netsend":
        machine.send(30, 200)
        found = recorder.take()
    elif run == "netsink":
        machine.receive(30, 200)
        found = recorder.take()
    elif run == "another driver":
        _drive(recorder)
        found = recorder.take()
    else:
        raise AdminError(f"There is no run {run!r}; there are {', '.join((*FIRST_RUNS, *OTHER_RUNS))}.")
    return found


def _drive(recorder: _Recorder) -> None:
    """What drivers of other systems do: masks, counters, promiscuous mode, another address, a command to a card whose
    transmitter is off, a reset."""
    card, engine = recorder.card, recorder.machine.vm.engine

    def csr(number: int, value: int | None = None) -> None:
        card.write_bar(0, 0x12, 2, number)
        if value is None:
            card.read_bar(0, 0x10, 2)
        else:
            card.write_bar(0, 0x10, 2, value)
        engine.run(engine.now_ns() + 20_000)

    csr(0)
    csr(3, 0x5F00)
    csr(4, 0x0915)
    csr(112)
    csr(0, r.TINT | r.RINT | r.IENA)
    csr(0, r.STOP)
    csr(0, r.TDMD)
    for number, value in ((15, r.PROM), (15, 0), (12, 0x5000), (13, 0x0156), (14, 0x0907), (8, 0xFFFF)):
        csr(number, value)
    csr(0, r.TDMD | r.IENA)
    csr(0, r.STRT | r.IENA)
    csr(0, r.TINT | r.IENA)
    csr(88)
    card.read_bar(0, 0x14, 2)
    card.write_bar(0, 0x12, 2, 20)
    card.write_bar(0, 0x16, 2, 2)
    csr(0, r.TDMD)


def needs_host(judged: Judged) -> bool:
    """A command to send is for the host even if the ring turns out to be empty."""
    return bool(judged.reached) or judged.access.sends


def check_may_stay(may_stay: MayStay, runs: Sequence[str] = FIRST_RUNS) -> Feedback:
    """``may_stay(access)``: can the VMM do it, without the host? Raises ``WrongAnswer`` at the first that is wrong."""
    asked = 0
    for run in runs:
        accesses = recorded(run)
        for at, judged in enumerate(accesses):
            words = f"may_stay of access {at} of {run!r}"
            said = yes_or_no(call(may_stay, judged.access, said=words), words)
            asked += 1
            if said == needs_host(judged):
                raise WrongAnswer(f"{words} is {said}; {_because(judged, said)}.", _shown(accesses, at))
    return right(
        f"{asked} accesses of {len(runs)} runs: whatever the host had to hear of went there, and nothing else."
    )


def _because(judged: Judged, said: bool) -> str:
    if not said:
        return "nothing came to the host because of it: a world switch for nothing"
    return f"the host would never hear of it: {judged.reached or 'a command to send'}"


def _shown(accesses: Sequence[Judged], at: int) -> tuple[str, ...]:
    rows = [("", "register", "", "value", "transmitter", "reached the host")]
    for number in range(max(0, at - SHOWN), at + 1):
        a = accesses[number].access
        rows.append((str(number), a.register, "write" if a.write else "read", f"{a.value:04x}",
                     "on" if a.on else "off", accesses[number].reached))  # fmt: skip
    return columns(rows)


# 17b -------------------------------------------------------------------------------------------------------------

SwitchNow = Callable[[Waiting], object]
ROUND_TRIP_US = 2 * WORLD_COSTS.switch_ns / 1000
WAIT_PRICE = 0.05
"""What a frame's microsecond of waiting is worth, in microseconds of the processor."""
ENOUGH = 1.25
"""So much of the better one of the two simple rules may be spent."""
FIRST_LOADS, OTHER_LOADS = ("pings", "stream"), ("echoes", "small frames")


class Spent(msgspec.Struct, frozen=True):
    """Of one run, a frame: switches made for frames, and how long frames waited."""

    frames: int
    forced: float
    waited_us: float

    @property
    def cost_us(self) -> float:
        return self.forced * ROUND_TRIP_US + self.waited_us * WAIT_PRICE


def always(waiting: Waiting) -> bool:
    """No combining: each frame is worth a switch."""
    return True


def only_when_many(waiting: Waiting) -> bool:
    """More than three, and otherwise whatever comes."""
    return waiting.frames > 3


def spent(load: str, policy: Callable[[Waiting], bool]) -> Spent:
    """One run of a guest under the hosted product with this rule."""
    machine = HostedMachine("flag", options=msgspec.structs.replace(ALL, policy=policy))
    product = machine.product
    assert isinstance(product, HostedProduct)
    if load == "stream":
        machine.send(60, 1000, answer_each=2)
    elif load == "small frames":
        machine.send(80, 64, answer_each=0)
    elif load == "pings":
        machine.type("ping 10.0.0.9 12 56 1")
        machine.run_until(lambda: " answered\n" in machine.console.said)
        machine.vm.close()
    elif load == "echoes":
        _echoes(machine, 25, 3_000_000)
    else:
        raise AdminError(f"There is no load {load!r}; there are {', '.join((*FIRST_LOADS, *OTHER_LOADS))}.")
    waited = product.waited_ns
    forced = sum(n for (field, why), n in product.worlds.counts.items() if field == "switch_ns" and why in FORCED)
    return Spent(len(waited), forced / 2 / len(waited), sum(waited) / 1000 / len(waited))


def _echoes(machine: HostedMachine, count: int, pace_ns: int) -> None:
    """The peer sends a datagram now and then, and the guest sends each back."""
    came = 0

    def back(_: object) -> None:
        nonlocal came
        came += 1

    machine.peer.services[40_000] = back
    machine.type(f"udpecho 7000 {count}")
    machine.run_until(lambda: "udpecho: port 7000\n" in machine.console.said)
    for number in range(count):
        send = partial(machine.peer.send_udp, GUEST_IP, 7000, 40_000, bytes(100))
        machine.vm.clock.at(machine.vm.clock.now_ns + 1 + number * pace_ns, send)
    machine.run_until(lambda: came >= count)
    machine.vm.close()


@cache
def simple(load: str) -> dict[str, Spent]:
    """The two simple rules."""
    return {"always": spent(load, always), "only when many": spent(load, only_when_many)}


def check_switch_now(switch_now: SwitchNow, loads: Sequence[str] = FIRST_LOADS) -> Feedback:
    """``switch_now(waiting)``: is a world switch to be made for the frames that wait? On each load it has to cost at
    most ``ENOUGH`` times what the better of two simple rules costs. Raises ``WrongAnswer`` where it does not."""

    def policy(waiting: Waiting) -> bool:
        return yes_or_no(call(switch_now, waiting), f"switch_now({waiting})")

    rows: list[tuple[str, ...]] = [("", "switches a frame", "waited", "cost")]
    for load in loads:
        mine, others = spent(load, policy), simple(load)
        best = min(other.cost_us for other in others.values())
        if mine.cost_us > ENOUGH * best:
            rows += [_row(name, each) for name, each in (("yours", mine), *others.items())]
            raise WrongAnswer(
                f"{load}: yours costs {mine.cost_us:.1f} µs a frame; the better simple rule costs {best:.1f}.",
                columns(rows),
            )
    return right(f"{len(loads)} loads, and on each as good as the better simple rule.")


def _row(name: str, each: Spent) -> tuple[str, ...]:
    return name, f"{each.forced:.2f}", f"{each.waited_us:.0f} µs", f"{each.cost_us:.1f} µs"
