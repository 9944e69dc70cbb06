"""A guest that boots while somebody looks on, a slice of virtual time at a time, and can be typed to.

::

    advance(0.1 s) ──> slice  slice  slice ...            each slice ends at an exact virtual time
                         │
                         ├── what it has written          the console
                         ├── exits since the last one     by reason: a Moment
                         └── where the guest is now       one sample of the profile

The guest is Debian's kernel where this machine has it, else the teaching kernel; both end in a shell. At its prompt,
idle and with nothing typed, virtual time stands still. Same guest, engine and typed lines: the same moments.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import msgspec

from vilab.errors import AdminError, GuestStopped
from vilab.guests import debian
from vilab.view.exits import Moment
from vilab.vmm.choices import usual_for
from vilab.vmm.packed_code import PAPER_RETURN_ENTRIES
from vilab.vmm.records import Ended
from vilab.vmm.runner import RunOptions, choose
from vilab.vmm.typist import BEHIND_PROMPT_BYTES
from vilab.vmm.vm import VirtualMachine
from vilab.x86.decode import disassemble

ENGINES = ("bt", "svm", "bare")
PLACE_BYTES = 32
"""Where there are no fragments, samples are gathered by pieces of code of this size."""
HOT, HOT_LINES = 6, 4
TEACHING_BYTES = 16 << 20


class Kind(msgspec.Struct, frozen=True):
    """Which guest. ``slice_ns``: short enough to see the boot in some hundred pieces. ``note``: a sentence for a person
    who has another one than the lesson is about."""

    name: str
    title: str
    prompt: bytes
    slice_ns: int
    note: str = ""


TEACHING = Kind("shell", "The teaching kernel", b"shell> ", 10_000)
DEBIAN = Kind(debian.NAME, "Debian's Linux", b"vilab# ", 2_000_000)


def kind_here() -> Kind:
    """Debian, if this machine has it."""
    try:
        debian.find()
    except AdminError:
        note = "Linux is not on this machine; `vilab guests fetch debian` gets it. Here is the teaching kernel instead."
        return msgspec.structs.replace(TEACHING, note=note)
    return DEBIAN


class Hot(msgspec.Struct, frozen=True):
    """A place in the guest's code: where it begins, its share of the samples, and its first instructions."""

    address: int
    share: float
    code: tuple[str, ...]


class _Keyboard:
    """The console of a person who is not there yet: gives what was typed, and notices when the guest waits for it."""

    interactive = False

    def __init__(self, prompt: bytes) -> None:
        self.output = bytearray()
        self.typed = bytearray()
        self.waiting = False
        self._prompt = prompt

    def write(self, data: bytes) -> None:
        self.output += data
        self.waiting = False

    def read_available(self) -> bytes:
        self.waiting = not self.typed and self.at_prompt()
        if not self.at_prompt():
            return b""
        line, end, rest = bytes(self.typed).partition(b"\n")
        self.typed[:] = rest
        return line + end

    def at_prompt(self) -> bool:
        return self._prompt in self.output[-len(self._prompt) - BEHIND_PROMPT_BYTES :]


