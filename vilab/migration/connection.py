"""A session on a link: messages in and out of bytes.

::

    MigrationSource ──send──> AgentSession ──output──> LinkEnd or TcpLink  ──>  the other host
                    <─take──              <──feed────
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from vilab.migration.agent_session import AgentSession, ProtocolError
from vilab.protocols import ReadableBytes


class Wire(Protocol):
    """``agent_link.LinkEnd``, ``agent_tcp.TcpLink``."""

    on_data: Callable[[ReadableBytes], None]
    on_end: Callable[[str], None]

    @property
    def waiting_bytes(self) -> int: ...

    def send(self, buffers: Sequence[ReadableBytes]) -> None: ...

    def close(self) -> None: ...


class Connection:
    """Parameters
    ----------
    take : called with each message and its body; ``lost`` once, with a sentence, when no more will come.
    """

    def __init__(
        self, session: AgentSession, wire: Wire, take: Callable[[msgspec.Struct, memoryview], None],
        lost: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.session, self.wire = session, wire
        self._take, self._lost = take, lost
        self._over = False
        wire.on_data, wire.on_end = self._data, self._ended
        if session.initiator:
            session.start()
            wire.send(session.output())

    @property
    def waiting_bytes(self) -> int:
        return self.wire.waiting_bytes

    def send(self, message: msgspec.Struct, body: Sequence[ReadableBytes] = ()) -> None:
        """On a connection that is over nothing happens: who waits for an answer hears of the end."""
        if not self._over and self.session.error is None:
            self.session.send(message, body)
            self.wire.send(self.session.output())

    def close(self) -> None:
        """The other side hears what was sent, then the end. Nobody is told here."""
        self._over = True
        self.wire.close()

    def _data(self, data: ReadableBytes) -> None:
        if self._over:
            return
        try:
            arrived = self.session.feed(data)
        except ProtocolError as error:
            arrived = error.before
            self._deliver(arrived)
            self.wire.send(self.session.output())
            self._end(str(error))
            return
        self.wire.send(self.session.output())
        self._deliver(arrived)

    def _deliver(self, arrived: Sequence[object]) -> None:
        for each in arrived:
            if not self._over:
                self._take(each.message, each.body)  # type: ignore[attr-defined]

    def _ended(self, why: str) -> None:
        if self._over:
            return
        try:
            self.session.end()
        except ProtocolError as error:
            why = str(error)
        self._end(why)

    def _end(self, why: str) -> None:
        if not self._over:
            self._over = True
            self.wire.close()
            self._lost(why)
