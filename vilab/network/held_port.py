"""The place of a cable that is not plugged in yet: for a machine that is about to arrive.

::

    card ── HeldPort ┄┄┄┄ cable ── port of the switch    before: the card believes it is plugged in; nothing passes
    card ── HeldPort ───── cable ── port of the switch   after ``release``: as if HeldPort were not there

The port is taken all the time, so that there is one when it is needed; the switch does not know the card's address
before.
"""

from __future__ import annotations

from vilab.protocols import NetworkInterface, NetworkPort


class HeldPort:
    """A ``NetworkPort`` for the card. ``link_up``: what the card is to believe until ``release``."""

    def __init__(self, cable: NetworkPort, link_up: bool = True) -> None:
        self._cable, self._believed = cable, link_up
        self._card: NetworkInterface | None = None
        self._listening: tuple[bytes, bool] | None = None
        self._state: bytes | None = None
        self._held = True

    @property
    def link_up(self) -> bool:
        return self._believed if self._held else self._cable.link_up

    def plug(self, interface: NetworkInterface) -> None:
        self._card = interface
        if not self._held:
            self._cable.plug(interface)

    def listen(self, address: bytes, promiscuous: bool) -> None:
        self._listening = address, promiscuous
        if not self._held:
            self._cable.listen(address, promiscuous)

    def transmit(self, frame: bytes) -> None:
        """While it is held the machine does not run, and sends nothing."""
        if not self._held:
            self._cable.transmit(frame)

    def save_state(self) -> bytes:
        return self._cable.save_state() if not self._held or self._state is None else self._state

    def load_state(self, state: bytes) -> None:
        self._state = state
        if not self._held:
            self._cable.load_state(state)

    def release(self) -> None:
        """The cable is in: what is on its way to the card is there, and the switch hears of the card."""
        if not self._held:
            return
        self._held = False
        if self._card is not None:
            self._cable.plug(self._card)
        if self._state is not None:
            self._cable.load_state(self._state)
        if self._listening is not None:
            self._cable.listen(*self._listening)
        if self._card is not None and self._cable.link_up != self._believed:
            self._card.link_changed(self._cable.link_up)
