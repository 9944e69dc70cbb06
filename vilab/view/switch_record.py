"""From what ports, switches and cards say to steps of a picture, as it happens.

::

    a station sends ─────────────> sends
    a tap on the way in ──┐        (remembered: where the next frame came from)
    FrameForwarded ───────┤
    taps on the way out ──┴──────> forwards: the copies, octet by octet as they are on each port
    FrameDropped ────────────────> drops; of one port only (withheld): a refusal of the step that follows
    physical switch ─────────────> outside, with what it has learned
    LinkChanged, UplinkMoved, SwitchesNotified, BeaconVerdict ─> link, moves, tells, beacons

Who gets no copy is read off the events; why not, in two words, is what the port's own configuration says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from vilab.clock import VirtualClock
from vilab.events import Event
from vilab.network.beacon import BEACON
from vilab.network.cable import CABLE_NS
from vilab.network.ethernet import is_group, type_of
from vilab.network.network_events import FrameDropped, FrameForwarded
from vilab.network.notify import notify_frame
from vilab.network.physical_events import AddressLearned, BeaconVerdict, LinkChanged, SwitchesNotified, UplinkMoved
from vilab.network.vlan_tagging import TRUNK
from vilab.view.switch_frame import Copy, Scene, SwitchStep

WITHHELD = ("address changed", "other uplink")


class Recorder:
    """``steps`` since the last ``begin``. ``most``: of them; what comes later is not kept."""

    most = 400

    def __init__(self, clock: VirtualClock, scene: Callable[[], Scene]) -> None:
        self._clock, self._scene = clock, scene
        self.steps: list[SwitchStep] = []
        self._names: dict[int, str] = {}
        self._came_in = ""
        self._open: SwitchStep | None = None
        self._expected: list[int] = []
        self._withheld: list[FrameDropped] = []
        self._learned: list[AddressLearned] = []
        self.recording = False
        self.cabled: set[str] = set()
        """Machines whose sending is seen only where their cable ends, ``CABLE_NS`` later."""

    def begin(self, words: str = "") -> None:
        """Forget what was; the next step is number 1."""
        self.recording = True
        self.steps = [SwitchStep(self._clock.now_ns, "begin", self._scene(), words=words)]

    def note(self, words: str) -> None:
        """The administrator has done something."""
        self._add(SwitchStep(self._clock.now_ns, "set", self._scene(), words=words))

    def _add(self, step: SwitchStep) -> None:
        if self.recording and len(self.steps) < self.most:
            self.steps.append(step)

    # --- what is heard ------------------------------------------------------------------------------------------------

    def sent(self, name: str, frame: bytes) -> None:
        """A station has sent a frame."""
        if self.recording:
            self.flush()
            self._add(SwitchStep(self._clock.now_ns, "sends", self._scene(), name, frame))

    def on_port(self, name: str, number: int, frame: bytes) -> None:
        """A frame has passed a port of the virtual switch, in one direction or the other."""
        if not self.recording:
            return
        self._names[number] = name
        if self._open is not None and number in self._expected:
            self._expected.remove(number)
            copies = (*self._open.copies, Copy(name, frame))
            self._open = msgspec.structs.replace(self._open, copies=copies)
            if not self._expected:
                self._add(self._open)
                self._open = None
            return
        self.flush()
        self._came_in = name
        if name in self.cabled:
            self._add(SwitchStep(self._clock.now_ns - CABLE_NS, "sends", self._scene(), name, frame))

    def heard(self, event: Event) -> None:
        """For the event log."""
        if isinstance(event, FrameForwarded):
            self._forwarded(event)
        elif isinstance(event, FrameDropped):
            if event.reason in WITHHELD:
                self._withheld.append(event)
            else:
                self._dropped(event)
        elif isinstance(event, AddressLearned):
            self._learned.append(event)
        elif isinstance(event, LinkChanged):
            self._simple("link", event.nic, reason="up" if event.up else "down")
        elif isinstance(event, UplinkMoved) and event.why != "connected":
            scene = self._scene()
            words = f"{event.from_nic or ''} {event.to_nic or ''}"
            self._add(SwitchStep(
                self._clock.now_ns, "moves", scene, scene.name_of(event.mac), reason=event.why, words=words,
            ))  # fmt: skip
        elif isinstance(event, SwitchesNotified):
            frame = notify_frame(event.mac, event.vlan or 0)
            self._add(SwitchStep(
                self._clock.now_ns, "tells", self._scene(), event.nic, frame, event.vlan or 0,
                (Copy(event.nic, frame),),
            ))  # fmt: skip
        elif isinstance(event, BeaconVerdict):
            self._simple("beacons", ", ".join(event.failed), reason="shotgun" if event.shotgun else "")

    def _simple(self, kind: str, origin: str, reason: str = "") -> None:
        self.flush()
        self._add(SwitchStep(self._clock.now_ns, kind, self._scene(), origin, reason=reason))

    def outside(self, port: str, frame: bytes, out: list[tuple[str, bytes]]) -> None:
        """The physical switch has had a frame, and passes it on."""
        learned, self._learned = self._learned, []
        if type_of(frame) == BEACON:
            return
        self.flush()
        scene = self._scene()
        words = "; ".join(
            f"{scene.name_of(e.mac)} is at {e.port}" + (f" now, no longer at {e.from_port}" if e.from_port else "")
            for e in learned if scene.name_of(e.mac) != e.mac.hex(":")
        )  # fmt: skip
        copies = tuple(Copy(to, data) for to, data in out)
        self._add(SwitchStep(self._clock.now_ns, "outside", scene, port, frame, copies=copies, words=words))

    def flush(self) -> None:
        """Nothing more comes of the frame that was last seen."""
        if self._open is not None:
            self._add(self._open)
            self._open = None
        if self._withheld:
            first, self._withheld = self._withheld[0], []
            scene = self._scene()
            refused = ((_place(scene, first.port), first.reason),)
            self._add(SwitchStep(
                first.at_ns, "drops", scene, self._came_in, first.frame, first.vlan, (), refused, first.reason,
            ))  # fmt: skip

    # --- what it means ------------------------------------------------------------------------------------------------

    def _forwarded(self, event: FrameForwarded) -> None:
        scene = self._scene()
        origin = _place(scene, event.port)
        own = {_place(scene, e.port): e.reason for e in self._withheld}
        self._withheld = []
        refused = _refused(scene, origin, event, own)
        self._expected = list(event.to_ports)
        self._open = SwitchStep(
            event.at_ns, "forwards", scene, origin, event.frame, event.vlan, (), refused
        )  # fmt: skip

    def _dropped(self, event: FrameDropped) -> None:
        scene = self._scene()
        self._withheld = []
        self._add(SwitchStep(
            event.at_ns, "drops", scene, _place(scene, event.port), event.frame, event.vlan, reason=event.reason,
        ))  # fmt: skip


def _place(scene: Scene, port: int) -> str:
    names = {m.port: m.name for m in scene.machines} | {u.port: u.name for u in scene.uplinks}
    return names.get(port, f"port {port}")


def _refused(scene: Scene, origin: str, event: FrameForwarded, own: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Everybody who gets no copy, and why."""
    found: list[tuple[str, str]] = []
    for machine in scene.machines:
        if machine.name == origin or machine.port in event.to_ports:
            continue
        if machine.vlan not in (event.vlan, TRUNK):
            why = f"not VLAN {event.vlan}" if event.vlan else "has VLAN"
        else:
            why = own.get(machine.name) or ("other address" if not is_group(event.frame[:6]) else "not wanted")
        found.append((machine.name, why))
    if scene.uplink(origin) is None:
        inside = any(m.mac == event.frame[:6] and m.port in event.to_ports for m in scene.machines)
        for uplink in scene.uplinks:
            if uplink.port not in event.to_ports:
                found.append((uplink.name, "no link" if not uplink.up else "stays inside" if inside else "not used"))
    return tuple(found)
