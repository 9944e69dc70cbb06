"""How two hosts find out that they may talk: names, versions, datacenter, and that both know its secret.

::

    initiator   idle ── hello() ──> welcome-due ── welcome: its proof is right ──> done
    responder   hello-due ── hello ──> proof-due ── proof: it is right ──────────> done
                     anything else: FrameError

The responder shows first that it knows the secret. Until it has seen the initiator's proof it believes nothing.
"""

from __future__ import annotations

import hmac
from typing import Literal

from vilab.migration import agent_keys as keys
from vilab.migration.agent_frames import (
    HANDSHAKE_BYTES,
    PROOF_BYTES,
    FrameError,
    Greeting,
    Handshake,
    HandshakeHeader,
    decode_greeting,
    encode_greeting,
    encode_handshake,
)

State = Literal["idle", "hello-due", "welcome-due", "proof-due", "done"]


class HandshakeSide:
    """One side. ``peer``, ``version``: of the other one and the one chosen, proven when the state is ``done``."""

    def __init__(
        self, name: str, datacenter: str, secret: bytes, nonce: bytes, versions: tuple[int, int], initiator: bool
    ) -> None:
        self.name, self.datacenter, self.versions = name, datacenter, versions
        self.role: keys.Role = "initiator" if initiator else "responder"
        self.state: State = "idle" if initiator else "hello-due"
        self.peer = ""
        self.version = 0
        self._root = keys.root_key(secret, datacenter)
        self._nonce = nonce
        self._transcript = b""

    @property
    def other(self) -> str:
        return f"host {self.peer}" if self.peer else "the other side"

    def hello(self) -> bytes:
        """The initiator's first word."""
        self.state = "welcome-due"
        self._transcript = encode_handshake(Handshake.HELLO, self._greeting(), self.versions)
        return self._transcript

    def hear(self, header: HandshakeHeader, said: bytes) -> bytes:
        """What to answer; nothing after the last word. ``said``: all of it, its header too. Raises ``FrameError``."""
        match header.kind, self.state:
            case Handshake.HELLO, "hello-due":
                return self._hear_hello(header, said)
            case Handshake.WELCOME, "welcome-due":
                return self._hear_welcome(header, said)
            case Handshake.PROOF, "proof-due":
                self._check_proof("initiator", said, said[HANDSHAKE_BYTES:])
                self.state = "done"
                return b""
        if said in self._transcript:
            raise self.mirror()
        due = {"idle": "nothing", "done": "a frame"}.get(self.state, self.state.removesuffix("-due"))
        raise FrameError(f"says {header.kind.name.lower()} where {due} is due: is it called, or does it call?")

    def session_keys(self) -> tuple[keys.DirectionKeys, keys.DirectionKeys]:
        """To the other side, and from it; when the state is ``done``."""
        other: keys.Role = "responder" if self.role == "initiator" else "initiator"
        return (
            keys.direction_keys(self._root, self._transcript, self.role),
            keys.direction_keys(self._root, self._transcript, other),
        )

    def _hear_hello(self, header: HandshakeHeader, said: bytes) -> bytes:
        if self._meet(header, said):
            raise FrameError("says more in its hello than a hello has")
        self._transcript = said
        self.version = min(self.versions[1], header.newest)
        self.state = "proof-due"
        return self._proven(Handshake.WELCOME, self._greeting())

    def _hear_welcome(self, header: HandshakeHeader, said: bytes) -> bytes:
        proof = self._meet(header, said)
        if header.chosen != min(self.versions[1], header.newest):
            raise FrameError(
                f"has chosen version {header.chosen} of the agent protocol, which is not the newest of both"
            )
        self._check_proof("responder", said, proof)
        self.version = header.chosen
        self.state = "done"
        return self._proven(Handshake.PROOF, b"")

    def _greeting(self) -> bytes:
        return encode_greeting(Greeting(self._nonce, self.name, self.datacenter))

    def _proven(self, kind: Handshake, payload: bytes) -> bytes:
        """With the proof of this side at its end, about all that was said until there."""
        chosen = self.version if kind is Handshake.WELCOME else 0
        said = encode_handshake(kind, payload + bytes(PROOF_BYTES), self.versions, chosen)[:-PROOF_BYTES]
        said += keys.proof(self._root, self.role, self._transcript + said)
        self._transcript += said
        return said

    def _check_proof(self, role: keys.Role, said: bytes, proof: bytes) -> None:
        about = self._transcript + said[: len(said) - len(proof)]
        if not hmac.compare_digest(keys.proof(self._root, role, about), proof):
            raise FrameError(
                f"could not show that it knows the secret of datacenter {self.datacenter}: "
                "compare the secrets of both hosts"
            )
        self._transcript += said

    def _meet(self, header: HandshakeHeader, said: bytes) -> bytes:
        """Who is it? Returns what stands behind its greeting."""
        greeting, rest = decode_greeting(said[HANDSHAKE_BYTES:])
        if greeting.nonce == self._nonce:
            raise self.mirror()
        self.peer = greeting.name
        oldest, newest = self.versions
        if header.newest < oldest or header.oldest > newest:
            older = self.other if header.newest < oldest else f"host {self.name}"
            raise FrameError(
                f"speaks versions {header.oldest} to {header.newest} of the agent protocol and host {self.name} "
                f"{oldest} to {newest}: update {older}"
            )
        if greeting.datacenter != self.datacenter:
            raise FrameError(
                f"belongs to datacenter {greeting.datacenter} and host {self.name} to {self.datacenter}: "
                "connect hosts of one datacenter"
            )
        if greeting.name == self.name:
            raise FrameError("has the same name as the host that it talks to: give one of them another name")
        return rest

    def mirror(self) -> FrameError:
        return FrameError(f"sends back what host {self.name} has said itself: look what answers at its address")
