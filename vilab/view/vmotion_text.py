"""A migration in words: the text twin of each step, and how its quantities are written.

Sizes count memory: 1 MB is 1,048,576 bytes, 256 pages. Rates count what a link carries: 1 Mb/s is 1,000,000 bits a
second. Both are what the field says; 1 MB in a second is 8.4 Mb/s.
"""

from __future__ import annotations

from vilab.migration.migration_events import RoundSent
from vilab.view.vmotion_run import FAILED, MOVED, OPEN, STOPPED, WRITERS, Step
from vilab.view.vmotion_seen import PAGE_BYTES, Migration, Round
from vilab.view.words import NBSP, counted, hex8

_SIZES = (("KB", 1024), ("MB", 1024**2), ("GB", 1024**3), ("TB", 1024**4))
_RATES = (("kb/s", 1e3), ("Mb/s", 1e6), ("Gb/s", 1e9), ("Tb/s", 1e12))
_TIMES = (("ns", 1.0), ("µs", 1e3), ("ms", 1e6), ("s", 1e9))


def size_unit(most_bytes: float) -> tuple[str, int]:
    """The unit for sizes up to that: name and bytes."""
    return next((each for each in reversed(_SIZES) if most_bytes >= each[1]), _SIZES[0])


def size(size_bytes: float) -> str:
    """``676.8 MB``, ``4.0 KB``, ``148 KB``"""
    name, unit = size_unit(size_bytes)
    return f"{in_unit(size_bytes, unit)}{NBSP}{name}"


def memory(size_bytes: int) -> str:
    """``800 MB``: of what is configured, without a decimal where there is nothing behind it."""
    name, unit = size_unit(size_bytes)
    return size(size_bytes) if size_bytes % unit else f"{size_bytes // unit:,}{NBSP}{name}"


def in_unit(size_bytes: float, unit: int) -> str:
    """One decimal, but none for hundreds of KB."""
    amount = size_bytes / unit
    return f"{amount:,.0f}" if not amount or (unit == 1024 and amount >= 99.95) else f"{amount:,.1f}"


def square(unit_bytes: int) -> str:
    """What one square is: ``1 MB``, ``4 KB, a page``."""
    name, unit = size_unit(unit_bytes)
    return f"{unit_bytes // unit}{NBSP}{name}" + (", a page" if unit_bytes == PAGE_BYTES else "")


def rate_unit(most_bits_per_s: float) -> tuple[str, float]:
    return next((each for each in reversed(_RATES) if most_bits_per_s >= each[1]), _RATES[0])


def rate(bytes_per_s: float) -> str:
    """``294 Mb/s``, ``1.2 Gb/s``"""
    bits = bytes_per_s * 8
    name, unit = rate_unit(bits)
    amount = bits / unit
    return f"{amount:,.1f}{NBSP}{name}" if amount < 9.95 else f"{amount:,.0f}{NBSP}{name}"


def time(ns: float) -> str:
    """``201 ms``, ``71.0 s``, ``9.0 ms``, ``340 µs``"""
    name, unit = next((each for each in reversed(_TIMES) if ns >= each[1] * 0.9995), _TIMES[0])
    amount = ns / unit
    if name == "s" or amount < 9.95:
        return f"{amount:,.1f}{NBSP}{name}" if amount else f"0{NBSP}s"
    return f"{amount:,.0f}{NBSP}{name}"


def reason(words: str, names: tuple[str, ...] = ()) -> str:
    """What an event says as a sentence: with a full stop, and with a capital unless it begins with a name."""
    words = words.strip()
    if not words:
        return ""
    if not words.startswith(names):
        words = words[0].upper() + words[1:]
    return words + ("" if words[-1] in ".!?" else ".")


def host(name: str) -> str:
    """Without its domain."""
    return name.split(".")[0]


NONE = "**No migration has begun.** What a host reports of one is drawn here, a round a step."


def nothing_sent(seen: Migration) -> str:
    began = seen.began
    return (
        f"**Nothing is sent yet.** {began.vm} runs on {host(began.source)} and has {memory(seen.memory_bytes)}, "
        f"{counted(began.pages, 'page')}. It is to run on {host(began.destination)}. Step sends the first round."
    )


def say(step: Step) -> str:
    """What has just happened, and why. Marks are allowed (``words``)."""
    seen = step.seen
    if step.kind == MOVED:
        return _moved(seen)
    if step.kind == FAILED:
        return _failed(seen)
    if step.kind == WRITERS:
        return _writers(seen)
    if step.kind == OPEN:
        return _open(seen)
    return _stopped(seen) if step.kind == STOPPED else _round(seen)


def _round(seen: Migration) -> str:
    last = seen.rounds[-1]
    sent = _sent(last)
    what = "sends all memory"
    if len(seen.rounds) > 1:
        what = f"sends what round {seen.rounds[-2].number} left"
    elif last.pages < seen.began.pages:
        what = f"sends the {counted(last.pages, 'page')} in use"
    words = f"**Round {last.number}** {what}: {size(sent.sent_bytes)} in {time(sent.duration_ns)}{_at(sent)}."
    if sent.zero_pages and len(seen.rounds) == 1:
        words += f" {_capital(counted(sent.zero_pages, 'page'))} of zeros took no content."
    if not sent.dirtied_pages:
        return words + " Meanwhile the guest has **written nothing**."
    words += f" Meanwhile the guest writes to **{size(sent.dirtied_pages * PAGE_BYTES)}**"
    if last.overtaken:
        faster = sent.dirtied_bytes_per_s > 1.02 * sent.sent_bytes_per_s
        return words + (": **faster than pages go**." if faster else ": **as fast as pages go**.")
    return words + (f", at {rate(sent.dirtied_bytes_per_s)}." if sent.duration_ns else ".")


