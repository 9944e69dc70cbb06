"""How long a stock kernel takes to boot under each engine, beside the bare machine: what ``vilab bench boot`` measures.

::

    round 1    bare   bt   mirrored   svm_nested        to the shell's prompt, and on to the end of /init
    round 2    bare   bt   mirrored   svm_nested        ratio of a round = seconds / bare's seconds of that round
    ...                                                 the round with the median ratio is an entry's figure

All in one process, with the same preemption (the processor comes back for the timer, and after ``SLICE_BYTES``), in
seconds of this process's own time. Beside them the wall time of QEMU for the same kernel, root file system and command
line, where it is installed.

An entry's ``profile`` says where the time went: what was translated and how long that took, how often the guest came
back to the monitor and why, page faults by kind, and how many bytes of code were executed for each of the bare machine.
"""

from __future__ import annotations

import gc
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from vilab.errors import AdminError, GuestStopped, VilabError, VmmBug
from vilab.guests import debian, debian_root
from vilab.vmm.bench_measure import clock
from vilab.vmm.choices import usual_for
from vilab.vmm.runner import Chosen, RunOptions, choose
from vilab.vmm.typist import Typist
from vilab.vmm.vm import QuietConsole, VirtualMachine

ROUNDS = 5
SCRIPT = b"for i in 1 2 3 4 5 6 7 8; do seq $i | sort -rn | head -n 1; done\nexit\n"
QEMU = "qemu-system-i386"
QEMU_SECONDS = 300

Guest = Callable[[str], Chosen]
"""From an engine's name to what it boots."""


class Way(msgspec.Struct, frozen=True):
    """An entry: an engine with options."""

    engine: str
    options: dict[str, Any] = {}


BARE = "bare"
WAYS: dict[str, Way] = {
    BARE: Way("bare"),
    "bt": Way("bt"),
    "mirrored": Way("bt", {"placement": "mirrored"}),
    "svm_nested": Way("svm"),
}
"""In the order of a round."""


class Boot(msgspec.Struct, frozen=True):
    """One boot: seconds to the prompt and to the end, seconds spent translating, the engine's statistics."""

    prompt_s: float
    end_s: float
    translation_s: float
    statistics: dict[str, Any]


class Booted(msgspec.Struct, frozen=True):
    """All that was measured. ``figures``: entry -> value, unit, baseline, ratio, median_of, more; ``notes``: sentences
    about what was left out."""

    figures: dict[str, dict[str, Any]]
    notes: list[str]


class _Stopwatch:
    """A console that notes when the prompt first comes."""

    interactive = False

    def __init__(self, prompt: bytes) -> None:
        self._inner = QuietConsole(SCRIPT)
        self._prompt = prompt
        self.prompt_at: float | None = None

    def write(self, data: bytes) -> None:
        self._inner.write(data)
        if self.prompt_at is None and self._inner.output.endswith(self._prompt):
            self.prompt_at = clock()

    def read_available(self) -> bytes:
        return self._inner.read_available()


def debian_guest(engine: str) -> Chosen:
    """The Debian guest with the usual command line."""
    return choose(RunOptions(debian.NAME, engine))


def bench_boot(rounds: int = ROUNDS, only: Sequence[str] = (), guest: Guest = debian_guest) -> Booted:
    """Boot again and again. ``only``: these entries, the bare machine always with them.

    Raises
    ------
    AdminError : the guest is not there, or ``only`` names an entry that does not exist.
    GuestStopped : the guest does not boot on the bare machine. Under an engine that is a note, and no figure.
    """
    unknown = [name for name in only if name not in WAYS]
    if unknown:
        raise AdminError(f"There is no entry {unknown[0]!r} in boot; there are {', '.join(WAYS)}.")
    if rounds < 1:
        raise AdminError(f"{rounds} rounds cannot be measured; at least 1 is needed.")
    notes: list[str] = []
    found: dict[str, list[Boot]] = {name: [] for name in WAYS if not only or name in only or name == BARE}
    for _ in range(rounds):
        for name in list(found):
            try:
                found[name].append(boot(WAYS[name], guest))
            except VilabError as error:
                if name == BARE:
                    raise
                del found[name]
                notes.append(f"{name} is left out: {error}")
    bare = found.pop(BARE)
    figures = {BARE: _entry(bare, bare, translates=False)}
    figures |= {name: _entry(boots, bare, WAYS[name].engine == "bt") for name, boots in found.items()}
    if guest is debian_guest:
        if shutil.which(QEMU) is None:
            notes.append(f"qemu is left out: {QEMU} is not installed.")
        else:
            figures["qemu"] = _qemu_entry([qemu_seconds() for _ in range(min(rounds, 3))], bare)
    return Booted(figures, notes)


def boot(way: Way, guest: Guest) -> Boot:
    """Once, from power-on to the end of what is typed."""
    chosen = guest(way.engine)
    console = _Stopwatch(chosen.prompt)
    vm = VirtualMachine(
        chosen.image, way.engine, chosen.memory_bytes, console=Typist(console, chosen.prompt),
        engine_options=usual_for(chosen.image.kind, way.engine, dict(way.options)),
    )  # fmt: skip
    try:
        translation = _time_translation(vm.engine)
        gc.collect()
        start = clock()
        ended = vm.engine.run()
        end = clock()
        if console.prompt_at is None or ended is None or not ended.good:
            why = ended.sentence if ended is not None else "it does not end."
            raise GuestStopped(f"{chosen.image.name} did not boot: {why}")
        return Boot(console.prompt_at - start, end - start, translation[0], vm.engine.statistics())
    finally:
        vm.close()


