"""Which uplink carries whose frames under each load balancing policy: measured, a policy a step.

::

    port ID     vmnic0  [ web1 ............ ][ db1 ][ ... ]   96    a segment a machine, as long as its frames
                vmnic1  [ web2 ][ ... ]                       48
    MAC hash    ...
    IP hash     ...                                                 one machine on both

The frames are real ones of real hosts, counted where they leave the virtual switch.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from vilab.network.network_events import FrameForwarded
from vilab.network.packets import ip_of
from vilab.network.policies import Balancing, Policies, TeamingPolicy
from vilab.view.frame import Cell, Panel, Picture, Row, Stage
from vilab.view.predict import Prediction
from vilab.view.step_track import MeasuredTrack
from vilab.view.svg import number, rect, text
from vilab.view.switch_bench import BALANCING
from vilab.view.switch_lab import SwitchLab, Wanted
from vilab.view.switch_says import listed
from vilab.view.timeline import timeline
from vilab.view.words import plain

HOSTS = tuple(f"10.9.0.{n}" for n in (1, 2, 3, 4, 5, 6, 7, 8))
"""Behind the gateway: whom the machines talk to."""
POLICIES: tuple[Balancing, ...] = ("port_id", "mac_hash", "ip_hash")
REASON = {"port_id": "the port's number, modulo 2", "mac_hash": "the last octet of the source MAC, modulo 2",
          "ip_hash": "last octets of both IP addresses, XOR, modulo 2"}  # fmt: skip


class Load(msgspec.Struct, frozen=True):
    """``frames``: of a machine to each of ``HOSTS``."""

    machine: Wanted
    frames: int


class Balance(msgspec.Struct, frozen=True):
    """``sent``: by uplink, then by machine."""

    policy: Balancing
    sent: dict[str, dict[str, int]]

    def total(self, uplink: str) -> int:
        return sum(self.sent[uplink].values())

    def split(self, machine: str) -> list[str]:
        """The uplinks that carry something of it."""
        return [uplink for uplink, counts in self.sent.items() if counts.get(machine)]


def measure(loads: Sequence[Load], policy: Balancing, uplinks: int = 2) -> Balance:
    """Every machine sends its datagrams through the gateway; what left over which card?"""
    gateway = Wanted("gw", "00:1a:e3:07:d8:fe", "10.0.0.254", 10)
    lab = SwitchLab([load.machine for load in loads], [gateway], uplinks, (10,),
                    Policies(teaming=TeamingPolicy(balancing=policy)))  # fmt: skip
    if policy == "ip_hash":
        lab.physical.aggregate("group", *lab.wires)
    lab.recorder.recording = False
    sent: dict[str, dict[str, int]] = {name: {} for name in lab.wires}
    ports = {port.number: name for name, port in lab.ports.items()}
    cards = {p.number: p.state.client for p in lab.switch.ports.values() if p.is_uplink}

    def count(event: object) -> None:
        if isinstance(event, FrameForwarded) and event.port in ports and not event.frame[0] & 1:
            for to in event.to_ports:
                if to in cards:
                    counts = sent[cards[to]]
                    counts[ports[event.port]] = counts.get(ports[event.port], 0) + 1

    for load in loads:  # ARP first, so that no datagram waits for it
        lab.stations[load.machine.name].peer.gateway = ip_of(gateway.ip)
        lab.stations[load.machine.name].peer.ping(ip_of(gateway.ip))
        lab.run()
    lab.log.listen(count)
    for load in loads:
        peer = lab.stations[load.machine.name].peer
        for host in HOSTS:
            for n in range(load.frames):
                peer.send_udp(ip_of(host), 9, 1024 + n, b"vilab")
        lab.run()
    return Balance(policy, sent)


LEFT, RIGHT, ROW = 256.0, 846.0, 106.0


class BalanceTrack(MeasuredTrack[Balance]):
    """``Track`` for a player: a policy a step, measured when it is gone to."""

    def __init__(self, loads: Sequence[Load], question: str) -> None:
        self.loads, self.question = tuple(loads), question
        super().__init__()

    @property
    def total(self) -> int:
        return len(POLICIES)

    def measure(self, position: int) -> Balance:
        return measure(self.loads, POLICIES[position - 1])

    def picture(self, position: int) -> Picture:
        self.go(position)
        words = self.sentence(position)
        height = 24 + ROW * len(POLICIES)
        stage = Stage(label=f"{self.question} {plain(words)}", height=height, under=self._draw(position))
        value = f"step {position}. {plain(words)}"
        return Picture(
            position, self.total, "", words, value, stage, timeline([], position, self.total), (self._panel(position),)
        )

    def sentence(self, position: int) -> str:
        if not position:
            loud = max(self.loads, key=lambda load: load.frames)
            frames = len(HOSTS) * sum(load.frames for load in self.loads)
            return (
                f"{len(self.loads)} machines send {frames} frames to {len(HOSTS)} hosts behind a gateway, "
                f"{loud.machine.name} {loud.frames // min(load.frames for load in self.loads)} times as many as the "
                f"others. "
                "Two uplinks. Nothing is sent yet."
            )
        found = self.found(position)
        counts = " and ".join(f"**{found.total(u):,} over {u}**" for u in found.sent)
        names = [load.machine.name for load in self.loads]
        both = [name for name in names if len(found.split(name)) > 1]
        name = max(self.loads, key=lambda load: load.frames).machine.name
        if both:
            after = (
                f"Each conversation stays on one, but {listed(both) if len(both) < 3 else 'every machine'} uses both."
            )
        else:
            after = f"All of {name}'s frames take {found.split(name)[0]}, however many there are."
        return f"{BALANCING[found.policy][0].upper()}{BALANCING[found.policy][1:]}: {counts}. {after}"

    def _draw(self, position: int) -> str:
        parts = [text(LEFT, 14, "frames that left the host, by machine", "s soft")]
        most = max(max(f.total(u) for u in f.sent) for f in self._found[:position]) if position else 1
        most = max(most, len(HOSTS) * sum(load.frames for load in self.loads) * 2 // 3)
        unit = (RIGHT - LEFT) / most
        for n, policy in enumerate(POLICIES):
            top = 30 + ROW * n
            now = n + 1 == position
            name = BALANCING[policy]
            parts.append(text(0, top + 24, name[0].upper() + name[1:], f"l b{'' if n < position else ' soft'}"))
            for at, words in enumerate(_wrapped(REASON[policy])):
                parts.append(text(0, top + 43 + 15 * at, words, "s soft"))
            for row, uplink in enumerate(("vmnic0", "vmnic1")):
                y = top + 6 + 38 * row
                parts.append(text(LEFT - 10, y + 20, uplink, f"end{'' if n < position else ' soft'}"))
                if n >= position:
                    parts.append(f'<path d="M{LEFT} {number(y + 15)}H{RIGHT}" class="not-there"/>')
                    continue
                parts.append(self._bar(self._found[n], uplink, y, unit, now))
        return "".join(parts)

    def _bar(self, found: Balance, uplink: str, y: float, unit: float, now: bool) -> str:
        x, parts = LEFT, []
        loud = max(self.loads, key=lambda load: load.frames).machine.name
        for load in self.loads:
            name = load.machine.name
            width = found.sent[uplink].get(name, 0) * unit
            if not width:
                continue
            hue = "guest-fill" if name == loud else "guest-wash"
            edge = "stroke:var(--vl-guest-ink);stroke-width:1"
            parts.append(rect(x, y, width, 30, f"var(--vl-{hue});{edge}"))
            if width > len(name) * 8 + 6:
                ink = "var(--vl-guest-on)" if name == loud else "var(--vl-guest-ink)"
                parts.append(
                    text(x + width / 2, y + 20, name, "mid b" if name == loud else "mid", f'style="fill:{ink}"')
                )
            x += width
        parts.append(text(x + 8, y + 21, f"{found.total(uplink):,}", f"l tab{' b' if now else ''}"))
        return "".join(parts)

    def _panel(self, position: int) -> Panel:
        names = [load.machine.name for load in self.loads]
        rows = []
        for n, found in enumerate(self._found[:position]):
            for uplink, counts in found.sent.items():
                cells = [Cell(BALANCING[found.policy]), Cell(uplink, "c-host")]
                cells += [Cell(str(counts.get(name, 0)), "r") for name in names]
                cells.append(Cell(f"{found.total(uplink):,}", "r"))
                rows.append(Row(tuple(cells), "now" if n + 1 == position else ""))
        head = (Cell("policy"), Cell("uplink"), *(Cell(name, "r c-guest") for name in names), Cell("all", "r"))
        return Panel("Frames", head, tuple(rows), "state", "Nothing has been sent yet.")


def _wrapped(words: str, most: int = 27) -> list[str]:
    lines = [""]
    for word in words.split():
        if len(lines[-1]) + len(word) >= most:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def balance_questions(track: BalanceTrack, position: int) -> Prediction | None:
    """Before each policy: how does the loudest machine's load fall?"""
    loud = max(track.loads, key=lambda load: load.frames).machine.name
    if position >= len(POLICIES):
        return None

    def right() -> int:
        used = track.found(position + 1).split(loud)
        return 2 if len(used) > 1 else 0 if used == ["vmnic0"] else 1

    def why() -> str:
        found = track.found(position + 1)
        return (
            f"{found.total('vmnic0'):,} and {found.total('vmnic1'):,} frames in all. What decides: "
            f"{REASON[found.policy]}."
        )

    machine = next(load.machine for load in track.loads if load.machine.name == loud)
    ip = machine.ip.rsplit(".", 1)[1]
    facts = {"port_id": "it was connected first, to port 9", "mac_hash": f"its MAC ends in {machine.mac[-2:]}",
             "ip_hash": f"its IP ends in {ip}, those it talks to in 1 to 8"}[POLICIES[position]]  # fmt: skip
    return Prediction(
        f"{BALANCING[POLICIES[position]][0].upper()}{BALANCING[POLICIES[position]][1:]}. {loud} sends most ({facts}). "
        "Which uplink carries its frames?",
        ("vmnic0, all of them.", "vmnic1, all of them.", "Both: some conversations each.", "Whichever has less to do "
        "at the moment."),
        right, why,
    )  # fmt: skip
