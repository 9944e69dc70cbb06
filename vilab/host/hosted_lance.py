"""The virtual card as a VMM sees it: each access to a register is an event that somebody has to carry out.

::

    IN, OUT ──> the register does what it does (pcnet_am79c970a) ──> owner.accessed(access)
    descriptors are taken when the owner says so, and as long as it has room: owner.may_take

::

    offset 12   RAP   the address register: latches a number, nothing else
    offset 10   RDP   the data register: CSR0 is status and command
                      TDMD (send now) needs the host's card; INIT, STRT, STOP tell the VMNet what to deliver
    others      BDP, RESET, the address: at the start of a driver

The emulation is the same in all products; ``adopt`` puts a card that is plugged in already under an owner's eyes.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from vilab.devices import pcnet_registers as r
from vilab.devices import pcnet_rings as rings
from vilab.devices.network_adapter import NetworkAdapter
from vilab.devices.pcnet_am79c970a import PcnetAm79c970a
from vilab.devices.pcnet_control import PcnetState
from vilab.devices.pcnet_rings import Descriptor
from vilab.errors import AdminError

ADDRESS_REGISTER = "RAP"


class Access(msgspec.Struct, frozen=True):
    """One access. ``register``: ``RAP``, or of the data register what RAP selects, or ``RESET``, ``APROM``, ``BCR20``.

    ``on``: the transmitter was on before it.
    """

    register: str
    write: bool
    value: int
    on: bool = True

    @property
    def is_address(self) -> bool:
        return self.register == ADDRESS_REGISTER

    @property
    def sends(self) -> bool:
        """It makes the card look for frames to send."""
        return self.write and self.register == "CSR0" and bool(self.value & r.TDMD) and self.on

    @property
    def starts_or_stops(self) -> bool:
        """It changes what has to be delivered to the card: the VMNet must know."""
        if self.register == "CSR0":
            return self.write and bool(self.value & (r.INIT | r.STRT | r.STOP))
        return not self.is_address and not self.register.startswith("CSR")


class Owner(Protocol):
    """Who hears of the card's accesses."""

    @property
    def may_take(self) -> bool:
        """May the card take the next frame out of the guest's ring now?"""
        ...

    def accessed(self, access: Access) -> None: ...


class HostedLance(PcnetAm79c970a):
    """A PCnet with an owner."""

    owner: Owner

    def read_bar(self, index: int, offset: int, size_bytes: int) -> int:
        name, on = self._name(offset, size_bytes), bool(self._state.csr[0] & r.TXON)
        value = super().read_bar(index, offset, size_bytes)
        self.owner.accessed(Access(name, False, value, on))
        return value

    def write_bar(self, index: int, offset: int, size_bytes: int, value: int) -> None:
        name, on = self._name(offset, size_bytes), bool(self._state.csr[0] & r.TXON)
        super().write_bar(index, offset, size_bytes, value)
        self.owner.accessed(Access(name, True, value & 0xFFFF, on))

    def _name(self, offset: int, size_bytes: int) -> str:
        if offset + size_bytes <= 16:
            return "APROM"
        register = self._register(offset, size_bytes)
        if register == r.RDP:
            return f"CSR{self._state.rap}"
        if register == r.BDP:
            return f"BCR{self._state.rap}"
        return ADDRESS_REGISTER if register == r.RAP else "RESET"

    # --- frames -------------------------------------------------------------------------------------------------------

    def transmit_now(self) -> None:
        """Take what the owner lets it take. Only from one of the clock's calls."""
        if self._state.transmits:
            self._transmit()
        self._drive()

    @property
    def can_receive(self) -> bool:
        """Is there a descriptor for a frame?"""
        if not self._state.receives:
            return False
        descriptor = self._next_to_fill()
        return descriptor is not None and descriptor.owned

    def _next_to_send(self) -> Descriptor | None:
        found = super()._next_to_send()
        if found is None or not found.owned or not found.status & rings.STP or self.owner.may_take:
            return found
        return msgspec.structs.replace(found, status=found.status & ~rings.OWN)  # a frame that has to wait


def adopt(card: NetworkAdapter[PcnetState], owner: Owner) -> HostedLance:
    """From now on ``owner`` hears of this card. Its state stays what it is."""
    if not isinstance(card, PcnetAm79c970a):
        raise AdminError(f"A hosted product has a Lance for its guests; this machine has a {type(card).__name__}.")
    card.__class__ = HostedLance
    assert isinstance(card, HostedLance)
    card.owner = owner
    return card
