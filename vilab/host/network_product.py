"""What every composition around a guest's card has: the card, the wire, and the account; and two without worlds.

::

    guest ── HostedLance ── Product ── HostNic ── wire ── peer
                               │
              hosted           VMM, VMDriver, VMApp, VMNet       hosted_product
              ESX              VMM, vmkernel with a driver of its own
              native           nothing: the card is the host's card

A product hears each access of the guest to its card, says when the card may take frames, and hears the interrupts of
the card in the host.
"""

from __future__ import annotations

from collections import Counter

from vilab.host.host_nic import HostNic
from vilab.host.hosted_lance import Access, HostedLance, adopt
from vilab.host.world_costs import WorldCosts
from vilab.host.world_events import FrameOnWire, HostInterrupted, LanceAccessed
from vilab.host.world_switch import Worlds
from vilab.protocols import NetworkInterface
from vilab.vmm.vm import VirtualMachine


class GuestPort:
    """What the guest's card is plugged into. Until a product takes over, frames go nowhere."""

    link_up = True

    def __init__(self) -> None:
        self.product: Product | None = None

    def plug(self, interface: NetworkInterface) -> None:
        pass

    def transmit(self, frame: bytes) -> None:
        if self.product is not None:
            self.product.frame_out(frame)

    def listen(self, address: bytes, promiscuous: bool) -> None:
        pass

    def save_state(self) -> bytes:
        return b""

    def load_state(self, state: bytes) -> None:
        pass


class Product:
    """An ``Owner`` of the guest's card.

    ``accesses``: (register, read or write, who has done it) -> how often. ``lost``: frames that found no room.
    """

    MOST_WAITING = 64
    """Frames that may wait for the guest's card to have room."""

    def __init__(self, vm: VirtualMachine, port: GuestPort, costs: WorldCosts) -> None:
        self.vm, self.costs = vm, costs
        self.worlds = Worlds(vm.clock, vm.log, vm.engine.owe_ns, costs)
        self.nic = HostNic(vm.clock, self.interrupted)
        self.accesses: Counter[tuple[str, str, str]] = Counter()
        self.arrived: list[bytes] = []
        self.frames_out = self.frames_in = self.lost = 0
        self.taking = False
        port.product = self
        (card,) = vm.pc.cards.values()
        self.card: HostedLance = adopt(card, self)

    @property
    def may_take(self) -> bool:
        return self.taking and self.nic.has_room

    # --- what a product fills in --------------------------------------------------------------------------------------

    def accessed(self, access: Access) -> None:
        raise NotImplementedError

    def interrupted(self, at_ns: int, frame: bytes | None) -> None:
        """By the host's card: a frame came, or (``None``) one has left."""
        raise NotImplementedError

    def frame_out(self, frame: bytes) -> None:
        """The card has taken a frame out of guest memory."""
        raise NotImplementedError

    # --- for it -------------------------------------------------------------------------------------------------------

    def report(self, access: Access, done_in: str) -> None:
        what = "address" if access.is_address else "data"
        self.accesses[what, "write" if access.write else "read", done_in] += 1
        self.worlds.emit(
            LanceAccessed(
                self.worlds.at_ns, access.register, access.write, access.value, access.sends, done_in
            )
        )  # fmt: skip

    def take_frames(self) -> None:
        """Let the card take what there is room for."""
        self.taking = True
        self.card.transmit_now()
        self.taking = False

    def on_the_wire(self, frame: bytes) -> None:
        self.frames_out += 1
        self.worlds.emit(FrameOnWire(self.worlds.at_ns, True, frame))
        self.nic.send(self.worlds.at_ns, frame)

    def to_guest(self, frame: bytes) -> None:
        self.frames_in += 1
        self.card.receive(frame)

    def keep(self, frame: bytes) -> None:
        """A frame from the wire waits."""
        self.worlds.emit(FrameOnWire(self.worlds.at_ns, False, frame))
        if len(self.arrived) < self.MOST_WAITING:
            self.arrived.append(frame)
        else:
            self.lost += 1

    def soon(self) -> None:
        """As soon as the processor is at a boundary."""
        self.vm.clock.at(self.vm.clock.now_ns, self.at_boundary)
        self.vm.engine.set_limit()

    def at_boundary(self) -> None:
        self.take_frames()
        self.pay()

    def pay(self) -> None:
        """What was spent so far is on the guest's clock from here on. Only from one of the clock's calls."""
        self.vm.engine.pay_port_accesses()

    def idle(self) -> None:
        """The guest has halted."""


