"""A stock Debian guest with one card of each kind: what one packet costs on each, and what a megabyte.

::

    eth0  vlance  ──┐                       10.0.0.1   answers pings
    eth1  e1000   ──┼── vSwitch0, "lab" ──┤
    eth2  vmxnet3 ──┘                       10.0.0.2   takes what is sent over TCP (``Sink``)

    Debian boots once in a kernel; each card has the address 10.0.0.5 while it is its turn.
    register accesses    port and memory accesses in the card's windows: each is an exit
    interrupt controller accesses of the two 8259A: exits, too, some for each interrupt
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache

import msgspec

from vilab.clock import VirtualClock
from vilab.course.card_sink import Sink
from vilab.course.one_packet import PcnetGuest
from vilab.devices.adapter_events import AdapterInterrupt, DmaMoved
from vilab.devices.e1000_registers import name_of as e1000_name
from vilab.devices.network_events import FrameFetched, FrameStored
from vilab.devices.pci_function import INTERRUPT_LINE
from vilab.devices.vmxnet3_registers import REGISTERS as VMXNET3
from vilab.devices.vmxnet3_registers import SETUP
from vilab.errors import AdminError, VmmBug
from vilab.events import Event, EventLog, InterruptDelivered, MmioRead, MmioWritten, PortRead, PortWritten
from vilab.guests import debian, debian_root
from vilab.network.cable import VirtualCable
from vilab.network.small_network import GROUP, SmallNetwork
from vilab.vmm.choices import usual_for
from vilab.vmm.network import CARDS, AttachedCard
from vilab.vmm.runner import RunOptions, choose
from vilab.vmm.vm import QuietConsole, VirtualMachine

ENGINE = "svm"
FIRST_SLOT = 24
ADDRESSES = tuple(bytes.fromhex("0050560000") + bytes((number,)) for number in (1, 2, 3))
SINK, SINK_ADDRESS = bytes((10, 0, 0, 2)), bytes.fromhex("005056c00002")
MB = 1 << 20
LARGE = "nc 10.0.0.2 9 -e dd if=/dev/zero bs=64k count=16 2>/dev/null"
SMALL = "nc 10.0.0.2 9 -e dd if=/dev/zero bs=1k count=256 2>/dev/null"
"""1 MB in writes of 64 KB; 256 KB in writes of 1 KB, each of which becomes a packet of its own."""
SLICE_NS, MOST_NS = 20_000_000, 100_000_000_000
NOT_HERE = "Linux is not on this machine; `vilab guests fetch debian` gets it. Until then only PCnet is measured."
PIC_PORTS = frozenset((0x20, 0x21, 0xA0, 0xA1))
_CONTROL = re.compile(r"\x1b\[6n|\r")

Access = PortRead | PortWritten | MmioRead | MmioWritten


class Happened(msgspec.Struct, frozen=True):
    """One event of a packet's way. ``kind``: ``read``, ``write`` (of a register), ``dma``, ``frame``, ``interrupt``,
    ``pic``. ``name``: of the register or of what has moved."""

    kind: str
    name: str
    at_ns: int
    size_bytes: int = 0


class Costs(msgspec.Struct, frozen=True):
    """What some traffic over one card came to.

    ``reads``, ``writes``: of the card's registers. ``pic``: accesses of the interrupt controllers for its interrupts.
    ``requests``: packets that the driver has given; ``frames_out``: frames that left. ``exits``: all of the machine
    meanwhile, whatever they were for. ``registers``: how often each was accessed.
    """

    card: str
    sent_bytes: int
    reads: int
    writes: int
    pic: int
    interrupts: int
    dma: int
    requests: int
    frames_out: int
    frames_in: int
    exits: int
    registers: dict[str, int]

    @property
    def accesses(self) -> int:
        return self.reads + self.writes

    @property
    def for_the_card(self) -> int:
        """Exits that would not be without the card, as far as they can be told apart."""
        return self.accesses + self.pic

    def per_mb(self, count: int) -> float:
        return count * MB / self.sent_bytes


class Measured(msgspec.Struct, frozen=True):
    """Of each card that is here. ``note``: a sentence for a person who has no Linux."""

    pings: dict[str, tuple[Happened, ...]]
    large: dict[str, Costs]
    small: dict[str, Costs]
    note: str = ""


class Windows:
    """Which card an address belongs to, and how its registers are called."""

    def __init__(self, vm: VirtualMachine) -> None:
        self._found = {slot: list(card.windows()) for slot, card in vm.pc.cards.items()}
        self._irqs = {slot: card.config[INTERRUPT_LINE] for slot, card in vm.pc.cards.items()}
        self._kinds = {FIRST_SLOT + n: card.kind for n, card in enumerate(vm.cards)}
        self._selected: dict[int, int] = {}

    def irq(self, slot: int) -> int:
        return self._irqs[slot]

    def of(self, event: Access) -> tuple[int, str] | None:
        """(slot, register), or ``None``: it is no card's."""
        memory = isinstance(event, MmioRead | MmioWritten)
        address = event.gpa if isinstance(event, MmioRead | MmioWritten) else event.port
        for slot, windows in self._found.items():
            for index, first, size_bytes, is_memory in windows:
                if is_memory == memory and first <= address < first + size_bytes:
                    return slot, self._name(slot, index, address - first, event)
        return None

    def _name(self, slot: int, index: int, offset: int, event: Access) -> str:
        kind = self._kinds[slot]
        if kind == "e1000":
            return e1000_name(offset)
        if kind == "vmxnet3":
            place = offset | SETUP if index else offset
            return max((r for r in VMXNET3 if r.port <= place), key=lambda r: r.port).name
        if offset == 0x10:
            return f"CSR{self._selected.get(slot, 0)}"
        if isinstance(event, PortWritten | MmioWritten) and offset in (0x12, 0x14):
            self._selected[slot] = event.value & 0x7F
        return {0x12: "RAP", 0x14: "RAP", 0x16: "BDP", 0x1C: "BDP"}.get(offset, "APROM")


