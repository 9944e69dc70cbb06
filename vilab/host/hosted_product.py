"""The hosted product: a VMM that has no drivers, and an application of the host that has them all.

::

    guest    OUT CSR0 <- TDMD                    the paper's three optimizations:
      VMM      not mine
        ===> world switch                        (1) ports_in_vmm  the VMM does what needs no card
      VMDriver   the ioctl() of the VMApp ends   (2) combining     frames wait for a switch that happens anyway
        VMApp      Lance, write() to the VMNet   (3) flag          shared memory says that a frame is there
          kernel     VMNet ── bridge ── card
        VMApp      select(), read()
      VMDriver   ioctl() again
        ===> world switch
      VMM      virtual interrupt
    guest    goes on

A hardware interrupt while the VMM has the processor: a world switch, and the host takes it as if it came there.

What goes on in the VMApp is in ``vmapp``. Here are the VMM's decisions.

Source: Sugerman, Venkitachalam, Lim, USENIX ATC 2001, 2.3 (the way of a packet), 3.3 (optimizations). "The last of them
that a world switch is forced for" is quoted from memory as three.

MODEL: of the host's interrupts only those of its network card. A halted guest is a natural moment for a switch, too:
frames that wait are sent. The paper says that the VMApp runs select() periodically, not when, and that all three
optimizations save world switches. Here, without the flag, the VMDriver gives the processor back after an interrupt,
whatever it was for, and the VMApp looks when it is in control anyway, else when the guest halts after an interrupt,
else after ``look_ns``. Nothing waits longer than that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import msgspec

from vilab.clock import Timer
from vilab.host.hosted_lance import Access
from vilab.host.network_product import GuestPort, Product
from vilab.host.vmapp import VmApp
from vilab.host.world_costs import WorldCosts
from vilab.host.world_events import HostInterrupted, Place
from vilab.vmm.vm import VirtualMachine

MOST_QUEUED = 3
FORCED = ("backlog", "idle")
"""Why worlds are switched for the sake of frames that wait."""


class Waiting(msgspec.Struct, frozen=True):
    """What a combining VMM knows when it decides: how many ``frames`` wait, the oldest for how long, and whether the
    guest has just ``halted``; else it has just given a frame."""

    frames: int
    waited_us: float
    halted: bool


class Optimizations(msgspec.Struct, frozen=True):
    """Which of them are on. ``most_queued``: one frame more, and a switch is forced. ``policy``: another rule: is a
    switch to be made now? It is asked at each frame, and when the guest halts."""

    ports_in_vmm: bool = False
    combining: bool = False
    flag: bool = False
    most_queued: int = MOST_QUEUED
    policy: Callable[[Waiting], bool] | None = None


NONE = Optimizations()
PORTS = Optimizations(ports_in_vmm=True)
COMBINING = Optimizations(ports_in_vmm=True, combining=True)
ALL = Optimizations(ports_in_vmm=True, combining=True, flag=True)


class HostedProduct(Product):
    """VMM and VMDriver around a guest's card, with a ``VmApp``."""

    def __init__(self, vm: VirtualMachine, port: GuestPort, costs: WorldCosts, options: Optimizations = NONE) -> None:
        self.options = options
        super().__init__(vm, port, costs)
        self.exit_ns = vm.costs.ns(vm.engine.port_cost())
        self.app = VmApp(self)
        self.queued = 0
        """Frames in the guest's ring that the card has been told of, and that nobody has sent."""
        self.told_ns: deque[int] = deque()
        self.waited_ns: list[int] = []
        """Of each frame: from the guest's word to the VMApp's hand."""
        self.unseen = False
        """The host's card has interrupted, and the VMApp has not looked since."""
        self._flush: Timer | None = None
        if not options.flag:
            self._expect_look()

    # --- the guest's accesses: in the middle of a block of its code ---------------------------------------------------

    def accessed(self, access: Access) -> None:
        worlds, options = self.worlds, self.options
        if self.app.inside:  # another access before the processor is at a boundary: what is to be done is done then
            self.app.go_back()
        if access.is_address:
            field = "address_as_memory_ns" if options.ports_in_vmm else "port_in_vmm_ns"
            self._in_vmm(access, field)
            return
        if access.sends:
            self.queued += 1
            self.told_ns.append(worlds.at_ns)
        if self._can_stay(access):
            self._in_vmm(access, "status_in_vmm_ns")
            if access.sends:
                self._flush_by(self.worlds.at_ns + self.costs.look_ns)
            return
        self.report(access, "VMApp")
        worlds.cross("guest", "VMM", access.register)
        self.app.enter("backlog" if access.sends and options.combining else "I/O")
        if access.sends:
            self.soon()
            return
        worlds.work("VMApp", "status_in_vmapp_ns", f"emulates the access to {access.register}")
        if self.app.looks_for_frames() or self.app.leave():
            self.soon()

    def _can_stay(self, access: Access) -> bool:
        """May the VMM do it alone?"""
        options = self.options
        if not options.ports_in_vmm or access.starts_or_stops:
            return False
        if not access.sends:
            return True
        return options.combining and not self._has_to_switch(halted=False)

    def _has_to_switch(self, halted: bool) -> bool:
        """Frames wait. Is a switch to be made for them?"""
        if not self.nic.has_room:
            return False
        if self.options.policy is None:
            return halted or self.queued > self.options.most_queued
        waited_ns = self.worlds.at_ns - self.told_ns[0] if self.told_ns else 0
        return self.options.policy(Waiting(self.queued, waited_ns / 1000, halted))

    def _in_vmm(self, access: Access, field: str) -> None:
        self.report(access, "VMM")
        self.worlds.cross("guest", "VMM", access.register)
        self.worlds.work("VMM", field, f"carries out the access to {access.register}", self.exit_ns)
        self.worlds.cross("VMM", "guest", "goes on")

    # --- the clock's calls --------------------------------------------------------------------------------------------

    def at_boundary(self) -> None:
        self.app.enter("I/O")
        self.app.work()
        self.pay()

    def interrupted(self, at_ns: int, frame: bytes | None) -> None:
        self.take_interrupt(frame, switched=not self.app.inside)
        if not self.app.inside:
            if (self.queued and self.nic.has_room) or (self.options.flag and self.arrived):
                self.app.entered()
                self.app.work()
            else:
                self.worlds.switch("VMDriver", "VMM", "interrupt")
                self.worlds.cross("VMM", "guest", "goes on")
                self.unseen = not self.options.flag
            self.pay()
            self._watch()
            if self.vm.engine.halted:
                self.idle()

    def _watch(self) -> None:
        """What is there and cannot be delivered is not forgotten."""
        if self.options.flag and self.arrived:
            self._flush_by(self.vm.clock.now_ns + self.costs.look_ns)

    def take_interrupt(self, frame: bytes | None, switched: bool) -> None:
        """The host's handler runs. ``switched``: the VMM had the processor."""
        worlds, what = self.worlds, "sent" if frame is None else "received"
        worlds.emit(HostInterrupted(worlds.at_ns, what, switched))
        before: Place = "VMDriver" if switched else "VMApp"
        if switched:
            worlds.switch("VMM", "VMDriver", "interrupt")
        worlds.cross(before, "host kernel", "raises the interrupt again" if switched else "interrupt")
        worlds.work("host kernel", "host_interrupt_ns", f"handles the interrupt: a frame was {what}")
        if frame is not None:
            self.keep(frame)
        worlds.cross("host kernel", before, "handled")

    def idle(self) -> None:
        if self.unseen or self._can_deliver() or (self.queued and self._has_to_switch(halted=True)):
            self._flush_by(self.vm.clock.now_ns)

    def _can_deliver(self) -> bool:
        """Frames came for which the guest's ring had no room, and has now; the flag still says so."""
        return self.options.flag and bool(self.arrived) and self.card.can_receive

    def _flush_by(self, at_ns: int) -> None:
        if self._flush is not None and self._flush.action is not None and self._flush.at_ns > at_ns:
            self._flush.cancel()
            self._flush = None
        if self._flush is None or self._flush.action is None:
            self._flush = self.vm.clock.at(at_ns, self._flush_now)
            self.vm.engine.set_limit()

    def _flush_now(self) -> None:
        self._flush = None
        if self.app.inside:
            return
        if self.queued and self.nic.has_room:
            self._visit("idle")
        elif self.unseen or self._can_deliver():
            self._visit("look")
        self._watch()

    def _expect_look(self) -> None:
        self.vm.clock.at(self.app.looked_ns + self.costs.look_ns, self._look)

    def _look(self) -> None:
        if self.vm.clock.now_ns - self.app.looked_ns >= self.costs.look_ns and not self.app.inside:
            self._visit("look")
        self._expect_look()

    def _visit(self, why: str) -> None:
        self.app.enter(why)
        self.app.work()
        self.pay()

    # --- the card -----------------------------------------------------------------------------------------------------

    def frame_out(self, frame: bytes) -> None:
        self.queued = max(0, self.queued - 1)
        if self.told_ns:
            self.waited_ns.append(self.worlds.at_ns - self.told_ns.popleft())
        self.app.send(frame)
