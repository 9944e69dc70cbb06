"""One run of one guest from start to end, with the figures that other programs read."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from vilab.errors import AdminError, GuestStopped
from vilab.events import Event, EventDigest, EventLog, encode
from vilab.guests import debian, debian_root
from vilab.guests.image import LoadedImage
from vilab.guests.load import load
from vilab.protocols import Console
from vilab.vmm.typist import Typist
from vilab.vmm.vm import ENGINES, MONITOR_WINDOW, VirtualMachine

DONE, GUEST_STOPPED = 0, 3
MEMORY_BYTES = 64 << 20
COUNTED_KINDS = frozenset(("function",))
"""Images so small that counting each instruction costs nothing that anybody would notice."""


class RunOptions(msgspec.Struct, frozen=True):
    """What ``vilab run`` was asked for.

    ``instructions``: stop after exactly this many guest instructions; ``None``: no limit, and counted only for small
    images. ``stats`` asks for digests of serial output and events. ``engine_options`` go to the engine's constructor.
    ``memory_bytes``: ``None`` is as much as the image usually gets. ``kernel_path``: for the Debian guest, another
    kernel than the fetched one.
    """

    image: str
    engine: str = "bt"
    memory_bytes: int | None = None
    append: str = ""
    kernel_path: Path | None = None
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


class Chosen(msgspec.Struct, frozen=True):
    """What is to be started. ``prompt``: what the guest says when it waits for a line; empty if that is not known."""

    image: LoadedImage
    memory_bytes: int
    prompt: bytes = b""


def choose(options: RunOptions) -> Chosen:
    """Find and load the guest. Raises ``AdminError``."""
    spec, command_line, initrd, usual_bytes = options.image, options.append, options.initrd_path, MEMORY_BYTES
    prompt = b""
    if options.image == debian.NAME:
        kernel, usual_bytes = options.kernel_path, debian.MEMORY_BYTES
        command_line = f"{debian.COMMAND_LINE} {options.append}".rstrip()
        if kernel is None or initrd is None:
            fetched = debian.find()
            if initrd is None:
                initrd, prompt = fetched.initrd, debian_root.PROMPT
            kernel = kernel or fetched.kernel
        spec = str(kernel)
    elif options.kernel_path is not None:
        raise AdminError(
            f"--kernel is for `vilab run debian`; another kernel is given in the place of {options.image}."
        )
    memory_bytes = usual_bytes if options.memory_bytes is None else options.memory_bytes
    image = load(
        spec,
        memory_bytes=memory_bytes,
        append=command_line,
        initrd=_read(initrd),
        reserved=None if options.engine in ("bare", "svm") else MONITOR_WINDOW,
        paravirtual=options.engine == "para",
    )
    if options.image == debian.NAME:
        image = msgspec.structs.replace(image, name=debian.NAME)
    return Chosen(image, memory_bytes, prompt)


def _read(path: Path | None) -> bytes | None:
    try:
        return None if path is None else path.read_bytes()
    except OSError as error:
        raise AdminError(f"{path} cannot be read: {error.strerror or error}.") from None


def run_image(options: RunOptions, console: Console) -> RunResult:
    """Load, run, and report.

    Raises
    ------
    AdminError : the image, the memory or the engine cannot be had; nothing was run.
    """
    if options.engine not in ENGINES:
        raise AdminError(f"There is no engine {options.engine!r}; there are {', '.join(ENGINES)}.")
    chosen = choose(options)
    image = chosen.image
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
    if chosen.prompt and not getattr(console, "interactive", False):
        console = Typist(console, chosen.prompt)
    tee = _Tee(console)
    count = options.instructions
    if count is None and image.kind in COUNTED_KINDS:
        count = 1 << 60
    try:
        vm = VirtualMachine(
            image, options.engine, chosen.memory_bytes, console=tee, log=log, count_instructions=count,
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