class ThreeCards:
    """A Debian guest at its prompt, with a card of each kind. Raises ``AdminError``: Debian is not here."""

    def __init__(self, engine: str = ENGINE) -> None:
        chosen = choose(RunOptions(debian.NAME, engine, cards=CARDS))
        self.clock, self.log = VirtualClock(), EventLog()
        self.network = SmallNetwork(self.clock, self.log)
        port = self.network.switch.connect(GROUP, "sink", address=SINK_ADDRESS)
        self.sink = Sink(VirtualCable(port, self.clock, self.clock), SINK_ADDRESS, SINK)
        cards = [
            AttachedCard(kind, self.network.connect(kind, address), address)
            for kind, address in zip(CARDS, ADDRESSES, strict=True)
        ]
        self.console = QuietConsole()
        self.vm = VirtualMachine(
            chosen.image, engine, chosen.memory_bytes, console=self.console, clock=self.clock, log=self.log,
            cards=cards, engine_options=usual_for(chosen.image.kind, engine, {}),
        )  # fmt: skip
        self.log.active = False
        self._to_prompt(0)
        self.run("dmesg -n 1")

    def run(self, line: str) -> str:
        """A line for its shell; what it has said until the next prompt."""
        before = len(self.console.output)
        self.console.type(line)
        return self._to_prompt(before)

    def _to_prompt(self, before: int) -> str:
        engine, prompt = self.vm.engine, debian_root.PROMPT.decode()
        end_ns = engine.now_ns() + MOST_NS
        while engine.now_ns() < end_ns:
            text = _CONTROL.sub("", bytes(self.console.output[before:]).decode("latin-1"))
            if text.endswith(prompt) and (not before or "\n" in text):
                return text.removesuffix(prompt)
            ended = engine.run(engine.now_ns() + SLICE_NS)
            if ended is not None:
                raise VmmBug(f"Debian has ended in this lesson: {ended.sentence}")
        raise VmmBug(f"Debian does not come back to its prompt: {self.console.said[-200:]}")

    def turn(self, number: int) -> None:
        """Card ``number`` has the address now, the others are off, and it knows where the others are."""
        for each in range(len(CARDS)):
            self.run(f"ip addr flush dev eth{each}; ip link set eth{each} down")
        self.run(f"ip addr add 10.0.0.5/24 dev eth{number}; ip link set eth{number} up; sleep 1")
        self.run("ping -c 1 10.0.0.1; ping -c 1 10.0.0.2")

    def listened(self, line: str) -> tuple[list[Event], Counter[str]]:
        """Run a line: what has happened meanwhile, and the exits by reason."""
        events: list[Event] = []
        before = Counter(self.vm.engine.exits)
        self.log.listen(events.append)
        self.run(line)
        self.log.listeners.remove(events.append)
        self.log.active = False
        return events, Counter(self.vm.engine.exits) - before


def of_card(events: Sequence[Event], windows: Windows, slot: int) -> list[Happened]:
    """What has to do with one card, in order; of the interrupt controllers, what its interrupts have led to."""
    found: list[Happened] = []
    serves = False
    for event in events:
        made: Happened | None = None
        if isinstance(event, InterruptDelivered):
            serves = event.vector & 15 == windows.irq(slot)
        elif isinstance(event, PortRead | PortWritten) and event.port in PIC_PORTS:
            made = Happened("pic", f"{event.port:02x}", event.at_ns) if serves else None
        elif isinstance(event, Access):
            made = _of_access(event, windows, slot)
        elif isinstance(event, DmaMoved) and event.slot == slot:
            what = "frame" if event.what == "data" else "descriptor"
            made = Happened("dma", f"{what} {event.direction}", event.at_ns, event.size_bytes)
        elif isinstance(event, FrameFetched | FrameStored) and event.slot == slot:
            way = "out" if isinstance(event, FrameFetched) else "in"
            made = Happened("frame", way, event.at_ns, len(event.frame))
        elif isinstance(event, AdapterInterrupt) and event.slot == slot and event.high:
            made = Happened("interrupt", "INTA", event.at_ns)
        if made is not None:
            found.append(made)
    return found


