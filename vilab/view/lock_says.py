"""What has just happened between two hosts and a LUN, in words, with figures read off the run."""

from __future__ import annotations

from collections.abc import Callable

from vilab.storage.vmfs.events import VmfsReservation
from vilab.view.lock_frame import SECOND_NS, LockStep, LockStory
from vilab.view.vmfs_frame import STALE, FileMoment
from vilab.view.words import counted, duration


def say(story: LockStory, position: int) -> str:
    step = story.steps[position]
    return SAYERS[step.kind](story, position)


def seconds(ns: int) -> str:
    return f"{ns / SECOND_NS:.1f}\u00a0s"


def reserved_ns(story: LockStory, position: int) -> tuple[int, int]:
    """How often the host of this step had the LUN reserved in it, and for how long in all."""
    held = [
        each.held_ns
        for each in story.said_of(position)
        if isinstance(each, VmfsReservation) and each.action == "released"
    ]
    return len(held), sum(held)


def locks_of(step: LockStep, owner: str) -> list[FileMoment]:
    """The files whose lock names a host, whether it counts or not."""
    return [file for file in step.volume.files if file.owner == owner]


def owner_of(step: LockStep) -> FileMoment | None:
    """The first file of the machine in question that another host has."""
    files = (f for f in step.volume.files if f.path.startswith(f"/{step.subject}/"))
    return next((f for f in files if f.owner and f.owner != step.host), None)


def _begin(story: LockStory, position: int) -> str:
    one, other = story.hosts
    return (
        f"One LUN with a VMFS volume, and two hosts that see it, {one} and {other}. Nobody has mounted it: no slot is "
        "live, no lock is taken."
    )


def _mounts(story: LockStory, position: int) -> str:
    step = story.steps[position]
    slot = step.volume.slot_of(step.host)
    assert slot is not None
    _, ns = reserved_ns(story, position)
    return (
        f"**{step.host} mounts**: heartbeat slot {slot.slot} names it, seq {slot.seq}, and gets a new stamp every 3 s. "
        f"To find a free slot it had the LUN for itself for {duration(ns)}."
    )


def _on(story: LockStory, position: int) -> str:
    step = story.steps[position]
    files = locks_of(step, step.host)
    mine = [f for f in files if f.path.startswith(f"/{step.subject}/")]
    asked = story.asked(position)
    if step.agrees is not None and asked is not None and asked.subject == step.subject:
        died = max(story.deaths.values(), default=None)
        since = f"{seconds(step.at_ns - died)} after the power went, " if died is not None else ""
        whole = "**is there, byte for byte**" if step.agrees else "**is not there**"
        return (
            f"**{step.subject} is on at {step.host}**, {since}{seconds(step.at_ns - asked.at_ns)} after it was asked "
            f"for. All that its guest had been told was written {whole}."
        )
    times, ns = reserved_ns(story, position)
    often = {1: "once", 2: "twice"}.get(times, f"{times} times")
    slot = mine[0].slot if mine else 0
    return (
        f"**{step.subject} is on at {step.host}**: {counted(len(mine), 'lock')} taken. A lock is one sector before the "
        f"file's inode; now it names slot {slot}, seq {mine[0].seq if mine else 0}, {step.host}. The LUN was reserved "
        f"{often}, for {duration(ns)}."
    )


def _grows(story: LockStory, position: int) -> str:
    step = story.steps[position]
    _, ns = reserved_ns(story, position)
    turned = _turned_away(story, position)
    after = f" It was turned away {counted(turned, 'time')}; only time is lost." if turned else ""
    return (
        f"{step.subject}'s guest writes {step.megabytes} MB that need blocks: **one change**, journal first, then "
        f"inode and bitmap. For {duration(ns)} {step.host} has the LUN for itself.{after}"
    )


def _turned_away(story: LockStory, position: int) -> int:
    """Commands of this host that met a reservation since it was last at something else."""
    before = story.before(position)
    if before is None or before.kind != "meets":
        return 0
    met = story.steps.index(before)
    return sum(each.conflict for at in (met, position) for each in story.commands_of(at))


def _meets(story: LockStory, position: int) -> str:
    step = story.steps[position]
    other = next(host for host in story.hosts if host != step.host)
    dead = other in story.deaths and story.deaths[other] <= step.at_ns
    if dead:
        return (
            f"**RESERVATION CONFLICT**: {other} is dead, and the LUN is still reserved for it. Every command of "
            f"{step.host} comes back undone, its heartbeat too, until the LUN hears that {other}'s port is gone."
        )
    return (
        f"**RESERVATION CONFLICT**: at this moment the LUN is {other}'s, for a change of its own. {step.host}'s "
        "command was not carried out; it is sent again 0.5 ms later, then after 1 ms."
    )


