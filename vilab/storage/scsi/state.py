"""What a logical unit remembers between commands, as a value.

::

    initiator A ──nexus──┐                        ┌─ reserved_by          RESERVE(6): one nexus, or nobody
                         ├─ target port ─ LUN ────┼─ registrations, holder, type       persistent reservations
    initiator B ──nexus──┘                        ├─ attentions           per nexus: what it has not been told yet
                                                  └─ pages, started       mode pages, spinning or not

A nexus (SAM-4, 4.7) is one initiator port seen through one target port; all that is "per initiator" in SCSI is per
nexus. Every record here goes to bytes and back without loss (``encode_state``, ``decode_target_state``).
"""

from __future__ import annotations

import hashlib

import msgspec


class Nexus(msgspec.Struct, frozen=True, order=True):
    """``initiator`` names the initiator port (iSCSI: ``iqn...,i,0x`` and the ISID), ``port`` the target's port."""

    initiator: str
    port: int = 1

    def __str__(self) -> str:
        return self.initiator if self.port == 1 else f"{self.initiator} at port {self.port}"


LUNS_CHANGED = 0x3F0E


class Attention(msgspec.Struct, frozen=True):
    """A unit attention that waits for a nexus; ``code`` is ASC << 8 | ASCQ."""

    nexus: Nexus
    code: int


class Registration(msgspec.Struct, frozen=True):
    nexus: Nexus
    key: int


class Identity(msgspec.Struct, frozen=True):
    """What INQUIRY says of a unit: 8, 16 and 4 characters, and a serial number that no other unit has."""

    serial: str
    vendor: str = "VMware"
    product: str = "Virtual disk"
    revision: str = "1.0"

    @property
    def naa(self) -> bytes:
        """16 bytes, NAA 6 (SPC-4, 7.8.6.6.4) under VMware's OUI 000C29: a name made from the serial number."""
        name = hashlib.sha256(self.serial.encode()).digest()
        return bytes((0x60, 0x00, 0xC2, 0x90 | name[0] & 0xF)) + name[1:13]


CACHING_DEFAULT = bytes((0x08, 0x12, 0x04)) + bytes(17)
"""Mode page 08h, 20 bytes: WCE, so that a write may stay in the cache until SYNCHRONIZE CACHE or FUA."""
CONTROL_DEFAULT = bytes((0x0A, 0x0A)) + bytes(10)
"""Mode page 0Ah, 12 bytes."""


class UnitState(msgspec.Struct):
    """One logical unit. ``holder`` made the persistent reservation of ``type`` (0: there is none); of the types for
    all registrants it is only a memory, every registrant holds them."""

    nexuses: list[Nexus] = []
    attentions: list[Attention] = []
    started: bool = True
    preventing: list[Nexus] = []
    reserved_by: Nexus | None = None
    generation: int = 0
    registrations: list[Registration] = []
    holder: Nexus | None = None
    type: int = 0
    caching: bytes = CACHING_DEFAULT
    control: bytes = CONTROL_DEFAULT

    @property
    def write_cache(self) -> bool:
        return bool(self.caching[2] & 0x04)

    @property
    def descriptor_sense(self) -> bool:
        return bool(self.control[2] & 0x04)

    @property
    def software_write_protect(self) -> bool:
        return bool(self.control[4] & 0x08)

    def attend(self, nexus: Nexus, code: int) -> None:
        """Establish a unit attention, once, for a nexus that is there."""
        attention = Attention(nexus, code)
        if nexus in self.nexuses and attention not in self.attentions:
            self.attentions.append(attention)

    def attend_others(self, nexus: Nexus, code: int) -> None:
        for other in self.nexuses:
            if other != nexus:
                self.attend(other, code)

    def next_attention(self, nexus: Nexus) -> int | None:
        """The oldest unit attention of a nexus, which is now told; ``None`` if there is none."""
        for index, attention in enumerate(self.attentions):
            if attention.nexus == nexus:
                del self.attentions[index]
                return attention.code
        return None


class Task(msgspec.Struct):
    """A command that has arrived and is not carried out yet: it waits for its data.

    ``aborted`` turns true when task management, a reset or another initiator has ended it; nothing of it happens then.
    """

    nexus: Nexus
    lun: int
    tag: int
    cdb: bytes
    data_out_bytes: int
    aborted: bool = False


class TargetState(msgspec.Struct):
    """A target with everything under it, but for the bytes on its disks."""

    nexuses: list[Nexus] = []
    units: dict[int, UnitState] = {}
    tasks: list[Task] = []


def encode_state(state: TargetState | UnitState) -> bytes:
    return msgspec.msgpack.encode(state)


def decode_target_state(data: bytes) -> TargetState:
    return msgspec.msgpack.decode(data, type=TargetState)


def decode_unit_state(data: bytes) -> UnitState:
    return msgspec.msgpack.decode(data, type=UnitState)