def _of_access(event: Access, windows: Windows, slot: int) -> Happened | None:
    place = windows.of(event)
    if place is None or place[0] != slot:
        return None
    return Happened("read" if isinstance(event, PortRead | MmioRead) else "write", place[1], event.at_ns)


def one_ping(found: Sequence[Happened]) -> tuple[Happened, ...]:
    """From the register access that has sent a frame to the last one after its answer has come."""
    out = next(at for at, each in enumerate(found) if each.kind == "frame" and each.name == "out")
    first = max(at for at in range(out) if found[at].kind == "write")
    while first and found[first - 1].kind == "write":
        first -= 1
    back = next(at for at in range(out, len(found)) if found[at].kind == "frame" and found[at].name == "in")
    last = max(at for at, each in enumerate(found) if at >= back and each.kind in ("read", "write", "pic"))
    return tuple(found[first : last + 1])


def costs(
    card: str, sent_bytes: int, found: Sequence[Happened], events: Sequence[Event], slot: int, exits: int
) -> Costs:
    """``events``: the same as in ``found``, for what a packet was made into."""
    kinds = Counter(each.kind for each in found)
    sent = [event for event in events if isinstance(event, FrameFetched) and event.slot == slot]
    return Costs(
        card, sent_bytes, kinds["read"], kinds["write"], kinds["pic"], kinds["interrupt"], kinds["dma"],
        round(sum(1 / event.segments for event in sent)), len(sent),
        sum(each.kind == "frame" and each.name == "in" for each in found), exits,
        dict(Counter(each.name for each in found if each.kind in ("read", "write")).most_common()),
    )  # fmt: skip


def _stream(cards: ThreeCards, number: int, line: str) -> Costs:
    """It has to be the turn of this card."""
    before, slot = cards.sink.taken_bytes, FIRST_SLOT + number
    events, exits = cards.listened(line)
    found = of_card(events, Windows(cards.vm), slot)
    return costs(CARDS[number], cards.sink.taken_bytes - before, found, events, slot, exits.total())


def stream_after(card: str, *lines: str) -> Costs:
    """The megabyte in large pieces once more, after these lines at Debian's prompt. Raises ``AdminError``: Debian is
    not here."""
    measured()
    cards, number = _machine(), CARDS.index(card)
    for line in lines:
        cards.run(line)
    cards.turn(number)
    return _stream(cards, number, LARGE)


@cache
def _machine() -> ThreeCards:
    """It stays, at its prompt, as long as this process."""
    return ThreeCards()


@cache
def measured() -> Measured:
    """One ping and two streams over each card of a stock Debian; over PCnet alone, by the teaching kernel, where
    Debian is not here."""
    try:
        cards = _machine()
    except AdminError:
        return _teaching()
    pings: dict[str, tuple[Happened, ...]] = {}
    large: dict[str, Costs] = {}
    small: dict[str, Costs] = {}
    for number, kind in enumerate(CARDS):
        cards.turn(number)
        windows, slot = Windows(cards.vm), FIRST_SLOT + number
        events, _ = cards.listened("ping -c 1 10.0.0.1")
        pings[kind] = one_ping(of_card(events, windows, slot))
        for into, line in ((large, LARGE), (small, SMALL)):
            into[kind] = _stream(cards, number, line)
    return Measured(pings, large, small)


def _teaching() -> Measured:
    """UDP instead of TCP: the teaching kernel has no other."""
    guest = PcnetGuest()
    guest.type("ping 10.0.0.1 1")
    windows = Windows(guest.vm)

    def listened(line: str) -> tuple[list[Event], int]:
        events: list[Event] = []
        before = Counter(guest.vm.engine.exits)
        guest.log.listen(events.append)
        guest.type(line)
        guest.log.listeners.remove(events.append)
        guest.log.active = False
        return events, (Counter(guest.vm.engine.exits) - before).total()

    events, _ = listened("ping 10.0.0.1 1")
    pings = {CARDS[0]: one_ping(of_card(events, windows, FIRST_SLOT))}
    found = []
    for size_bytes in (1024, 256):
        events, exits = listened(f"netsend 10.0.0.1 9 256 {size_bytes}")
        mine = of_card(events, windows, FIRST_SLOT)
        found.append({CARDS[0]: costs(CARDS[0], 256 * size_bytes, mine, events, FIRST_SLOT, exits)})
    guest.vm.close()
    return Measured(pings, found[0], found[1], NOT_HERE)
