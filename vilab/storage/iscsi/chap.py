"""CHAP: a secret is proved without being sent (RFC 1994, RFC 7143 section 12.1.3).

::

    initiator                                   target
    AuthMethod=CHAP,None                 ──>
                                         <──    AuthMethod=CHAP
    CHAP_A=5,7                           ──>                       algorithms: 5 MD5, 7 SHA-256
                                         <──    CHAP_A=5 CHAP_I=1 CHAP_C=0x...       identifier, challenge
    CHAP_N=user CHAP_R=0x...             ──>                       R = hash(I | secret | C)
      and if the target has to prove itself, too:
    CHAP_I=2 CHAP_C=0x...                ──>
                                         <──    CHAP_N=target CHAP_R=0x...

Who sees one exchange can try secrets against it for as long as he likes. So the RFC wants at least 96 random bits
where no IPsec is (section 9.2.1). A target that this project offers takes no shorter ones, as disk arrays and the
initiator of Windows do not. Targets of Linux (tgt, LIO) do take them, and so the initiators here prove whatever secret
somebody else's target has been given.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable

import msgspec

from vilab.errors import AdminError
from vilab.storage.iscsi.text import TextError, decode_binary, decode_number, encode_binary

CHALLENGE_BYTES = 16
MAX_CHALLENGE_BYTES = 1024
ALGORITHMS = {"5": "md5", "7": "sha256"}
"""CHAP_A: IANA's numbers and hashlib's names, what we prefer first."""
LEAST_SECRET_BYTES = 12
"""RFC 7143, section 9.2.1: 96 bits."""

Pairs = list[tuple[str, str]]


class Credentials(msgspec.Struct, frozen=True):
    """One side's name and secret. ``parse`` takes ``USER:SECRET``."""

    user: str
    secret: str

    @staticmethod
    def parse(text: str) -> Credentials:
        user, colon, secret = text.partition(":")
        if not (colon and user and secret):
            raise AdminError("CHAP needs USER:SECRET, both of them not empty.")
        return Credentials(user, secret)

    def refuse_short_secret(self) -> None:
        """``AdminError`` for a secret that is quickly found by trying."""
        size = len(_bytes(self.secret))
        if size < LEAST_SECRET_BYTES:
            raise AdminError(
                f"The CHAP secret of {self.user} has {size} bytes; at least {LEAST_SECRET_BYTES} are needed, or who "
                "listens to one login finds it by trying."
            )


def _bytes(text: str) -> bytes:
    """As they were typed, even where they are no UTF-8."""
    return text.encode("utf-8", "surrogateescape")


def respond(algorithm: str, identifier: int, secret: str, challenge: bytes) -> bytes:
    """
    >>> respond("5", 1, "secret", b"challenge").hex()
    '46e47770030e2b4e26a0db72a7efec00'
    """
    data = bytes((identifier,)) + _bytes(secret) + challenge
    return hashlib.new(ALGORITHMS[algorithm], data, usedforsecurity=False).digest()


class Challenger:
    """The side that wants proof. ``random``: so many bytes, as ``os.urandom``."""

    def __init__(self, algorithm: str, random: Callable[[int], bytes]) -> None:
        self.algorithm = algorithm
        self.identifier = random(1)[0]
        self.challenge = random(CHALLENGE_BYTES)

    def ask(self) -> Pairs:
        return [("CHAP_I", str(self.identifier)), ("CHAP_C", encode_binary(self.challenge))]

    def convinced_by(self, credentials: Credentials, said: dict[str, str]) -> bool:
        """Raises ``TextError`` if the proof is not even one."""
        proof = decode_binary(said.get("CHAP_R", ""))
        expected = respond(self.algorithm, self.identifier, credentials.secret, self.challenge)
        right_name = hmac.compare_digest(_bytes(said.get("CHAP_N", "")), _bytes(credentials.user))
        return hmac.compare_digest(proof, expected) and right_name


def prove(algorithm: str, credentials: Credentials, said: dict[str, str], own_challenge: bytes | None = None) -> Pairs:
    """The answer to CHAP_I and CHAP_C. Raises ``TextError`` for a challenge that is none, or is our own mirrored."""
    challenge = decode_binary(said.get("CHAP_C", ""))
    identifier = decode_number(said.get("CHAP_I", ""))
    if not 0 <= identifier <= 255 or len(challenge) > MAX_CHALLENGE_BYTES or challenge == own_challenge:
        raise TextError("a challenge that cannot be answered")
    proof = respond(algorithm, identifier, credentials.secret, challenge)
    return [("CHAP_N", credentials.user), ("CHAP_R", encode_binary(proof))]


def choose_algorithm(offered: str) -> str | None:
    """The first of the offered ones that we can do."""
    return next((name for name in offered.split(",") if name in ALGORITHMS), None)
