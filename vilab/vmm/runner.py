"""One run of one guest from start to end, with the figures that other programs read."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from vilab.errors import AdminError, GuestStopped
from vilab.events import Event, EventDigest, EventLog, encode
from vilab.guests.load import load
from vilab.protocols import Console
from vilab.vmm.vm import ENGINES, MONITOR_WINDOW, VirtualMachine

DONE, GUEST_STOPPED = 0, 3
COUNTED_KINDS = frozenset(("function",))
"""Images so small that counting each instruction costs nothing that anybody would notice."""


class RunOptions(msgspec.Struct, frozen=True):
    """What ``vilab run`` was asked for.

    ``instructions``: stop after exactly this many guest instructions; ``None``: no limit, and counted only for small
    images. ``stats`` asks for digests of serial output and events. ``engine_options`` go to the engine's constructor.
    """

    image: str
    engine: str = "bt"
    memory_bytes: int = 64 << 20
    append: str = ""
    initrd_path: Path | None = None
    instructions: int | None = None
    seed: int = 0
    stats: bool = False
    events_path: Path | None = None
    engine_options: dict[str, Any] = {}


class RunResult(msgspec.Struct, frozen=True):
    """``exit_status`` as in ``vilab.cli``; ``sentence`` says how the run ended; ``stats`` are the figures."""

    exit_status: int
    sentence: str
    stats: dict[str, Any]


class _Tee:
    """Passes serial output on and keeps its digest."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.digest = hashlib.sha256()
        self.interactive = getattr(console, "interactive", False)

    def write(self, data: bytes) -> None:
        self.digest.update(data)
        self._console.write(data)

    def read_available(self) -> bytes:
        return self._console.read_available()

    def wait(self, seconds: float) -> None:
        getattr(self._console, "wait", time.sleep)(seconds)


class _Writer:
    """A listener that writes the log, one JSON object a line."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def __call__(self, event: Event) -> None:
        self._file.write(encode(event) + b"\n")


def run_image(options: RunOptions, console: Console) -> RunResult:
    """Load, run, and report.

    Raises
    ------
    AdminError : the image, the memory or the engine cannot be had; nothing was run.
    """
    if options.engine not in ENGINES:
        raise AdminError(f"There is no engine {options.engine!r}; there are {', '.join(ENGINES)}.")
    initrd = None
    if options.initrd_path is not None:
        try:
            initrd = options.initrd_path.read_bytes()
        except OSError as error:
            raise AdminError(f"{options.initrd_path} cannot be read: {error.strerror or error}.") from None
    reserved = None if options.engine in ("bare", "svm") else MONITOR_WINDOW
    image = load(
        options.image,
        memory_bytes=options.memory_bytes,
        append=options.append,
        initrd=initrd,
        reserved=reserved,
        paravirtual=options.engine == "para",
    )
    log = EventLog()
    digest = EventDigest()
    if options.stats:
        log.listen(digest)
    events_file = None
    if options.events_path is not None:
        try:
            events_file = options.events_path.open("wb")
        except OSError as error:
            raise AdminError(f"{options.events_path} cannot be written: {error.strerror or error}.") from None
        log.listen(_Writer(events_file))
    tee = _Tee(console)
    count = options.instructions
    if count is None and image.kind in COUNTED_KINDS:
        count = 1 << 60
    try:
        vm = VirtualMachine(
            image, options.engine, options.memory_bytes, console=tee, log=log, count_instructions=count,
            engine_options=options.engine_options,
        )  # fmt: skip
        start = time.perf_counter()
        status, sentence = _run(vm)
        wall_s = time.perf_counter() - start
    finally:
        if events_file is not None:
            events_file.close()
    stats: dict[str, Any] = {
        "engine": options.engine,
        "image": image.name,
        "ended": vm.engine.ended.reason if vm.engine.ended is not None else "stopped",
        "instructions": vm.cpu.instructions if count is not None else None,
        "wall_s": round(wall_s, 6),
    }
    stats |= vm.engine.statistics()
    stats["serial_sha256"] = tee.digest.hexdigest()
    stats["events_sha256"] = digest.hexdigest() if options.stats else None
    stats["events"] = digest.count if options.stats else None
    vm.close()
    return RunResult(status, sentence, stats)


def _run(vm: VirtualMachine) -> tuple[int, str]:
    try:
        ended = vm.engine.run()
    except GuestStopped as stopped:
        vm.engine.end("stopped", str(stopped), good=False)
        ended = vm.engine.ended
    assert ended is not None
    return (DONE if ended.good else GUEST_STOPPED), ended.sentence
