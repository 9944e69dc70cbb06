"""key=value text, as login and text PDUs carry it (RFC 7143, 6.1).

::

    InitiatorName=iqn.2006-06.org.example:a\\0HeaderDigest=CRC32C,None\\0...

A text may be spread over several PDUs, with C set in all but the last; ``TextCollector`` puts it together and stops at
``MAX_TEXT_BYTES``. What the peer may send is bounded: so many keys, so long a value.
"""

from __future__ import annotations

import base64
import binascii

MAX_TEXT_BYTES = 16 << 10
MAX_KEYS = 64
MAX_KEY_CHARACTERS = 63
MAX_VALUE_CHARACTERS = 8192
PRINTABLE = frozenset(chr(c) for c in range(0x20, 0x7F))


class TextError(Exception):
    """The peer's text is none. Never leaves a state machine."""


def encode_text(pairs: list[tuple[str, str]]) -> bytes:
    return b"".join(f"{key}={value}".encode() + b"\0" for key, value in pairs)


def decode_text(data: bytes, max_keys: int = MAX_KEYS) -> list[tuple[str, str]]:
    """The pairs, in their order. Raises ``TextError``."""
    pairs: list[tuple[str, str]] = []
    for item in data.split(b"\0", max_keys + 1):
        if not item:
            continue
        if len(pairs) == max_keys:
            raise TextError(f"more than {max_keys} keys")
        key, equals, value = item.partition(b"=")
        if not equals or not 0 < len(key) <= MAX_KEY_CHARACTERS or len(value) > MAX_VALUE_CHARACTERS:
            raise TextError("a key without a value, or too long a one")
        try:
            pairs.append((key.decode("ascii"), value.decode("utf-8")))
        except UnicodeDecodeError:
            raise TextError("characters that no key or value has") from None
        if not PRINTABLE.issuperset(pairs[-1][0]):
            raise TextError("characters that no key has")
    return pairs


class TextCollector:
    """A text that comes in pieces."""

    def __init__(self, max_bytes: int = MAX_TEXT_BYTES, max_keys: int = MAX_KEYS) -> None:
        self.max_bytes = max_bytes
        self.max_keys = max_keys
        self._data = b""

    def add(self, data: bytes, more: bool) -> list[tuple[str, str]] | None:
        """``None`` while there is more to come. Raises ``TextError``."""
        if len(self._data) + len(data) > self.max_bytes:
            raise TextError(f"more than {self.max_bytes} bytes of text")
        self._data += data
        if more:
            return None
        whole, self._data = self._data, b""
        return decode_text(whole, self.max_keys)


def decode_binary(value: str) -> bytes:
    """``0x...`` or ``0b...`` (base64) to bytes (6.1, binary-value). Raises ``TextError``."""
    prefix, digits = value[:2].lower(), value[2:]
    try:
        if prefix == "0x" and digits:
            return bytes.fromhex(digits if len(digits) % 2 == 0 else "0" + digits)
        if prefix == "0b" and digits:
            return base64.b64decode(digits, validate=True)
    except (ValueError, binascii.Error):
        pass
    raise TextError("a binary value that is neither hexadecimal nor base64")


def encode_binary(data: bytes) -> str:
    return "0x" + data.hex()


def decode_number(value: str) -> int:
    """Decimal or hexadecimal. Raises ``TextError``."""
    text = value.strip()
    try:
        if len(text) > 20 or not text or text[0] in "+-_" or "_" in text:
            raise ValueError
        return int(text, 16) if text[:2].lower() == "0x" else int(text, 10)
    except ValueError:
        raise TextError("a number that is none") from None
