"""Two agents that talk, for the tests of the protocol between them."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from vilab.migration.agent_session import AgentSession, ProtocolError, Received
from vilab.protocols import ReadableBytes

SECRET = b"a secret of 32 bytes, never used"
Got = tuple[msgspec.Struct, bytes]


class Pages(msgspec.Struct, tag=True, forbid_unknown_fields=True):
    first: int
    ppns: bytes = b""


class Stunned(msgspec.Struct, tag=True, forbid_unknown_fields=True):
    why: str


Messages = Pages | Stunned


def session(name: str, initiator: bool, secret: bytes = SECRET, nonce: bytes = b"", **more: object) -> AgentSession:
    """``nonce``: what it is not to draw by chance."""
    random: dict[str, object] = {"random": lambda size: nonce.ljust(size, b"\0")} if nonce else {}
    return AgentSession(name, secret, Messages, initiator=initiator, **random, **more)  # type: ignore[arg-type]


def pair() -> tuple[AgentSession, AgentSession]:
    return session("esx1", True), session("esx2", False)


def plain(got: list[Received]) -> list[Got]:
    return [(one.message, bytes(one.body)) for one in got]


def joined(parts: list[ReadableBytes]) -> bytes:
    return b"".join(parts)


def talk(
    a: AgentSession, b: AgentSession, change: Callable[[str, bytes], bytes] = lambda _way, data: data
) -> tuple[list[Got], list[Got], list[str]]:
    """Until nobody has anything to say: what ``a`` and ``b`` have received, and the errors of both.

    ``change``: of what goes ``a>b`` or ``b>a``.
    """
    got: dict[str, list[Got]] = {"a>b": [], "b>a": []}
    errors: list[str] = []
    while True:
        said = {"a>b": joined(a.output()), "b>a": joined(b.output())}
        if not any(said.values()):
            return got["b>a"], got["a>b"], errors
        for way, hears in (("a>b", b), ("b>a", a)):
            data = change(way, said[way])
            if data and hears.error is None:
                try:
                    got[way] += plain(hears.feed(data))
                except ProtocolError as error:
                    got[way] += plain(error.before)
                    errors.append(str(error))


def met(**more: object) -> tuple[AgentSession, AgentSession]:
    a, b = session("esx1", True, **more), session("esx2", False, **more)
    a.start()
    assert talk(a, b) == ([], [], [])
    return a, b
