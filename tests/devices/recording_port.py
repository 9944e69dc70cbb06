"""A port with a test behind it: what a network card sends is kept, and answered if the test wants to."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vilab.protocols import NetworkInterface

Answer = Callable[[bytes], Sequence[bytes]]


class RecordingPort:
    """A ``NetworkPort``.

    ``sent``: frames from the card. ``answer``: for each of them, frames that come back at once. ``listens``: what the
    driver has asked for, newest last. ``arriving``: what a record of the port has in it.
    """

    def __init__(self, answer: Answer = lambda frame: (), link_up: bool = True, arriving: bytes = b"") -> None:
        self.sent: list[bytes] = []
        self.listens: list[tuple[bytes, bool]] = []
        self.answer, self.link_up, self.arriving = answer, link_up, arriving
        self.interface: NetworkInterface | None = None

    def plug(self, interface: NetworkInterface) -> None:
        self.interface = interface

    def listen(self, address: bytes, promiscuous: bool) -> None:
        self.listens.append((address, promiscuous))

    def transmit(self, frame: bytes) -> None:
        assert type(frame) is bytes
        self.sent.append(frame)
        for each in self.answer(frame):
            self.send(each)

    def send(self, frame: bytes) -> None:
        """To the card."""
        assert self.interface is not None
        self.interface.receive(frame)

    def pull(self, up: bool) -> None:
        """The cable: out, or in again."""
        self.link_up = up
        assert self.interface is not None
        self.interface.link_changed(up)

    def save_state(self) -> bytes:
        return self.arriving

    def load_state(self, state: bytes) -> None:
        self.arriving = state