def _asks(story: LockStory, position: int) -> str:
    step = story.steps[position]
    file = owner_of(step)
    if file is None:
        return f"{step.host} is told to power on {step.subject}."
    return (
        f"{step.host} is told to power on {step.subject}. The lock of {file.name} names slot {file.slot}, seq "
        f"{file.seq}, {file.owner}. **Is {file.owner} alive?** The lock looks the same either way; {step.host} watches "
        f"the stamp in slot {file.slot}."
    )


def _refused(story: LockStory, position: int) -> str:
    step = story.steps[position]
    asked = story.asked(position)
    took = "at once" if asked is None else f"after {seconds(step.at_ns - asked.at_ns)}"
    file = owner_of(step)
    owner = "its owner" if file is None else file.owner
    slot = "" if file is None else f" in slot {file.slot}"
    return (
        f"**Refused {took}.** The stamp{slot} has changed: {owner} is alive, and {step.subject} stays where "
        "it is. One machine, one host."
    )


def _dies(story: LockStory, position: int) -> str:
    step = story.steps[position]
    slot = step.volume.slot_of(step.host)
    locks = len(locks_of(step, step.host))
    names = f"{counted(locks, 'lock')} {'names' if locks == 1 else 'name'} it as before; nobody has been told anything."
    if slot is not None and slot.pending:
        return (
            f"**{step.host} has lost its power** in the middle of a change: {slot.pending} sectors are in its journal, "
            f"none in its place. {names}"
        )
    return f"**{step.host} has lost its power.** {names}"


def _silent(story: LockStory, position: int) -> str:
    step = story.steps[position]
    asked = story.asked(position)
    file = owner_of(step)
    slot, owner = ("The slot", "Its host") if file is None else (f"slot {file.slot}", file.owner)
    waited = seconds(step.at_ns - (asked or step).at_ns)
    own = story.commands_of(position)
    if own and all(each.conflict for each in own):
        return (
            f"**{step.host} cannot even look.** For {waited} the LUN has been reserved for a host that is dead, "
            "and every command comes back undone: RESERVATION CONFLICT."
        )
    return (
        f"For {waited} {slot} has not changed. {owner} may be dead, or slow, or cut off for a moment: from here nobody "
        "can tell. **Nothing is taken before 16 s are over.**"
    )


def _replayed(story: LockStory, position: int) -> str:
    step = story.steps[position]
    other = next(host for host in story.hosts if host != step.host)
    before = story.steps[position - 1].volume.slot_of(other)
    sectors = "Its" if before is None else f"{before.pending}"
    return (
        f"16 s are over. {step.host} reserves the LUN and finds a change in {other}'s journal: **{sectors} sectors go "
        f"to their places**. What {other} had begun is whole now."
    )


def _broken(story: LockStory, position: int) -> str:
    step = story.steps[position]
    stale = [file for file in step.volume.files if file.lock == STALE]
    if not stale:
        return "**A heartbeat is broken**: its slot is free, with another seq. No lock named it."
    slot = step.volume.slots[stale[0].slot]
    return (
        f"**{stale[0].owner}'s heartbeat is broken**: slot {slot.slot} is free, seq {slot.seq} instead of "
        f"{stale[0].seq}. No lock was touched, yet {counted(len(stale), 'lock')} of {stale[0].owner} "
        f"{'counts' if len(stale) == 1 else 'count'} no more: what they name is not there."
    )


def _stolen(story: LockStory, position: int) -> str:
    step = story.steps[position]
    file, before = step.volume.file(step.subject), story.steps[position - 1].volume.file(step.subject)
    assert file is not None
    was = "" if before is None else f" It named {before.owner}, slot {before.slot}, seq {before.seq}: stale."
    return f"**The lock of {file.name} is {step.host}'s.**{was} One sector is written; now it names slot {file.slot}."


def _off(story: LockStory, position: int) -> str:
    step = story.steps[position]
    return f"{step.subject} is off at {step.host}: its locks are free, and any host can power it on at once."


def _freezes(story: LockStory, position: int) -> str:
    step = story.steps[position]
    return (
        f"**{step.host} stands still**: no heartbeat, no command. It does not know of it; for itself it will be the "
        "next moment when it goes on."
    )


def _fenced(story: LockStory, position: int) -> str:
    step = story.steps[position]
    return f"**{step.host} looks at its own slot before it writes, and finds another seq there.** {step.words}"


def _stuck(story: LockStory, position: int) -> str:
    return f"**{story.steps[position].host} gives up.** {story.steps[position].words}"


SAYERS: dict[str, Callable[[LockStory, int], str]] = {
    "begin": _begin, "mounts": _mounts, "on": _on, "grows": _grows, "meets": _meets, "asks": _asks,
    "refused": _refused, "dies": _dies, "silent": _silent, "replayed": _replayed, "broken": _broken,
    "stolen": _stolen, "off": _off, "freezes": _freezes, "fenced": _fenced, "stuck": _stuck,
}  # fmt: skip
