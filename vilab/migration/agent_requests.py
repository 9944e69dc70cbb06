"""What a person, or VirtualCenter, asks a host's agent, and what it answers.

::

    ListMachines                 ──>  Machines
    PowerOn(home), PowerOff(name)──>  Done, or Refused(why)
    Move(name, address)          ──>  Moving ... (progress), then Done or Refused(why)
    MoveStorage(name, datastore) ──>  Copying ... (progress), then Done or Refused(why)
    Suspend(name)                ──>  Done: PowerOn goes on with it, here or on another host
    Relocate(home, datastore)    ──>  Copying ..., Done: a machine that is off, or suspended
    Clone(source, name, datastore) ─> Copying ..., Done: another machine, off
    MoveFolder(home, address,
        datastore)               ──>  Copying ..., Done: the same, to a host that shares no datastore
    AskFolder(home)              ──>  Done: where such a machine is, if the connection has broken
    Read(name, after)            ──>  Said: what the machine has written to its serial line since
    Type(name, data)             ──>  Done
    Quit                         ──>  Done; every machine is powered off, and the process ends

``number``: chosen by who asks, repeated in the answers, so that questions may overlap.
"""

from __future__ import annotations

import msgspec

from vilab.migration.page_stream import Kind


class Request(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    number: int


class ListMachines(Request, frozen=True, tag=True):
    pass


class Machine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``stopped``: why it does not run. ``now_ns``: its own time."""

    name: str
    home: str
    memory_mb: int
    engine: str
    stopped: str
    now_ns: int


class Machines(Request, frozen=True, tag=True):
    host: str
    machines: tuple[Machine, ...]


class PowerOn(Request, frozen=True, tag=True):
    """``discard_suspended``: anew, if it is suspended; its state is lost."""

    home: str
    discard_suspended: bool = False


class PowerOff(Request, frozen=True, tag=True):
    name: str


class Move(Request, frozen=True, tag=True):
    """``address``: ``HOST:PORT`` of the destination's agent. ``rule``: when to stop the machine, by name. ``verify``:
    compare all of memory (``MigrationOptions``)."""

    name: str
    address: str
    rule: str = "nelson"
    kind: Kind = "zero"
    verify: bool = False


class Progress(Request, frozen=True, tag=True):
    """Says where it stands. The answer is still to come."""

    phase: str


class Moving(Progress, frozen=True, tag=True):
    """Of VMotion. ``left_ns``: until this round is sent, at this rate."""

    round: int
    percent: float
    sent_bytes: int
    bytes_per_s: float
    left_ns: int | None = None


class MoveStorage(Request, frozen=True, tag=True):
    """Storage VMotion, or what else ``vilab.migration.host_tasks`` does in steps. ``method``: ``snapshot`` or
    ``changed blocks``."""

    name: str
    datastore: str
    method: str = "changed blocks"


class Suspend(Request, frozen=True, tag=True):
    """To a file beside its configuration (``vilab.host.suspended``)."""

    name: str


class Relocate(Request, frozen=True, tag=True):
    """Cold migration (``vilab.migration.cold_migration``)."""

    home: str
    datastore: str


class MoveFolder(Request, frozen=True, tag=True):
    """Cold migration to a host that shares no datastore (``vilab.migration.file_copy_source``). ``address``:
    ``HOST:PORT`` of its agent. ``clone_name``: of a new machine there; this one stays."""

    home: str
    address: str
    datastore: str
    clone_name: str = ""


class AskFolder(Request, frozen=True, tag=True):
    """Where is a machine that was on its way (``vilab.migration.file_copy_decision``)? ``finish``: if nothing was
    decided, it moves; otherwise it stays. ``here``: a person says that it is at this host. ``address``: of the other
    one's agent, if that is another one now."""

    home: str
    finish: bool = True
    here: bool = False
    address: str = ""


class Clone(Request, frozen=True, tag=True):
    """``source``: the configuration file, or the name of a machine that is on. ``name``: of the new one."""

    source: str
    name: str
    datastore: str


class Copying(Progress, frozen=True, tag=True):
    """``percent``: of the phase. ``copied_bytes``: so far, of everything."""

    percent: float
    copied_bytes: int


class Read(Request, frozen=True, tag=True):
    name: str
    after: int


class Said(Request, frozen=True, tag=True):
    """The body: what was written after ``after`` bytes; ``total`` have been written in all."""

    total: int


class Type(Request, frozen=True, tag=True):
    name: str
    data: bytes


class Quit(Request, frozen=True, tag=True):
    pass


class Done(Request, frozen=True, tag=True):
    """``what``: a sentence."""

    what: str


class Refused(Request, frozen=True, tag=True):
    why: str


AgentRequest = (
    ListMachines | Machines | PowerOn | PowerOff | Move | Moving | MoveStorage | Suspend | Relocate | Clone | MoveFolder
    | AskFolder | Copying | Read | Said | Type | Quit | Done | Refused
)  # fmt: skip

MOST_CHARACTERS = 4000
"""Of a sentence."""


def readable(answer: Request) -> Request:
    """With sentences that can be sent and shown, each in a line: names of files need not be text, those of machines may
    have line ends, and what was asked is repeated."""
    changed = {}
    for name in answer.__struct_fields__:
        text = getattr(answer, name)
        if isinstance(text, str):
            fit = text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]} ..."
            fit = printable(fit)
            if fit != text:
                changed[name] = fit
    return msgspec.structs.replace(answer, **changed) if changed else answer


def printable(text: str) -> str:
    """The same, with what cannot be shown as Python writes it: ``\\n``."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