class LiveGuest:
    """One boot under one engine.

    Parameters
    ----------
    kind : which guest; by default the one that is here.
    engine : one of ``ENGINES``.
    """

    def __init__(self, kind: Kind | None = None, engine: str = "bt") -> None:
        self.kind = kind or kind_here()
        self.engine = engine
        self.moments: list[Moment] = []
        self.ended: Ended | None = None
        self._console = _Keyboard(self.kind.prompt)
        self._vm = self._make()
        self._executed_bytes = 0
        self._seen: Counter[str] = Counter()
        self._samples: Counter[int] = Counter()
        self._code: dict[int, tuple[str, ...]] = {}

    def _make(self) -> VirtualMachine:
        linux = self.kind.name == debian.NAME
        chosen = choose(RunOptions(self.kind.name, self.engine, None if linux else TEACHING_BYTES))
        options: dict[str, Any] = usual_for(chosen.image.kind, self.engine, {})
        if self.engine == "bt" and not linux:
            options["return_entries"] = PAPER_RETURN_ENTRIES
        return VirtualMachine(
            chosen.image, self.engine, chosen.memory_bytes, console=self._console, engine_options=options
        )

    # Going on

    @property
    def waiting(self) -> bool:
        """It stands at its prompt and has nothing to do."""
        return self._console.waiting and not self._console.typed

    @property
    def resting(self) -> bool:
        return self.ended is not None or self.waiting

    def type(self, text: str) -> None:
        """Lines for the guest; each arrives when it asks for one."""
        self._console.typed += text.encode("ascii", "replace")

    def advance(self, seconds: float) -> None:
        """Run for about that long, or until it waits for a line or has ended."""
        until = time.monotonic() + seconds
        while not self.resting and time.monotonic() < until:
            self._slice()

    def finish(self, typed: str = "") -> LiveGuest:
        """Run until it waits, or has ended, however long that takes."""
        self.type(typed)
        while not self.resting:
            self._slice()
        return self

    def _slice(self) -> None:
        engine = self._vm.engine
        try:
            self.ended = engine.run(engine.now_ns() + self.kind.slice_ns)
        except GuestStopped as stopped:
            engine.end("stopped", str(stopped), good=False)
            self.ended = engine.ended
        now = Counter(engine.exits) if self.engine != "bare" else Counter()
        fresh = {reason: count - self._seen[reason] for reason, count in now.items() if count != self._seen[reason]}
        self._seen = now
        executed_bytes = self._vm.cpu.executed_bytes
        if executed_bytes == self._executed_bytes and not fresh:
            return  # idle, and nothing to tell
        self._executed_bytes = executed_bytes
        self.moments.append(Moment(engine.now_ns(), fresh, len(self._console.output)))
        if self.ended is None and not engine.halted:
            self._sample()

    def close(self) -> None:
        """Free the processor; what has been seen stays."""
        self._vm.close()

    @property
    def title(self) -> str:
        return self.kind.title

    @property
    def ending(self) -> str:
        """How it ended, as a sentence; empty while it has not."""
        return self.ended.sentence if self.ended is not None else ""

    def consoles(self) -> list[str]:
        """The console as it was at the end of each moment."""
        output = bytes(self._console.output)
        return [readable(output[: moment.written_bytes]) for moment in self.moments]

    # What there is to see

    @property
    def virtual_ns(self) -> int:
        return self.moments[-1].virtual_ns if self.moments else 0

    @property
    def exits(self) -> Counter[str]:
        return Counter(self._seen)

    @property
    def serial(self) -> str:
        """What it has written, without the questions that its shell asks the terminal."""
        return readable(bytes(self._console.output))

    def lines(self, word: str) -> list[str]:
        """The lines of the console with this word in them."""
        return [line for line in self.serial.splitlines() if word in line]

    def hottest(self, most: int = HOT) -> list[Hot]:
        """Where the guest was found most often, at the ends of slices. By fragment, where its kernel is translated."""
        total = sum(self._samples.values())
        return [Hot(address, count / total, self._code[address]) for address, count in self._samples.most_common(most)]

    def _sample(self) -> None:
        engine: Any = self._vm.engine
        eip = engine.vcpu.eip
        cache = getattr(engine, "cache", None)
        unit = cache.unit_at.get(self._vm.cpu.eip) if cache is not None and engine.vcpu.cpl != 3 else None
        address = unit.eip if unit is not None else eip - eip % PLACE_BYTES
        self._samples[address] += 1
        if address not in self._code:
            self._code[address] = self._text(unit.source, unit.eip) if unit is not None else (f"around {eip:08x}",)

    @staticmethod
    def _text(code: bytes, address: int) -> tuple[str, ...]:
        return tuple(i.text for i in disassemble(code, address)[:HOT_LINES])


def readable(written: bytes) -> str:
    """Serial output as text: no carriage returns, no escape sequences."""
    out, at = bytearray(), 0
    while at < len(written):
        byte = written[at]
        if byte == 0x1B:
            at += 2
            while at < len(written) and not 0x40 <= written[at] <= 0x7E:
                at += 1
        elif byte == 8:
            del out[-1:]
        elif byte != 13:
            out.append(byte)
        at += 1
    return out.decode("ascii", "replace")
