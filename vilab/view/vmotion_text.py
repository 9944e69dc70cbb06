"""A migration in words: the text twin of each step, and the facts of the picture for those who cannot see it."""

from __future__ import annotations

from vilab.migration.migration_events import RoundSent
from vilab.view.vmotion_run import FAILED, MOVED, OPEN, STOPPED, WRITERS, Step
from vilab.view.vmotion_seen import PAGE_BYTES, Migration, Round
from vilab.view.vmotion_units import amount, memory, rate, time, unit_of
from vilab.view.words import NBSP, counted, hex8


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
    last, unit = seen.rounds[-1], unit_of(seen)
    sent = _sent(last)
    words = f"**Round {last.number}** {_what(seen, unit)}"
    if sent.zero_pages and len(seen.rounds) == 1:
        words += f" {_capital(counted(sent.zero_pages, 'page'))} of zeros took no content."
    if not sent.dirtied_pages:
        return words + " Meanwhile the guest has **written nothing**."
    words += f" Meanwhile the guest writes to **{amount(sent.dirtied_pages * PAGE_BYTES, unit)}**"
    if last.overtaken:
        faster = sent.dirtied_bytes_per_s > 1.02 * sent.sent_bytes_per_s
        return words + (": **faster than pages go**." if faster else ": **as fast as pages go**.")
    return words + (f", at {rate(sent.dirtied_bytes_per_s)}." if sent.duration_ns else ".")


def _what(seen: Migration, unit: tuple[str, int]) -> str:
    """Which part of which pages the last round has sent."""
    last, first = seen.rounds[-1], len(seen.rounds) == 1
    sent = _sent(last)
    if sent.skipped_pages:
        due = amount(last.due_bytes, unit)
        whose = "in use" if first else f"that round {seen.rounds[-2].number} left"
        return f"sends {amount(sent.sent_bytes, unit)} of the {due} {whose}; the rest was written again first."
    if not first:
        what = f"sends what round {seen.rounds[-2].number} left"
    elif last.pages < seen.began.pages:
        what = f"sends the {counted(last.pages, 'page')} in use"
    else:
        what = "sends all memory"
    at = f", at {rate(sent.sent_bytes_per_s)}" if sent.duration_ns else ""
    return f"{what}: {amount(sent.sent_bytes, unit)} in {time(sent.duration_ns)}{at}."


def _stopped(seen: Migration) -> str:
    last = seen.rounds[-1]
    sent = _sent(last)
    head = f"**Stop after round {seen.rounds[-2].number}**" if len(seen.rounds) > 1 else "**Stop at once**"
    if seen.stun is not None and seen.stun.why:
        head += f": {seen.stun.why.strip().rstrip('.')}"
    if not sent.sent_pages:
        return f"{head}. Nothing is left to send with the VM stopped."
    return (
        f"{head}. Round {last.number} goes **with the VM stopped**: {amount(sent.sent_bytes, unit_of(seen))} in "
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
    last, unit = seen.rounds[-1], unit_of(seen)
    how = " with the VM stopped" if last.stopped else ""
    words = f"**Round {last.number} is under way**{how}: {amount(last.bytes, unit)} of {amount(last.due_bytes, unit)} "
    if last.stopped:
        return words + "are sent."
    return words + f"are sent. Meanwhile the guest has written to {amount(last.dirty_pages * PAGE_BYTES, unit)}."


def _moved(seen: Migration) -> str:
    words = f"**{seen.began.vm} runs on {host(seen.runs_on)}.**"
    if seen.downtime_ns is not None:
        words += f" It stood still for **{time(seen.downtime_ns)}** of {time(seen.duration_ns)}{_parts(seen)}."
    total = seen.ended.sent_bytes if seen.ended is not None else seen.sent_bytes
    if total and 2 * total < seen.memory_bytes:
        words += f" {amount(total, unit_of(seen))} were sent, of {memory(seen.memory_bytes)} of memory."
    elif total and seen.memory_bytes:
        words += f" {amount(total, unit_of(seen))} were sent, {total / seen.memory_bytes:.2f} times its memory."
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


def _capital(words: str) -> str:
    return words[0].upper() + words[1:]


def _sent(last: Round) -> RoundSent:
    assert last.sent is not None
    return last.sent


def label(seen: Migration, question: str) -> str:
    """The facts of the picture for those who cannot see it."""
    if not seen.rounds:
        return f"{question} No round is sent yet."
    parts = ", ".join(amount(each.bytes, unit_of(seen)) for each in seen.rounds)
    words = f"{question} {counted(len(seen.rounds), 'round')} of {parts}."
    live = [each.sent for each in seen.rounds if each.sent is not None and not each.stopped]
    if live:
        words += f" The guest dirties at {', '.join(rate(each.dirtied_bytes_per_s) for each in live)}."
    if seen.plateau is not None:
        words += f" The writable working set is about {amount(seen.plateau[1], unit_of(seen))}."
    if seen.downtime_ns is not None:
        words += f" Stopped for {time(seen.downtime_ns)} of {time(seen.duration_ns)}."
    return words.replace(NBSP, " ")
