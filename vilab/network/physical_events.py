"""What happens on the physical side of a network, for views and logs."""

from __future__ import annotations

from vilab.events import Event


class LinkChanged(Event, frozen=True, tag=True):
    """A network card of the host has lost its link, or has one again."""

    nic: str
    up: bool


class UplinkMoved(Event, frozen=True, tag=True):
    """A port of a virtual switch uses another uplink now; ``None``: none is left, or none was there.

    ``why``: ``link``, ``beacon``, ``failback``, ``connected``, ``reconfigured``.
    """

    port_id: int
    mac: bytes
    from_nic: str | None
    to_nic: str | None
    why: str


class SwitchesNotified(Event, frozen=True, tag=True):
    """A RARP frame has been sent for a machine's address, so that physical switches learn where it is now."""

    nic: str
    mac: bytes
    vlan: int | None


class BeaconVerdict(Event, frozen=True, tag=True):
    """What beacons say has changed. ``shotgun``: nobody can tell which of them are failed, so all are used."""

    failed: tuple[str, ...]
    shotgun: bool


class AddressLearned(Event, frozen=True, tag=True):
    """A physical switch has seen an address for the first time, or on another port than before (``from_port``)."""

    switch: str
    vlan: int
    mac: bytes
    port: str
    from_port: str | None


class StormControlled(Event, frozen=True, tag=True):
    """A port of a physical switch has brought more frames for everybody than it may: what follows is dropped until
    ``until_ns``."""

    switch: str
    port: str
    until_ns: int