class NativeProduct(Product):
    """No virtual machine: the driver has the card that is on the wire."""

    def accessed(self, access: Access) -> None:
        self.report(access, "card")
        if access.sends:
            self.soon()

    def interrupted(self, at_ns: int, frame: bytes | None) -> None:
        if frame is not None:
            self.to_guest(frame)
        self.take_frames()

    def frame_out(self, frame: bytes) -> None:
        self.on_the_wire(frame)


class EsxProduct(Product):
    """The vmkernel has a driver for the card, and there is no other world: no access leaves it, and no interrupt."""

    def __init__(self, vm: VirtualMachine, port: GuestPort, costs: WorldCosts) -> None:
        super().__init__(vm, port, costs)
        self.exit_ns = vm.costs.ns(vm.engine.port_cost())
        self.to_send = self._parked = False

    def accessed(self, access: Access) -> None:
        if self.to_send and not self._parked:  # another access before the processor is at a boundary
            self.worlds.cross("VMM", "guest", "goes on")
            self._parked = True
        self.report(access, "VMM")
        self.worlds.cross("guest", "VMM", access.register)
        field = "address_as_memory_ns" if access.is_address else "status_in_vmm_ns"
        self.worlds.work("VMM", field, f"carries out the access to {access.register}", self.exit_ns)
        if access.sends:
            self.to_send, self._parked = True, False
            self.soon()
        else:
            self.worlds.cross("VMM", "guest", "goes on")

    def at_boundary(self) -> None:
        if not self.to_send:
            return
        if self._parked:
            self.worlds.cross("guest", "VMM", "a frame to send")
        self.to_send = self._parked = False
        self.worlds.cross("VMM", "vmkernel", "a frame to send")
        self.take_frames()
        self.worlds.cross("vmkernel", "VMM", "sent")
        self.worlds.cross("VMM", "guest", "goes on")
        self.pay()

    def frame_out(self, frame: bytes) -> None:
        self.worlds.work("vmkernel", "send_in_vmapp_ns", "takes the frame out of the guest's ring")
        self.worlds.work("vmkernel", "vmkernel_frame_ns", "carries it to the driver of the card")
        self.on_the_wire(frame)

    def interrupted(self, at_ns: int, frame: bytes | None) -> None:
        worlds = self.worlds
        if self.to_send:
            self.at_boundary()
        worlds.emit(HostInterrupted(worlds.at_ns, "received" if frame is not None else "sent", False))
        worlds.cross("guest", "VMM", "interrupt")
        worlds.cross("VMM", "vmkernel", "interrupt")
        worlds.work("vmkernel", "host_interrupt_ns", "handles the interrupt with its own driver")
        if frame is not None:
            self.keep(frame)
        self._deliver()
        self.take_frames()
        worlds.cross("vmkernel", "VMM", "handled")
        worlds.cross("VMM", "guest", "goes on")
        self.pay()
        self._watch()

    def _deliver(self) -> None:
        while self.arrived and self.card.can_receive:
            self.worlds.work("vmkernel", "vmkernel_frame_ns", "carries the frame to the virtual card")
            self.to_guest(self.arrived.pop(0))

    def idle(self) -> None:
        if self.arrived and self.card.can_receive:
            self._watch(self.vm.clock.now_ns)

    def _watch(self, at_ns: int | None = None) -> None:
        """Frames for which the guest's ring has no room yet."""
        if self.arrived:
            self.vm.clock.at(self.vm.clock.now_ns + self.costs.look_ns if at_ns is None else at_ns, self._again)

    def _again(self) -> None:
        if not self.arrived or self.to_send:
            self._watch()
            return
        self.worlds.cross("guest", "VMM", "a frame waits")
        self.worlds.cross("VMM", "vmkernel", "a frame waits")
        self._deliver()
        self.worlds.cross("vmkernel", "VMM", "handled")
        self.worlds.cross("VMM", "guest", "goes on")
        self.pay()
        self._watch()
