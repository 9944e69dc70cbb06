"""What the cells of lesson 7 call: a console to boot a guest at, and what can be said of the boot afterwards.

``booted(console)`` is the guest that was booted there, or, as long as nobody has switched anything on, the teaching
kernel, booted on the spot. So every later cell has something to show, on a machine without Linux as well.
Needs Jupyter.
"""

from __future__ import annotations

from collections.abc import Sequence

from vilab.course.feedback import columns as aligned
from vilab.course.live_guest import ENGINES, TEACHING, LiveGuest, kind_here
from vilab.course.runs import run_typed
from vilab.view.console import LiveConsole
from vilab.view.exits import WHY, ExitsTrack
from vilab.view.predict import MOST_OPTIONS, Prediction
from vilab.view.widget import Player
from vilab.vmm.records import GPR_NAMES, Registers


def console(question: str) -> LiveConsole:
    """A machine that is off, with Debian's Linux in it where this computer has that."""
    kind = kind_here()
    return LiveConsole(lambda engine: LiveGuest(kind, engine), question, ENGINES, kind.note)


def booted(live: LiveConsole | None = None) -> LiveGuest:
    """What has run at that console; if nothing has, the teaching kernel up to its prompt."""
    if live is not None and isinstance(live.guest, LiveGuest) and live.guest.moments and live.guest.exits:
        return live.guest
    return LiveGuest(TEACHING).finish()


def through_time(guest: LiveGuest, question: str) -> Player:
    """Its exits by reason, piece by piece; before the first piece, which of them there will be most of."""
    track = ExitsTrack(question, guest.moments, guest.consoles())
    final = track.so_far(track.total)
    options = tuple(sorted(sorted(final, key=lambda reason: -final[reason])[:MOST_OPTIONS]))
    if len(options) < 2:
        return Player(track)
    most = max(options, key=lambda reason: final[reason])
    asked = Prediction(
        f"{guest.title} is about to be switched on, under {guest.engine}. What will it leave its code for most often?",
        tuple(f"`{reason}`: {WHY.get(reason, 'done for the guest')}" for reason in options),
        lambda: options.index(most),
        f"Of {sum(final.values()):,} exits {final[most]:,} are `{most}`.",
    )
    return Player(track, {0: asked}.get)


def exits_text(guest: LiveGuest, most: int = 8) -> str:
    """Exits by reason over the whole run, and how often a millisecond of virtual time that is."""
    total = sum(guest.exits.values())
    ms = guest.virtual_ns / 1e6
    rows = [(f"{guest.title} under {guest.engine}", "exits", "share", "a ms", "")]
    for reason, count in sorted(guest.exits.items(), key=lambda item: (-item[1], item[0]))[:most]:
        rows.append((reason, f"{count:,}", f"{100 * count / total:.0f} %", f"{count / ms:,.1f}", WHY.get(reason, "")))
    rows.append(("together", f"{total:,}", "", f"{total / ms:,.1f}", f"in {ms:,.1f} ms of virtual time"))
    return "\n".join(aligned(rows))


def hottest_text(guest: LiveGuest, most: int = 5) -> str:
    """The fragments in which the guest was found most often."""
    rows = [("fragment", "of samples", "begins with")]
    rows += [(f"{hot.address:08x}", f"{100 * hot.share:.1f} %", "; ".join(hot.code)) for hot in guest.hottest(most)]
    return "\n".join(aligned(rows))


def says_of(guest: LiveGuest, word: str) -> str:
    """The lines of its console with a word in them, or that there is none."""
    return "\n".join(guest.lines(word)) or f"{guest.title} writes no line with {word!r}."


QUESTIONS: dict[str, tuple[str, str]] = {
    "CPUID 1, ECX bit 31": ("mov eax, 1\ncpuid", "bit"),
    "CPUID 40000000": ("mov eax, 0x40000000\ncpuid", "name"),
    "port 5658": ("mov eax, 0x564d5868\nmov ebx, 0\nmov ecx, 10\nmov edx, 0x5658\nin eax, dx", "magic"),
}
"""How a guest asks whether it is alone: what it does, and how the answer is read."""


def asks(engines: Sequence[str] = ("bare", "bt", "svm")) -> str:
    """Three questions of a guest that wants to know what it runs on, under each engine."""
    rows = [("", *engines)]
    for name, (text, kind) in QUESTIONS.items():
        rows.append((name, *(_answer(text, kind, engine) for engine in engines)))
    return "\n".join(aligned(rows))


def _answer(text: str, kind: str, engine: str) -> str:
    run = run_typed(text, engine)
    run.seek(run.total)
    last = text.rsplit("\n", 1)[-1].split()[0]
    record = next(each for each in reversed(run.records) if each.mnemonic == last)
    value = registers(record.guest)
    if kind == "bit":
        return str(value["ecx"] >> 31)
    if kind == "name":
        raw = b"".join(value[name].to_bytes(4, "little") for name in ("ebx", "ecx", "edx"))
        return repr(raw.decode("ascii", "replace")) if any(raw) else "nothing"
    return f"version {value['eax']}" if value["ebx"] == 0x564D5868 else "nobody"


def registers(state: Registers) -> dict[str, int]:
    """The eight general registers by name."""
    return dict(zip(GPR_NAMES, state.gpr, strict=True))
