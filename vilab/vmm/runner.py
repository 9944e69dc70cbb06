"""One run of one guest, with the figures that other programs read.

::

    RunOptions ──choose──> image ──┐                        ┌──> ended ──────┐
                                   ├──> machine ──> run ────┤                ├──> RunResult
    file ──────suspend.read────────┘                        └──> suspended ──┘
"""

from __future__ import annotations

import hashlib
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from vilab.errors import AdminError, GuestStopped
from vilab.events import Event, EventDigest, EventLog, encode
from vilab.guests import debian, debian_disks, debian_root
from vilab.guests.image import LoadedImage
from vilab.guests.load import load
from vilab.protocols import Console
from vilab.vmm import suspend
from vilab.vmm.choices import usual_for
from vilab.vmm.lone_network import LoneNetwork
from vilab.vmm.records import Ended
from vilab.vmm.scsi_disks import CONTROLLERS, attach
from vilab.vmm.typist import Typist
from vilab.vmm.vm import ENGINES, MONITOR_WINDOW, VirtualMachine

DONE, GUEST_STOPPED = 0, 3
LOOK_NS = 20_000_000
TAIL_BYTES = 32
MEMORY_BYTES = 64 << 20
COUNTED_KINDS = frozenset(("function",))
"""Images so small that counting each instruction costs nothing that anybody would notice."""


class Suspension(msgspec.Struct):
    """``at_ns``: the virtual time of it; ``None``: when ``requested`` is set, which is looked at now and then."""

    path: Path
    at_ns: int | None = None
    requested: bool = False


class RunOptions(msgspec.Struct, frozen=True):
    """What ``vilab run`` was asked for.

    ``instructions``: stop after exactly this many guest instructions; ``None``: no limit, and counted only for small
    images. ``stats`` asks for digests of serial output and events. ``engine_options`` go to the engine's constructor.
    ``memory_bytes``: ``None`` is as much as the image usually gets. ``kernel_path``: for the Debian guest, another
    kernel than the fetched one. ``suspension``: when the run stops to become a file, if it does. ``disks``: files of
    virtual disks, behind a SCSI adapter of the kind ``controller``.
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
    suspension: Suspension | None = None
    disks: tuple[Path, ...] = ()
    controller: str = "lsilogic"
    cards: tuple[str, ...] = ()
    capture_path: Path | None = None
    rom_path: Path | None = None


class RunResult(msgspec.Struct, frozen=True):
    """``exit_status`` as in ``vilab.cli``; ``sentence`` says how the run ended; ``stats`` are the figures."""

    exit_status: int
    sentence: str
    stats: dict[str, Any]


class _Tee:
    """Passes serial output on and keeps its digest and its last bytes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.digest = hashlib.sha256()
        self.tail = b""
        self.interactive = getattr(console, "interactive", False)

    def write(self, data: bytes) -> None:
        self.digest.update(data)
        self.tail = (self.tail + data)[-TAIL_BYTES:]
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
    spec, command_line, usual_bytes = options.image, options.append, MEMORY_BYTES
    initrd = _read(options.initrd_path)
    prompt = b""
    if options.image == debian.NAME:
        kernel, usual_bytes = options.kernel_path, debian.MEMORY_BYTES
        usual_line = debian.COMMAND_LINE
        if options.disks or options.cards:
            usual_line = debian_disks.command_line(usual_line)
        command_line = f"{usual_line} {options.append}".rstrip()
        if kernel is None or initrd is None:
            fetched = debian.find()
            if initrd is None:
                initrd, prompt = _usual_initrd(fetched, options), debian_root.PROMPT
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
        initrd=initrd,
        reserved=None if options.engine in ("bare", "svm") else MONITOR_WINDOW,
        paravirtual=options.engine == "para",
    )
    if options.image == debian.NAME:
        image = msgspec.structs.replace(image, name=debian.NAME)
    return Chosen(image, memory_bytes, prompt)


def _usual_initrd(fetched: debian.Debian, options: RunOptions) -> bytes | None:
    if not options.disks and not options.cards:
        return _read(fetched.initrd)
    return fetched.initrd_for(options.controller if options.disks else None, options.cards)


def _read(path: Path | None) -> bytes | None:
    try:
        return None if path is None else path.read_bytes()
    except OSError as error:
        raise AdminError(f"{path} cannot be read: {error.strerror or error}.") from None


