"""A session plugged into the end of a link: bytes there, messages here.

::

    heard(received) <── AgentPort ── session.feed <── end.on_data          end: of a MemoryLink, or a TcpLink
    send(message)   ──>           ── session.output ──> end.send
    ended(sentence) <──           once: the stream cannot be read on, or is over; the link is closed then

A session that fails says its last word, and its sentence is what ``ended`` hears. So nothing of the protocol comes out
as an exception of whoever drives the clock or the socket.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import msgspec

from vilab.migration.agent_session import AgentSession, ProtocolError, Received
from vilab.migration.agent_tcp import TcpLink
from vilab.migration.page_hashes import PageHashes
from vilab.protocols import ReadableBytes


class StreamEnd(Protocol):
    """What ``LinkEnd`` and ``TcpLink`` have in common."""

    on_data: Callable[[ReadableBytes], None]
    on_end: Callable[[str], None]
    open: bool

    @property
    def waiting_bytes(self) -> int: ...

    def send(self, buffers: Iterable[ReadableBytes]) -> None: ...

    def close(self) -> None: ...


class AgentPort:
    """Takes over both; an initiator says hello at once.

    Parameters
    ----------
    heard : each message, in order. It may send, and may close.
    ended : the sentence why there will be no more; not after ``close``.
    """

    def __init__(
        self, session: AgentSession, end: StreamEnd, heard: Callable[[Received], None], ended: Callable[[str], None]
    ) -> None:
        self.session, self.end = session, end
        self._heard, self._ended = heard, ended
        self.open = True
        end.on_data, end.on_end = self._data, self._end
        if isinstance(end, TcpLink):
            end.room, end.on_received = session.room, self._received
        if session.initiator:
            session.start()
            self._flush()

    @property
    def waiting_bytes(self) -> int:
        return self.end.waiting_bytes

    def send(
        self, message: msgspec.Struct, body: Sequence[ReadableBytes] = (), *, unchanging: bool = False
    ) -> PageHashes | None:
        """On its way when the session is established. When the port is not open any more, nothing happens. Returns the
        hashes of the body, if it is on its way.

        ``unchanging``: see ``TcpLink.send``; a body that is sent before the session is established has to stay as it
        is until then in any case.
        """
        if self.open and self.session.error is None:
            hashes = self.session.send(message, body)
            self._flush(unchanging)
            return hashes
        return None

    def refuse(self, why: str) -> None:
        """End it; the other side is told the sentence."""
        if self.open and self.session.error is None:
            self.session.refuse(why)
            self._flush()
            self.close()

    def close(self) -> None:
        if self.open:
            self.open = False
            self.end.close()

    def _flush(self, unchanging: bool = False) -> None:
        output = self.session.output()
        if not output:
            return
        if unchanging and isinstance(self.end, TcpLink):
            self.end.send(output, unchanging=True)
        else:
            self.end.send(output)

    def _data(self, data: ReadableBytes) -> None:
        try:
            got = self.session.feed(data)
        except ProtocolError as error:
            self._failed(error)
        else:
            self._flush()
            self._hear(got)

    def _received(self, count: int) -> None:
        try:
            got = self.session.received(count)
        except ProtocolError as error:
            self._failed(error)
        else:
            self._flush()
            self._hear(got)

    def _hear(self, got: list[Received]) -> None:
        for one in got:
            if self.open:
                self._heard(one)

    def _failed(self, error: ProtocolError) -> None:
        self._flush()
        self._hear(error.before)
        self._over(str(error))

    def _end(self, why: str) -> None:
        try:
            self.session.end()
        except ProtocolError as error:
            if not isinstance(self.end, TcpLink) or self.end.made:  # otherwise nobody has ended anything
                why = f"{str(error).rstrip('.')} ({why.rstrip('.')})."
        self._over(why)

    def _over(self, why: str) -> None:
        if self.open:
            self.close()
            self._ended(why)
