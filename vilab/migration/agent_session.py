"""One side of a connection between the agents of two hosts. Bytes in, bytes out: no socket, no clock.

::

                       ┌──────────────────── AgentSession ───────────────────┐
    feed, received ──> │ Intake ──> HandshakeSide, then frames ──> messages  │ ──> Received(message, body), ...
    output         <── │ <── frames <── messages                             │ <── send(message, body)
                       └─────────────────────────────────────────────────────┘

Both have to know the secret of their datacenter, and show it about two fresh nonces and everything said before. From
then on every frame is keyed for this session and direction, and numbered. So a stranger, a wrong secret, a stream that
was changed, cut, put in another order, played again, or sent back to where it came from ends in ``ProtocolError``.
Nothing of such a stream is delivered from the damaged frame on; which frames came whole before it, the error says.

A session that fails has one last word for the other side (``output``): its sentence. During the handshake that word is
not authenticated: it is shown to the person, and ends what has not begun.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from vilab.errors import AdminError, VmmBug
from vilab.migration import agent_frames as wire
from vilab.migration.agent_frames import FrameError, Handshake, HandshakeHeader
from vilab.migration.agent_handshake import HandshakeSide
from vilab.migration.agent_intake import Intake
from vilab.migration.agent_messages import MessageCodec
from vilab.migration.agent_stream import FrameReceiver, FrameSender, gathered
from vilab.migration.page_hashes import PageHashes, hashes_of_body
from vilab.protocols import ReadableBytes

MAX_NAME_BYTES = 255
MAX_WHY_CHARACTERS = 600


class Received(msgspec.Struct):
    """A message, and the bytes that came with it: its memory is used again when nobody has a view of it any more.

    ``hashes``: of the body, which were found right.
    """

    message: Any
    body: memoryview
    hashes: PageHashes | None = None


class ProtocolError(AdminError):
    """The connection cannot go on. ``before``: what the same call had received before that, whole and authentic."""

    def __init__(self, sentence: str, before: Sequence[Received] = ()) -> None:
        self.before = list(before)
        super().__init__(sentence)


class RefusedError(Exception):
    """The other side's last word: its reason. Never leaves a session."""


