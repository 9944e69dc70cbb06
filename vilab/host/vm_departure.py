"""A machine's folder that goes to a host with which this one shares no datastore: what both write down.

::

    here                      there                   which one counts
    web.vmx                   web.vmx.moving          this one
    web.vmx  web.vmx.leaving  web.vmx.moving          neither yet: the host there decides, by one renaming
    web.vmx  web.vmx.leaving  web.vmx                 the one there
    web.vmx  web.vmx.leaving  web.vmx.withdrawn       this one: that one never will
    web.vmx  web.vmx.kept     (whatever)              this one: a person has said so, and the one there has to go
                              web.vmx                 the one there, and nothing is left of this one

There is no lock that both see. So this host writes ``leaving`` before it asks the other one to decide, and from then on
runs the machine only when the other one has said that it will not: a machine that is off and says why is better than
two that run. What ``web.vmx.leaving`` says: which host, which folder, and the number of the move.

Protocol: two-phase commit, with the commit point handed to the last agent. Source: J. Gray, Notes on Data Base
Operating Systems (1978), section 5.8.3.3.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal, get_args

import msgspec

from vilab.errors import AdminError
from vilab.host import vmx
from vilab.host.vm_home import MOST_BYTES, VmHome
from vilab.host.vm_move import NUMBER, ArrivingHome, clear_folder
from vilab.host.vmx import Vmx, truth
from vilab.storage.disk_file import Files

State = Literal["leaving", "kept"]

FROM_HOST: Final = "vilab.move.fromHost"
FROM_HOME: Final = "vilab.move.fromHome"
WHOLE: Final = "vilab.move.whole"
CLAIMED: Final = "vilab.move.claimed"
KEYS: Final = (FROM_HOST, FROM_HOME, NUMBER, WHOLE, CLAIMED)
"""Keys of a configuration that has come from another host, until nothing is left there. ``WHOLE``: all files are here,
compared and on the disk. ``CLAIMED``: a person has said that the machine is here."""


class Departure(msgspec.Struct, frozen=True):
    """``number``: this move's alone. ``host``, ``to``: whose agent decides, and the configuration there. ``address``:
    where that agent was called."""

    number: str
    host: str
    to: str
    address: str = ""
    state: State = "leaving"


def departure_path(home: VmHome, state: State = "leaving") -> Path:
    return home.config.with_name(f"{home.config.name}.{state}")


def write_departure(home: VmHome, departure: Departure) -> None:
    """In one step, and on the disk when it returns."""
    path = departure_path(home, departure.state)
    text = vmx.parse(b"", path.name)
    for key, value in (
        ("number", departure.number), ("host", departure.host), ("to", departure.to), ("address", departure.address),
    ):  # fmt: skip
        text.set(f"move.{key}", value)
    home.files.replace(path, vmx.write(text))


def read_departure(home: VmHome) -> Departure | None:
    """``None``: it is not on its way to another host. ``AdminError`` where what is written there cannot be read."""
    states: tuple[State, ...] = get_args(State)
    for state in (*states, *states):  # it may have become another one while we looked
        path = departure_path(home, state)
        if not home.files.exists(path):
            continue
        text = vmx.parse(_content(home.files, path), path.name)
        number, host, to = (text.get(f"move.{key}") for key in ("number", "host", "to"))
        if not (number and host and to):
            raise AdminError(
                f"{path} is damaged: it does not say to which host {home.name} was on its way. If the machine is at no "
                "other host, delete that file."
            )
        return Departure(number, host, to, text.get("move.address") or "", state)
    return None


def check_departure(home: VmHome) -> None:
    """At power-on, with the machine's lock: it is not on its way to another host.

    Raises
    ------
    AdminError : it is, or has arrived there: where, and how that is decided.
    """
    departure = read_departure(home)
    if departure is not None and departure.state == "leaving":
        raise AdminError(undecided(home, departure))


def undecided(home: VmHome, departure: Departure) -> str:
    """Where the machine may be, and how to find out."""
    return (
        f"{home.where} stays off on {home.storage.host}: it was on its way to {departure.to} on {departure.host} (move "
        f"{departure.number}), and only {departure.host} knows whether it has arrived there. Let {home.storage.host} "
        f"ask {departure.host}; if that host is gone for good, say that the machine is here."
    )


def keep_here(home: VmHome) -> Departure:
    """A person says: it is here. It can be powered on from now on; what is at the other host is withdrawn when that is
    asked the next time. Call it with the machine's lock.

    Raises
    ------
    AdminError : it is not on its way; or all that is left here is a note of it.
    """
    departure = read_departure(home)
    if departure is None:
        raise AdminError(f"{home.where} is not on its way to another host: there is nothing to decide.")
    if not home.files.exists(home.config):
        raise AdminError(
            f"{home.where} has moved to {departure.to} on {departure.host}, and its files here have been removed."
        )
    if departure.state == "leaving":
        home.files.rename(departure_path(home, "leaving"), departure_path(home, "kept"))
    return msgspec.structs.replace(departure, state="kept")


def clear_departed(home: VmHome) -> None:
    """Remove the folder of a machine that has arrived elsewhere: first what it could be powered on with, last the note
    that says so. ``AdminError``, ``OSError``: not all of it, and the note is still there."""
    clear_folder(home, (home.config.name,), (departure_path(home).name,))


# --- at the other host ------------------------------------------------------------------------------------------------


def mark(config: Vmx, number: str, host: str, home: str, whole: bool) -> None:
    """Where it comes from, and whether all of it is here."""
    for key, value in ((NUMBER, number), (FROM_HOST, host), (FROM_HOME, home), (WHOLE, "TRUE" if whole else "FALSE")):
        config.set(key, value)


def unmark(config: Vmx) -> None:
    for key in KEYS:
        config.remove(key)


class Mark(msgspec.Struct, frozen=True):
    """What a configuration says of where it comes from. ``state``: the name that it is under."""

    number: str
    host: str
    home: str
    whole: bool
    claimed: bool
    state: Literal["pending", "arrived", "withdrawn"]


def read_mark(arriving: ArrivingHome) -> Mark | None:
    """Of the folder of a machine that comes from another host; ``None`` if there is none in it. ``AdminError``: it
    cannot be looked at."""
    mounted = arriving.mounted
    if mounted is None or not mounted.datastore.exists(mounted.path_of(arriving.folder)):
        return None
    states: tuple[tuple[Literal["pending", "arrived", "withdrawn"], Path], ...] = (
        ("pending", arriving.pending), ("arrived", arriving.config), ("withdrawn", arriving.withdrawn),
    )  # fmt: skip
    for state, path in states:
        if arriving.files.exists(path):
            text = vmx.parse(_content(arriving.files, path), path.name)
            number, host, home = text.get(NUMBER), text.get(FROM_HOST), text.get(FROM_HOME)
            if not (number and host and home):
                return None
            return Mark(number, host, home, truth(text, WHOLE), truth(text, CLAIMED), state)
    return None


def claim_here(arriving: ArrivingHome) -> Mark:
    """A person says: it is here. It counts from now on.

    Raises
    ------
    AdminError : there is no machine on its way here, or not all of it has come.
    """
    found = read_mark(arriving)
    if found is None or found.state == "withdrawn":
        raise AdminError(f"{arriving.where} is not on its way from another host: there is nothing to decide.")
    if not found.whole:
        raise AdminError(
            f"{arriving.where} has not come from {found.host} as a whole: power it on there, {found.home}."
        )
    arriving.arrived = found.state == "arrived"
    config = arriving.read()
    config.set(CLAIMED, "TRUE")
    arriving.write(config)
    if not arriving.arrived:
        arriving.arrive()
    return msgspec.structs.replace(found, claimed=True, state="arrived")


def _content(files: Files, path: Path) -> bytes:
    file = files.open(path)
    try:
        return file.read_some(0, MOST_BYTES)
    finally:
        file.close()