def _stopped(seen: Migration) -> str:
    last = seen.rounds[-1]
    sent = _sent(last)
    head = f"**Stop after round {seen.rounds[-2].number}**" if len(seen.rounds) > 1 else "**Stop at once**"
    if seen.stun is not None and seen.stun.why:
        head += f": {seen.stun.why.strip().rstrip('.')}"
    if not sent.sent_pages:
        return f"{head}. Nothing is left to send with the VM stopped."
    return (
        f"{head}. Round {last.number} goes **with the VM stopped**: {size(sent.sent_bytes)} in "
        f"{time(sent.duration_ns)}."
    )


def _writers(seen: Migration) -> str:
    number = seen.writers[-1].number
    those = [each for each in seen.writers if each.number == number]
    faults = counted(sum(each.faults for each in those), "write fault")
    if len(those) == 1:
        who = f"The process with CR3 `{hex8(those[0].address_space)}` **is stopped** in round {number}: {faults}, it"
    else:
        who = f"**{len(those)} processes are stopped** in round {number}: with {faults} they"
    verb = "writes" if len(those) == 1 else "write"
    return f"{who} {verb} faster than pages go. {_capital(who_runs(len(those)))} on when the VM has moved."


def who_runs(count: int) -> str:
    return "it runs" if count == 1 else "they run"


def _open(seen: Migration) -> str:
    last = seen.rounds[-1]
    how = " with the VM stopped" if last.stopped else ""
    return (
        f"**Round {last.number} is under way**{how}: {size(last.bytes)} of {size(last.pages * PAGE_BYTES)} are sent. "
        + ("" if last.stopped else f"Meanwhile the guest has written to {size(last.dirty_pages * PAGE_BYTES)}.")
    ).rstrip()


def _moved(seen: Migration) -> str:
    words = f"**{seen.began.vm} runs on {host(seen.runs_on)}.**"
    if seen.downtime_ns is not None:
        words += f" It stood still for **{time(seen.downtime_ns)}** of {time(seen.duration_ns)}{_parts(seen)}."
    total = seen.ended.sent_bytes if seen.ended is not None else seen.sent_bytes
    if total and 2 * total < seen.memory_bytes:
        words += f" {size(total)} were sent, of {memory(seen.memory_bytes)} of memory."
    elif total and seen.memory_bytes:
        words += f" {size(total)} were sent, {total / seen.memory_bytes:.2f} times its memory."
    return words


def _parts(seen: Migration) -> str:
    """What most of the standstill was spent on."""
    copy = next((each.sent for each in reversed(seen.rounds) if each.stopped and each.sent is not None), None)
    if copy is None or seen.downtime_ns is None or not 0 < copy.duration_ns < seen.downtime_ns:
        return ""
    took = time(copy.duration_ns)
    return f", {took} of them for the last copy" if took != time(seen.downtime_ns) else ", nearly all for the last copy"


def _failed(seen: Migration) -> str:
    began = seen.began
    why = reason(seen.ended.why, (began.source, began.destination, began.vm)) if seen.ended is not None else ""
    still = ""
    if seen.runs_on == began.source:
        head = f"**Not moved: {began.vm} runs on at {host(began.source)}.**"
        if seen.downtime_ns:
            still = f"It stood still for {time(seen.downtime_ns)}."
        elif seen.ended is not None and seen.rounds:
            still = "It never stood still."
    elif seen.runs_on:
        head = f"**{began.vm} runs on {host(seen.runs_on)}, but the migration has failed.**"
    else:
        head = f"**{began.vm} does not run any more.**"
    return " ".join(part for part in (head, why, still) if part)


def _at(sent: RoundSent) -> str:
    return f", at {rate(sent.sent_bytes_per_s)}" if sent.duration_ns else ""


def _capital(words: str) -> str:
    return words[0].upper() + words[1:]


def _sent(last: Round) -> RoundSent:
    assert last.sent is not None
    return last.sent


def label(seen: Migration, question: str) -> str:
    """The facts of the picture for those who cannot see it."""
    if not seen.rounds:
        return f"{question} No round is sent yet."
    parts = ", ".join(size(each.bytes) for each in seen.rounds)
    words = f"{question} {counted(len(seen.rounds), 'round')} of {parts}."
    live = [each.sent for each in seen.rounds if each.sent is not None and not each.stopped]
    if live:
        words += f" The guest dirties at {', '.join(rate(each.dirtied_bytes_per_s) for each in live)}."
    if seen.plateau is not None:
        words += f" The writable working set is about {size(seen.plateau[1])}."
    if seen.downtime_ns is not None:
        words += f" Stopped for {time(seen.downtime_ns)} of {time(seen.duration_ns)}."
    return words.replace(NBSP, " ")
