"""What a Fibre Channel fabric reports."""

from __future__ import annotations

from vilab.events import Event


class FcPortAttached(Event, frozen=True, tag=True):
    """A port has logged in to the fabric (FLOGI) and stands in its name server. ``role``: initiator or target."""

    wwpn: str
    wwnn: str
    port_id: int
    role: str


class FcLinkChanged(Event, frozen=True, tag=True):
    """The cable between a port and its switch: up or down."""

    wwpn: str
    up: bool


class FcZonesChanged(Event, frozen=True, tag=True):
    """Another set of zones is in force; ``None``: none at all, everybody sees everybody."""

    zones: dict[str, tuple[str, ...]] | None


class FcStateChange(Event, frozen=True, tag=True):
    """RSCN: the fabric tells ``told`` that ``about`` has come or gone for it."""

    told: str
    about: str
    reachable: bool


class FcLogin(Event, frozen=True, tag=True):
    """PLOGI and PRLI: an initiator port and a target port have a session; or had one."""

    initiator: str
    target: str
    up: bool


class LunMasked(Event, frozen=True, tag=True):
    """An array shows a LUN to an initiator under a number, or (``array_lun`` ``None``) no longer."""

    array: str
    initiator: str
    lun: int
    array_lun: int | None


class LunTrespassed(Event, frozen=True, tag=True):
    """A LUN of an active/passive array belongs to another of its processors now."""

    array: str
    array_lun: int
    from_processor: str
    to_processor: str
    initiator: str