class AgentSession:
    """Messages with bodies, to and from one other host.

    Parameters
    ----------
    name : of this host; the other one has another.
    secret : of the datacenter. As long as ``secrets.token_bytes(32)``: a short one can be guessed by who listens.
    messages : the tagged union of the ``msgspec.Struct`` types that may be received and sent.
    versions : oldest and newest that is spoken here.

    Raises
    ------
    ProtocolError : ``feed``, ``received``, ``end``; after that every method that would go on.
    """

    def __init__(
        self, name: str, secret: bytes, messages: Any, *, initiator: bool, datacenter: str = "datacenter",
        random: Callable[[int], bytes] = secrets.token_bytes,
        versions: tuple[int, int] = (wire.OLDEST_VERSION, wire.NEWEST_VERSION),
    ) -> None:  # fmt: skip
        for what, text in (("A host", name), ("A datacenter", datacenter)):
            if not (0 < len(text.encode(errors="replace")) <= MAX_NAME_BYTES and text.isprintable()):
                raise AdminError(f"{what} cannot be called {text!r}: give it 1 to 255 printable characters.")
        if not secret:
            raise AdminError(f"Host {name} has no secret for datacenter {datacenter}: give both hosts the same one.")
        self.name, self.initiator = name, initiator
        self.error: ProtocolError | None = None
        self._side = HandshakeSide(name, datacenter, secret, random(wire.NONCE_BYTES), versions, initiator)
        self._codec = MessageCodec(messages)
        self._intake = Intake()
        self._output: list[ReadableBytes] = []
        self._early: list[tuple[bytes, Sequence[ReadableBytes], int]] = []
        self._hearing: HandshakeHeader | None = None
        self._sender: FrameSender | None = None
        self._receiver: FrameReceiver | None = None

    @property
    def peer(self) -> str:
        """What the other side calls itself: claimed until ``established``, empty until it has said so."""
        return self._side.peer

    @property
    def version(self) -> int:
        """The one chosen of the protocol; 0 before."""
        return self._side.version

    @property
    def established(self) -> bool:
        """The other side has shown that it knows the secret, and nothing has gone wrong since."""
        return self._sender is not None and self.error is None

    @property
    def held_bytes(self) -> int:
        """Received, and not yet a whole frame."""
        return self._intake.held_bytes

    @property
    def buffer_bytes(self) -> int:
        """Memory in use for receiving."""
        return self._intake.buffer_bytes

    # --- sending ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """The initiator says hello."""
        if self._side.state != "idle":
            raise VmmBug(f"A session of host {self.name} was started twice, or by the side that is called.")
        self._output.append(self._side.hello())

    def send(self, message: msgspec.Struct, body: Sequence[ReadableBytes] = ()) -> PageHashes | None:
        """For ``output``, once the session is established.

        The parts of the body are not copied, unless they are small: they must stay as they are until they have left.
        Before the session is established that counts for all of them. Returns the hashes of the body, once it is.

        Raises
        ------
        VmmBug : no message of this session, or longer than a frame may be.
        """
        self._go_on()
        packed = self._codec.encode(message)
        parts, body_bytes = gathered(body)
        if body_bytes > wire.MAX_BODY_BYTES:
            raise VmmBug(f"The body of a {type(message).__name__} is longer than {wire.MAX_BODY_BYTES} bytes.")
        if self._sender is not None:
            return self._frame(self._sender, packed, parts, body_bytes)
        self._early.append((packed, parts, body_bytes))
        return None

    def _frame(self, sender: FrameSender, packed: bytes, parts: Sequence[ReadableBytes], body_bytes: int) -> PageHashes:
        hashes = PageHashes(sender.keys.body_seed, hashes_of_body(parts, sender.keys.body_seed))
        self._output += sender.frame(wire.Kind.MESSAGE, packed, parts, body_bytes, hashes.data)
        return hashes

    def output(self) -> list[ReadableBytes]:
        """What is to be sent now, in order; it is the caller's from then on."""
        taken, self._output = self._output, []
        return taken

    def refuse(self, why: str) -> None:
        """End it from this side: the other one is told the sentence, as the last thing."""
        self._go_on()
        self._fail(self._who, why)

    # --- receiving ----------------------------------------------------------------------------------------------------

    def feed(self, data: ReadableBytes) -> list[Received]:
        """Bytes as they have come, in any pieces."""
        self._go_on()
        got: list[Received] = []
        rest = memoryview(data).cast("B")
        while rest:
            room = self._intake.room()
            count = min(len(room), len(rest))
            room[:count] = rest[:count]
            rest = rest[count:]
            del room
            self._take_in(count, got)
        return got

    def room(self) -> memoryview:
        """Where the socket may write the next bytes; then say ``received``. Never empty."""
        self._go_on()
        return self._intake.room()

    def received(self, count: int) -> list[Received]:
        """So many bytes were written to ``room``."""
        self._go_on()
        got: list[Received] = []
        self._take_in(count, got)
        return got

    def end(self) -> None:
        """The stream has ended. An error in the middle of a frame or of the handshake; between frames it is none."""
        self._go_on()
        if self._receiver is not None:
            if self._receiver.between_frames:
                return
            why = "the stream ended in the middle of a frame"
        else:
            why = "the stream ended before both had shown that they know the secret"
        self._fail(self._who, f"{why}, look whether {self._side.other} is still up", tell=False)
        self._go_on()

    # --- what comes, piece by piece -----------------------------------------------------------------------------------

    def _hear(self) -> bool:
        """One piece of the handshake. False: it has not all come yet."""
        if self._hearing is None:
            start = self._intake.peek()
            if why := wire.foreign(start):
                raise FrameError(f"{why}: look whether its address and port are those of an agent")
            if len(start) < wire.HANDSHAKE_BYTES:
                return False
            self._hearing = wire.decode_handshake(start)
        header = self._hearing
        whole = self._intake.take(wire.HANDSHAKE_BYTES + header.size_bytes)
        if whole is None:
            return False
        self._hearing = None
        said = bytes(whole)
        if header.kind is Handshake.REFUSAL:
            raise RefusedError(said[wire.HANDSHAKE_BYTES :].decode(errors="replace"))
        answer = self._side.hear(header, said)
        if answer:
            self._output.append(answer)
        if self._side.state == "done":
            self._open()
        return True

    def _open(self) -> None:
        keys_out, keys_in = self._side.session_keys()
        self._sender = FrameSender(keys_out)
        self._receiver = FrameReceiver(keys_in, self._intake, keys_out, self._side.mirror())
        early, self._early = self._early, []
        for packed, parts, body_bytes in early:
            self._frame(self._sender, packed, parts, body_bytes)

    def _take_in(self, count: int, got: list[Received]) -> None:
        self._intake.received(count)
        try:
            while True:
                if self._receiver is None or self._plainly_refused(self._receiver):
                    if not self._hear():
                        return
                    continue
                frame = self._receiver.next()
                if frame is None:
                    return
                if frame.kind == wire.Kind.REFUSAL:
                    raise RefusedError(bytes(frame.message).decode(errors="replace"))
                hashes = PageHashes(self._receiver.keys.body_seed, frame.hashes)
                got.append(Received(self._codec.decode(frame.message), frame.body, hashes))
        except RefusedError as error:
            self._fail(self._side.other, str(error), tell=False)
        except FrameError as error:
            self._fail(self._who, f"{self._side.other} {error}")
        if self.error is not None:
            raise ProtocolError(str(self.error), got)

    def _plainly_refused(self, receiver: FrameReceiver) -> bool:
        """A responder that does not believe our proof has no keys to say so with. A first frame begins with zeros."""
        return self.initiator and receiver.at_the_first and bytes(self._intake.peek()[:1]) == wire.MAGIC[:1]

    # --- how it ends --------------------------------------------------------------------------------------------------

    @property
    def _who(self) -> str:
        return f"host {self.name}"

    def _go_on(self) -> None:
        if self.error is not None:
            raise ProtocolError(str(self.error))

    def _fail(self, who: str, why: str, tell: bool = True) -> None:
        whom = self._who if who == self._side.other else self._side.other
        reason = "".join(c if c.isprintable() else "?" for c in why[:MAX_WHY_CHARACTERS]).rstrip(".")
        if tell:
            packed = reason.encode(errors="replace")[: wire.MAX_HANDSHAKE_BYTES]
            if self._sender is not None:
                self._output += self._sender.frame(wire.Kind.REFUSAL, packed)
            else:
                self._output.append(wire.encode_handshake(Handshake.REFUSAL, packed, self._side.versions))
        sentence = f"{who} ended the connection with {whom}: {reason}."
        self.error = ProtocolError(sentence[0].upper() + sentence[1:])
        self._early.clear()