def run_image(options: RunOptions, console: Console) -> RunResult:
    """Load, run, and report.

    Raises
    ------
    AdminError : the image, the memory or the engine cannot be had, or a file not be written; nothing was run.
    """
    if options.engine not in ENGINES:
        raise AdminError(f"There is no engine {options.engine!r}; there are {', '.join(ENGINES)}.")
    if options.controller not in CONTROLLERS:
        raise AdminError(f"There is no controller {options.controller!r}; there are {', '.join(CONTROLLERS)}.")
    chosen = choose(options)
    count = options.instructions
    if count is None and chosen.image.kind in COUNTED_KINDS:
        count = 1 << 60
    with _Session(console, options, chosen.prompt) as session:
        engine_options = usual_for(chosen.image.kind, options.engine, options.engine_options)
        with ExitStack() as open_disks:
            adapters = attach(options.disks, options.controller)
            for adapter in adapters:
                open_disks.callback(adapter.close)
            network = LoneNetwork(
                chosen.image.name, options.cards, (), options.capture_path, options.rom_path, session.log
            )
            open_disks.callback(network.close)
            vm = VirtualMachine(
                chosen.image, options.engine, chosen.memory_bytes, console=session.tee, log=session.log,
                count_instructions=count, engine_options=engine_options, adapters=adapters, cards=network.cards,
                clock=network.clock,
            )  # fmt: skip
            return session.run(vm, engine_options, count is not None)


def resume_file(path: Path, console: Console, options: RunOptions) -> RunResult:
    """Go on with a suspended machine. Of the options only ``stats``, ``events_path`` and ``suspension`` count.

    Raises
    ------
    AdminError : the file cannot be read or is not one, or another cannot be written; nothing was run.
    """
    suspended = suspend.read(path)
    header = suspended.header
    with _Session(console, options, header.prompt, header.said) as session:
        kinds, addresses = [card.kind for card in header.cards], [card.address for card in header.cards]
        network = LoneNetwork(header.image.name, kinds, addresses, log=session.log)
        vm = suspended.resume(session.tee, session.log, ports=network.ports, clock=network.clock)
        with ExitStack() as open_disks:
            for adapter in vm.adapters:
                open_disks.callback(adapter.close)
            return session.run(vm, header.engine_options, header.instructions is not None)


class _Session:
    """What is around a machine while it runs: the console, the log and who listens to it, the file it becomes."""

    def __init__(self, console: Console, options: RunOptions, prompt: bytes, said: bytes = b"") -> None:
        self._suspension = options.suspension
        if self._suspension is not None:
            suspend.can_be_written(self._suspension.path)
        self._prompt = prompt
        if prompt and not getattr(console, "interactive", False):
            console = Typist(console, prompt, said)
        self.tee = _Tee(console)
        self.tee.tail = said
        self.log = EventLog()
        self._digest = EventDigest() if options.stats else None
        if self._digest is not None:
            self.log.listen(self._digest)
        self._file: BinaryIO | None = None
        if options.events_path is not None:
            try:
                self._file = options.events_path.open("wb")
            except OSError as error:
                raise AdminError(f"{options.events_path} cannot be written: {error.strerror or error}.") from None
            self.log.listen(_Writer(self._file))

    def __enter__(self) -> _Session:
        return self

    def __exit__(self, kind: object, error: object, at: object) -> None:
        if self._file is not None:
            self._file.close()

    def run(self, vm: VirtualMachine, engine_options: dict[str, Any], counted: bool) -> RunResult:
        start = time.perf_counter()
        try:
            ended = self._go_on(vm)
        except GuestStopped as stopped:
            vm.engine.end("stopped", str(stopped), good=False)
            ended = vm.engine.ended
        wall_s = time.perf_counter() - start
        instructions = vm.cpu.instructions if counted else None
        if ended is not None:
            reason, sentence, good = ended.reason, ended.sentence, ended.good
            if self._suspension is not None:
                sentence += f" {self._suspension.path} was not written."
        else:
            assert self._suspension is not None
            path = self._suspension.path
            suspend.write(path, suspend.encode(vm, engine_options, instructions, self._prompt, self.tee.tail))
            reason, good = "suspended", True
            sentence = f"The guest is suspended after {vm.engine.now_ns() // 1_000_000} ms; go on: vilab resume {path}"
        stats: dict[str, Any] = {
            "engine": vm.engine.name,
            "image": vm.image.name,
            "ended": reason,
            "instructions": instructions,
            "wall_s": round(wall_s, 6),
        }
        stats |= vm.engine.statistics()
        stats["serial_sha256"] = self.tee.digest.hexdigest()
        stats["events_sha256"] = self._digest.hexdigest() if self._digest is not None else None
        stats["events"] = self._digest.count if self._digest is not None else None
        vm.close()
        return RunResult(DONE if good else GUEST_STOPPED, sentence, stats)

    def _go_on(self, vm: VirtualMachine) -> Ended | None:
        """Until the guest ends (how), or is to be suspended (``None``)."""
        wish = self._suspension
        if wish is None:
            return vm.engine.run()
        if wish.at_ns is not None:
            now_ns = vm.engine.now_ns()
            if wish.at_ns <= now_ns:
                raise AdminError(
                    f"{vm.image.name} cannot be suspended at {wish.at_ns // 1_000_000} ms: it is at "
                    f"{now_ns // 1_000_000} ms already."
                )
            return vm.engine.run(wish.at_ns)
        while not wish.requested:
            ended = vm.engine.run(vm.engine.now_ns() + LOOK_NS)
            if ended is not None:
                return ended
        return None
