"""What can go wrong for an initiator, as sentences."""

from __future__ import annotations

from vilab.storage.block import BlockError


class IscsiError(BlockError):
    """The target could not be talked to: what is behind it is away."""

    def __init__(self, sentence: str) -> None:
        super().__init__("away", sentence)


class LoginRefusedError(IscsiError):
    """The target has refused the login. ``status``: class << 8 | detail; class 3 may go away by itself."""

    def __init__(self, status: int, sentence: str) -> None:
        self.status = status
        super().__init__(sentence)

    @property
    def lasting(self) -> bool:
        return self.status >> 8 != 3


class SessionLostError(IscsiError):
    """The connection broke. Whether commands under way were carried out is not known; reservations are gone."""


REFUSALS = {
    0x0101: "it has moved for now",
    0x0102: "it has moved",
    0x0200: "something in the login was wrong",
    0x0201: "the CHAP name or secret is not accepted",
    0x0202: "this initiator is not allowed in",
    0x0203: "there is no such target",
    0x0204: "the target has been removed",
    0x0205: "it speaks another version of iSCSI",
    0x0206: "there are too many connections",
    0x0207: "it misses a name or a parameter",
    0x0208: "the connection cannot be part of that session",
    0x0209: "it does not know this type of session",
    0x020A: "there is no such session",
    0x020B: "the request had no place in a login",
    0x0300: "the target has a problem of its own",
    0x0301: "the target is not available at the moment",
    0x0302: "the target has no room for another session",
}
"""Login status in words (RFC 7143, 11.13.5)."""
