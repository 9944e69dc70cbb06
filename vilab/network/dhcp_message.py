"""DHCP messages: the fields of BOOTP, and options.

::

    octet   0  op (1 request, 2 reply) | 1  hardware type 1 | 2  address length 6 | 3  hops
            4  transaction id          | 8  seconds         | 10 flags: 8000 broadcast
           12  ciaddr   16 yiaddr   20 siaddr   24 giaddr       the client's, yours, next server, relay
           28  hardware address, 16    44 server name, 64       108 boot file, 128
          236  63825363                240 options              shortest message: 300 octets

    option | code | length | value |     0: padding, 255: end; longer than 255 octets: the same code again (RFC 3396)
    52     overload: options go on in the boot file (1), the server name (2), or both (3)

``DhcpError``, and nothing else, is what parsing raises. Sources: RFC 2131, section 2; RFC 2132; RFC 3396.
"""

from __future__ import annotations

import struct

import msgspec

from vilab.errors import AdminError, VilabError

REQUEST, REPLY = 1, 2
BROADCAST_FLAG = 0x8000
MIN_BYTES = 300
COOKIE = bytes.fromhex("63825363")

DISCOVER, OFFER, DHCP_REQUEST, DECLINE, ACK, NAK, RELEASE, INFORM = range(1, 9)

MASK, ROUTER, DNS, HOST_NAME, DOMAIN, REQUESTED_IP, LEASE_S, OVERLOAD, KIND = 1, 3, 6, 12, 15, 50, 51, 52, 53
SERVER, PARAMETERS, MESSAGE, RENEW_S, REBIND_S, CLIENT_ID, TFTP_SERVER, BOOT_FILE, USER_CLASS = (
    54, 55, 56, 58, 59, 61, 66, 67, 77,
)  # fmt: skip
PAD, END = 0, 255

_FIXED = struct.Struct(">BBBBIHH4s4s4s4s16s64s128s")


class DhcpError(VilabError):
    """The bytes are no DHCP message."""


class DhcpMessage(msgspec.Struct, frozen=True, kw_only=True):
    """``options``: by code, in the order in which they are sent."""

    op: int
    transaction: int
    mac: bytes
    options: dict[int, bytes] = {}
    seconds: int = 0
    flags: int = 0
    client_ip: bytes = bytes(4)
    your_ip: bytes = bytes(4)
    next_server: bytes = bytes(4)
    relay: bytes = bytes(4)
    server_name: bytes = b""
    boot_file: bytes = b""

    @property
    def kind(self) -> int | None:
        """``None``: BOOTP, not DHCP."""
        value = self.options.get(KIND, b"")
        return value[0] if len(value) == 1 else None

    def encode(self) -> bytes:
        """``AdminError`` if a name does not fit into its field."""
        if len(self.server_name) > 64 or len(self.boot_file) > 128:
            raise AdminError("A server name in DHCP has at most 64 octets, the name of a boot file 128.")
        fixed = _FIXED.pack(
            self.op, 1, 6, 0, self.transaction, self.seconds, self.flags, self.client_ip, self.your_ip,
            self.next_server, self.relay, self.mac, self.server_name, self.boot_file,
        )  # fmt: skip
        options = b"".join(_option(code, value) for code, value in self.options.items())
        return (fixed + COOKIE + options + bytes([END])).ljust(MIN_BYTES, b"\0")


def _option(code: int, value: bytes) -> bytes:
    pieces = [value[at : at + 255] for at in range(0, len(value), 255)] or [b""]
    return b"".join(bytes([code, len(piece)]) + piece for piece in pieces)


def parse_dhcp(data: bytes) -> DhcpMessage:
    if len(data) < _FIXED.size + len(COOKIE) or data[_FIXED.size : _FIXED.size + 4] != COOKIE:
        raise DhcpError(f"{len(data)} octets without the magic cookie are no DHCP message.")
    (
        op, hardware, mac_bytes, _, transaction, seconds, flags, client_ip, your_ip, next_server, relay, mac,
        server_name, boot_file,
    ) = _FIXED.unpack_from(data)  # fmt: skip
    if (hardware, mac_bytes) != (1, 6) or op not in (REQUEST, REPLY):
        raise DhcpError("A DHCP message that is not for Ethernet.")
    options: dict[int, bytes] = {}
    _read(data[_FIXED.size + 4 :], options)
    overload = options.pop(OVERLOAD, b"\0")
    if len(overload) != 1:
        raise DhcpError("The overload option has one octet.")
    if overload[0] & 1:
        _read(boot_file, options)
        boot_file = b""
    if overload[0] & 2:
        _read(server_name, options)
        server_name = b""
    return DhcpMessage(
        op=op, transaction=transaction, mac=mac[:6], options=options, seconds=seconds, flags=flags,
        client_ip=client_ip, your_ip=your_ip, next_server=next_server, relay=relay,
        server_name=server_name.split(b"\0")[0], boot_file=boot_file.split(b"\0")[0],
    )  # fmt: skip


def _read(data: bytes, options: dict[int, bytes]) -> None:
    at = 0
    while at < len(data) and data[at] != END:
        code = data[at]
        if code == PAD:
            at += 1
            continue
        end = at + 2 + data[at + 1] if at + 1 < len(data) else len(data) + 1
        if end > len(data):
            raise DhcpError(f"Option {code} of a DHCP message is cut off.")
        options[code] = options.get(code, b"") + data[at + 2 : end]
        at = end
