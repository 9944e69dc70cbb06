"""What stands in a lock file on an NFS datastore.

::

    .lck-3409000000000000       beside the file whose number on the server is 0x934: 8 bytes, the lowest first

      0   4  "vLCK"
      4   4  version, 1
      8   8  heartbeat: counted on by the owner, every 10 s
     16   4  1: held
     20  64  host's name, zeros behind it                 where ESX has it
     84  16  host's identity
    100  16  token: random, another one every time that a lock is taken
    116   8  generation: how often the lock has changed hands
    124   4  CRC-32 of the 124 bytes before

A lock file of something else is held by "an unknown host", for as long as its bytes change now and then.

MODEL: ESX's own record is not documented; name, place of the host's name and that it changes are (VMware KB 340515).
"""

from __future__ import annotations

import hashlib
import struct
import zlib

import msgspec

LAYOUT = struct.Struct("<4sIQI64s16s16sQ")
RECORD_BYTES = LAYOUT.size + 4
MAGIC = b"vLCK"
MOST_BYTES = 4096


class LockRecord(msgspec.Struct, frozen=True):
    host: str
    identity: bytes
    token: bytes
    generation: int = 0
    heartbeat: int = 1

    def pack(self) -> bytes:
        name = self.host.encode("utf-8", "replace")[:63]
        body = LAYOUT.pack(MAGIC, 1, self.heartbeat, 1, name, self.identity, self.token, self.generation)
        return body + struct.pack("<I", zlib.crc32(body))


def parse(raw: bytes) -> LockRecord:
    """Never fails: what is not ours gets its bytes' hash for a token."""
    if len(raw) == RECORD_BYTES and raw[:4] == MAGIC and zlib.crc32(raw[:-4]) == int.from_bytes(raw[-4:], "little"):
        _, version, heartbeat, _, name, identity, token, generation = LAYOUT.unpack(raw[:-4])
        if version == 1:
            host = name.rstrip(b"\0").decode("utf-8", "replace")
            return LockRecord(host, identity, token, generation, heartbeat)
    return LockRecord("an unknown host", bytes(16), hashlib.sha256(raw).digest()[:16])


def lock_name(fileid: int) -> str:
    """``.lck-3409000000000000`` for 0x934."""
    return ".lck-" + fileid.to_bytes(8, "little").hex()
