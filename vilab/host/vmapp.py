"""The VMApp: a process of the host that has the devices of a virtual machine, and is in control between two ioctl()s.

::

    while True:
        why = ioctl(VMDriver, RUN)     world switch, the guest runs, world switch
        if why is an access: do it
        take frames out of the guest's ring, write() each to the VMNet
        select() on the VMNet, or look at the flag in shared memory; read() what is there, raise the virtual interrupt

What happens in the host meanwhile needs no switch: its interrupts come while it has the processor (``leave``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vilab.host.hosted_product import HostedProduct


class VmApp:
    """``inside``: it is in control, or the kernel below it. ``looked_ns``: when it has run select() last."""

    def __init__(self, product: HostedProduct) -> None:
        self.product, self.worlds = product, product.worlds
        self.inside = False
        self.looked_ns = 0
        self._why = ""

    def enter(self, why: str) -> None:
        """The VMM gives up the processor for it."""
        if self.inside:
            return
        self.worlds.switch("VMM", "VMDriver", why)
        self._why = why
        self.entered()

    def entered(self) -> None:
        """The VMDriver has the processor already."""
        self._why = self._why or "interrupt"
        self.inside = True
        self.worlds.cross("VMDriver", "VMApp", "ioctl() returns")

    def work(self) -> None:
        """All that there is to do. Only from one of the clock's calls."""
        again = True
        while again:
            self.product.take_frames()
            if self.product.nic.has_room:
                self.product.queued = 0
                self.product.told_ns.clear()
            while self._is_there() and self.product.card.can_receive:
                self._read()
            again = self.leave()

    def looks_for_frames(self) -> bool:
        """On the way back: is there one to be read?"""
        return self._is_there() and self.product.card.can_receive

    def _is_there(self) -> bool:
        product = self.product
        if product.options.flag:
            return bool(product.arrived)
        self.worlds.cross("VMApp", "host kernel", "select()")
        self.worlds.work("host kernel", "select_ns", "asks the VMNet for frames")
        self.worlds.cross("host kernel", "VMApp", f"{len(product.arrived)} to read")
        self.looked_ns, product.unseen = self.worlds.at_ns, False
        return bool(product.arrived)

    def _read(self) -> None:
        self.worlds.cross("VMApp", "host kernel", "read()")
        self.worlds.work("host kernel", "read_ns", "hands over a frame of the VMNet")
        self.worlds.cross("host kernel", "VMApp", "a frame for the guest's ring")
        self.product.to_guest(self.product.arrived.pop(0))

    def send(self, frame: bytes) -> None:
        self.worlds.work("VMApp", "send_in_vmapp_ns", "takes the frame out of the guest's ring")
        self.worlds.cross("VMApp", "host kernel", "write()")
        self.worlds.work("host kernel", "write_ns", "sends it: VMNet, bridge, driver of the card")
        self.product.on_the_wire(frame)
        self.worlds.cross("host kernel", "VMApp", "written")

    def leave(self) -> bool:
        """Back to the VMM, unless the host's card has interrupted meanwhile and there is something to do again."""
        product = self.product
        while (found := product.nic.take_due(self.worlds.at_ns)) is not None:
            product.take_interrupt(found[1], switched=False)
        flagged = product.options.flag and product.arrived and product.card.can_receive
        if flagged or (product.queued and product.nic.has_room):
            return True
        self.go_back()
        return False

    def go_back(self) -> None:
        """Into the other world, whatever there is still to do."""
        self.worlds.cross("VMApp", "VMDriver", "ioctl(): run the guest")
        self.worlds.switch("VMDriver", "VMM", self._why)
        self.worlds.cross("VMM", "guest", "goes on")
        self.inside, self._why = False, ""
