"""May a machine that is off go to that datastore of another host? Each precondition a function; what is unmet, a
sentence that names both hosts.

::

    same_host      there are two
    names          files with plain names, none twice, none that a host uses for itself
    settings       the configuration can be read there: card kinds, disks, sizes
    datastore      it is there, and answers; the folder is free, and there is room
    port_groups    as for VMotion, but nobody needs a free port before the machine is on
    engine, image  are there
    processor      of a suspended machine: it goes on with what it has been shown

Nothing is touched. The destination asks; the source has sent its description, and the configuration file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from vilab.errors import AdminError
from vilab.guests import debian
from vilab.guests.bundled import BUNDLED
from vilab.guests.load import FLAT_PREFIX
from vilab.host.host import Host
from vilab.host.mounted import Mounted
from vilab.host.off_folder import belongs_to_host
from vilab.host.suspension import FILE_KEY
from vilab.host.vm_departure import read_mark
from vilab.host.vm_move import ArrivingHome
from vilab.host.vmx import Vmx
from vilab.host.vmx_disks import adapters_of
from vilab.host.vmx_network import cards_of
from vilab.host.vmx_settings import VmSettings, settings_of
from vilab.memory.client import MemoryConfig
from vilab.migration import compatibility as vmotion
from vilab.migration import compatibility_networks as networks
from vilab.migration.clone_config import file_name_of
from vilab.migration.descriptions import CardBacking, HostDescription, VmDescription, describe_host
from vilab.migration.file_copy_messages import MOST_FILES, CopyOffer
from vilab.storage.datastore import inside

MANY_PORTS = 1 << 20


class Incoming(msgspec.Struct):
    """What is to come. ``config``: as it was sent. ``there``: this host."""

    offer: CopyOffer
    config: Vmx
    host: Host
    there: HostDescription
    arriving: ArrivingHome
    settings: VmSettings
    vm: VmDescription

    @property
    def name(self) -> str:
        return self.offer.clone_name or self.settings.display_name

    @property
    def mounted(self) -> Mounted:
        assert self.arriving.mounted is not None
        return self.arriving.mounted


def look_at(host: Host, offer: CopyOffer, config: Vmx) -> Incoming:
    """What was offered, understood. ``AdminError``: the configuration, or where it is to be, cannot be understood
    here."""
    here, there = offer.source, describe_host(host)
    try:
        settings = settings_of(config)
        adapters_of(config)
        cards = cards_of(config, settings.display_name)
        arriving = ArrivingHome(host.storage, offer.where)
    except AdminError as error:
        raise AdminError(f"{offer.home} of {here.name} cannot go to {offer.where} on {there.name}: {error}") from None
    if arriving.mounted is None or arriving.folder == arriving.mounted.root:
        raise AdminError(
            f"{offer.home} of {here.name} cannot go to {offer.where} on {there.name}: a machine needs a folder of its "
            "own in a datastore."
        )
    vm = VmDescription(
        settings.display_name, offer.home, "", MemoryConfig(settings.memsize_mb), 0, settings.engine or "svm", {},
        here.cpu, tuple(CardBacking(card.number, card.network, card.connected) for card in cards),
    )  # fmt: skip
    return Incoming(offer, config, host, there, arriving, settings, vm)


def unmet(incoming: Incoming) -> list[str]:
    """Why it cannot come, in sentences; empty: it may."""
    return [sentence for each in PRECONDITIONS for sentence in each(incoming)]


def same_host(incoming: Incoming) -> Iterator[str]:
    if incoming.offer.source.name == incoming.there.name:
        yield (
            f"{incoming.name} is on {incoming.offer.source.name}, and {incoming.there.name} is the same host: its "
            "folder goes from datastore to datastore there, and over no connection."
        )


def names(incoming: Incoming) -> Iterator[str]:
    offer, seen = incoming.offer, set[str]()
    if len(offer.files) > MOST_FILES:
        yield (
            f"{incoming.name} of {offer.source.name} has {len(offer.files)} files, and {incoming.there.name} takes at "
            f"most {MOST_FILES}."
        )
    for file in offer.files:
        if not _is_plain(file.name) or belongs_to_host(file.name, incoming.arriving) or file.name in seen:
            yield (
                f"{file.name!r} of {incoming.name} on {offer.source.name} cannot be a file of a machine on "
                f"{incoming.there.name}: rename it."
            )
        seen.add(file.name)

    expected = offer.home.rpartition("/")[2].removesuffix(".vmx")
    plain = _is_plain(expected)
    if offer.clone_name:
        try:
            expected, plain = file_name_of(offer.clone_name), True
        except AdminError as error:
            yield f"{offer.home} of {offer.source.name} is not cloned to {incoming.there.name}: {error}"
            return
    if not offer.number or incoming.arriving.config.name != f"{expected}.vmx" or not plain:
        yield (
            f"{offer.home} of {offer.source.name} cannot become {offer.where} on {incoming.there.name}: the name of "
            "the configuration stays, and a clone's is the clone's name."
        )


def _is_plain(name: str) -> bool:
    try:
        return inside(name) == [name] and name.isprintable() and not name.endswith(".vmx")
    except AdminError:
        return False


def datastore(incoming: Incoming) -> Iterator[str]:
    offer, there, arriving, mounted = incoming.offer, incoming.there, incoming.arriving, incoming.mounted
    who = f"{incoming.name} of {offer.source.name}"
    if mounted.state != "active":
        yield f"{who} cannot go to {mounted.name}, which is {mounted.state} on {there.name}: look at it there."
        return
    folder = mounted.path_of(arriving.folder)
    if mounted.datastore.exists(folder):
        if not mounted.datastore.is_folder(folder):
            yield f"{who} cannot go to {offer.where} on {there.name}: there is a file with the name of its folder."
        elif problem := _taken(incoming, folder):
            yield f"{who} cannot go to {offer.where} on {there.name}: {problem}"
    needed, (_, free) = sum(file.data_bytes for file in offer.files), mounted.datastore.space()
    if needed > free:
        yield (
            f"{who} has files of {needed} bytes, and {mounted.name} on {there.name} has {free} bytes free: make room, "
            "or choose another datastore."
        )


def _taken(incoming: Incoming, folder: str) -> str:
    """What is in the way. What an earlier attempt of this very machine has left is not: it has not moved."""
    offer, mounted = incoming.offer, incoming.mounted
    none = incoming.arriving.lock_path.name
    there = [
        each for each in mounted.datastore.names(folder) if each != none and not each.startswith((".lck-", ".vilab-"))
    ]
    if not there:
        return ""
    mark = read_mark(incoming.arriving)
    if mark is None or mark.state == "arrived":
        return f"its folder is there already, with {there[0]} in it; rename or remove that."
    if (mark.host, mark.home) != (offer.source.name, offer.home):
        return f"its folder is there already, the unfinished copy of {mark.home} of {mark.host}."
    return ""


def port_groups(incoming: Incoming) -> Iterator[str]:
    there = msgspec.structs.replace(
        incoming.there,
        networks=tuple(msgspec.structs.replace(each, free_ports=MANY_PORTS) for each in incoming.there.networks),
    )
    yield from networks.port_groups(incoming.vm, incoming.offer.source, there)


def engine(incoming: Incoming) -> Iterator[str]:
    vm, there = incoming.vm, incoming.there
    if vm.engine not in there.engines:
        yield (
            f"{vm.name} of {incoming.offer.source.name} runs in the engine {vm.engine}, and {there.name} has "
            f"{', '.join(there.engines) or 'none'}: choose one that both have in its configuration."
        )


def image(incoming: Incoming) -> Iterator[str]:
    """A path leads to a file of the computer that the host runs on."""
    said = incoming.settings.image
    if said is None or said in BUNDLED:
        return
    if said == debian.NAME:
        try:
            debian.find()
        except AdminError as error:
            yield (
                f"{incoming.name} runs {said} on {incoming.offer.source.name}, and {incoming.there.name} does not have "
                f"it: {error}"
            )
    elif not Path(said.removeprefix(FLAT_PREFIX)).is_file():
        yield (
            f"{incoming.name} runs {said} on {incoming.offer.source.name}, and {incoming.there.name} has no such file: "
            "put it there, or set vilab.image to one that both have."
        )


def processor(incoming: Incoming) -> Iterator[str]:
    if incoming.config.get(FILE_KEY):
        yield from vmotion.cpu(incoming.vm, incoming.offer.source, incoming.there)


PRECONDITIONS: tuple[Callable[[Incoming], Iterator[str]], ...] = (
    same_host, names, datastore, port_groups, engine, image, processor,
)  # fmt: skip