def _time_translation(engine: Any) -> list[float]:
    """Let the engine's translation of a unit, all its bookkeeping included, add up its seconds."""
    spent = [0.0]
    translate = getattr(engine, "unit_for", None)
    if translate is not None:

        def timed(*arguments: Any, **named: Any) -> Any:
            start = time.perf_counter()
            try:
                return translate(*arguments, **named)
            finally:
                spent[0] += time.perf_counter() - start

        engine.unit_for = timed
    return spent


def _entry(boots: Sequence[Boot], bare: Sequence[Boot], translates: bool) -> dict[str, Any]:
    rounds = sorted(zip(boots, bare, strict=True), key=lambda pair: pair[0].prompt_s / pair[1].prompt_s)
    one, base = rounds[len(rounds) // 2]
    return {
        **_figure(one.prompt_s, base.prompt_s, len(boots)),
        "end": _figure(one.end_s, base.end_s, len(boots)),
        "profile": profile(one, base, translates),
    }


def _figure(seconds: float, bare_s: float, rounds: int) -> dict[str, Any]:
    value, baseline = round(seconds, 4), round(bare_s, 4)
    return {"value": value, "unit": "s", "baseline": baseline, "ratio": value / baseline, "median_of": rounds}


def profile(one: Boot, bare: Boot, translates: bool) -> dict[str, Any]:
    """Where the time of a boot went."""
    statistics = one.statistics
    found: dict[str, Any] = {}
    if translates:
        translation = dict(statistics["translation"])
        seconds = one.translation_s
        instructions = translation["guest_instructions"]
        found["translation"] = translation | {
            "seconds": round(seconds, 3),
            "instructions_per_s": round(instructions / seconds) if seconds else None,
        }
    found["exits"] = dict(sorted(statistics["exits"].items(), key=lambda item: -item[1]))
    found["mmu"] = statistics["mmu"]
    found["executed_bytes"] = statistics["executed_bytes"]
    found["inflation"] = round(statistics["executed_bytes"] / bare.statistics["executed_bytes"], 4)
    found["virtual_s"] = round(statistics["virtual_ns"] / 1e9, 4)
    return found


def _qemu_entry(seconds: Sequence[float], bare: Sequence[Boot]) -> dict[str, Any]:
    value = sorted(seconds)[len(seconds) // 2]
    baseline = sorted(each.prompt_s for each in bare)[len(bare) // 2]
    return _figure(value, baseline, len(seconds)) | {"unit": "s of wall time"}


def qemu_seconds() -> float:
    """Wall time from the start of QEMU (TCG) to the guest's prompt. Raises ``VmmBug`` if it never comes."""
    guest = debian.find()
    options = ["-accel", "tcg", "-m", str(debian.MEMORY_BYTES >> 20), "-display", "none", "-serial", "stdio"]
    options += ["-monitor", "none", "-no-reboot", "-nic", "none", "-kernel", str(guest.kernel)]
    options += ["-initrd", str(guest.initrd), "-append", debian.COMMAND_LINE]
    start = time.perf_counter()
    process = subprocess.Popen([QEMU, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    limit = threading.Timer(QEMU_SECONDS, process.kill)
    limit.start()
    heard = bytearray()
    try:
        assert process.stdout is not None
        while debian_root.PROMPT not in heard:
            piece = process.stdout.read1()  # type: ignore[attr-defined]
            if not piece:
                raise VmmBug(f"{QEMU} ended before the guest's prompt: {bytes(heard[-200:])!r}")
            heard += piece
        return time.perf_counter() - start
    finally:
        limit.cancel()
        process.kill()
        process.communicate()


def profile_text(figures: dict[str, dict[str, Any]]) -> str:
    """The profiles for people, a paragraph an entry."""
    lines: list[str] = []
    for name, entry in figures.items():
        if "profile" not in entry:
            continue
        found = entry["profile"]
        end = entry["end"]
        lines += ["", f"{name}: /init at its end after {end['value']:.2f} s, {end['ratio']:.3f} x bare"]
        lines.append(f"  executed     {found['executed_bytes']:,} bytes, {found['inflation']:.3f} x bare")
        if "translation" in found:
            t = found["translation"]
            speed = t["instructions_per_s"] or 0
            lines.append(
                f"  translation  {t['units']:,} units, {t['guest_instructions']:,} instructions "
                f"in {t['seconds']:.2f} s ({speed:,} a second), {t['invalidated']:,} invalidated"
            )
        mmu = found["mmu"]
        lines.append("  page faults  " + ", ".join(f"{kind.split('_')[0]} {count:,}" for kind, count in mmu.items()))
        often = list(found["exits"].items())
        lines.append("  exits        " + ", ".join(f"{reason} {count:,}" for reason, count in often[:12]))
        if often[12:]:
            lines.append(f"               {len(often) - 12} more reasons, {sum(count for _, count in often[12:]):,}")
    return "\n".join(lines)
