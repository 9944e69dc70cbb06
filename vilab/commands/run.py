"""``vilab run`` and ``vilab resume``: a guest whose serial line is this terminal.

What the guest writes goes to standard output byte by byte; how the run ended is one sentence on standard error;
``--stats json`` puts one JSON object on standard output's last line.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vilab.commands.terminal import Terminal
from vilab.errors import AdminError

if TYPE_CHECKING:
    from vilab.vmm.runner import RunOptions, RunResult, Suspension

UNITS = {"": 1, "B": 1, "K": 1 << 10, "KB": 1 << 10, "M": 1 << 20, "MB": 1 << 20, "G": 1 << 30, "GB": 1 << 30}
PAGE_BYTES = 4096
LARGEST_BYTES = 4 << 30


def parse_size(text: str) -> int:
    """Bytes from ``64M``, ``1G``, ``65536K`` or a plain number; whole pages below 4 GB."""
    digits = text.strip().rstrip("BKMGbkmg")
    unit = text.strip()[len(digits) :].upper()
    if not (digits.isascii() and digits.isdigit()) or unit not in UNITS:
        raise AdminError(f"The guest was not started: {text!r} is not a size of memory; write for instance 64M or 1G.")
    size_bytes = int(digits) * UNITS[unit]
    if size_bytes % PAGE_BYTES or not 0 < size_bytes < LARGEST_BYTES:
        raise AdminError(
            f"The guest was not started: {text} of memory is not possible; "
            "a 32-bit guest has whole pages of 4K, at least one and less than 4G in all."
        )
    return size_bytes


def run_guest(
    image: str,
    engine: str = "bt",
    memory: str | None = None,
    append: str = "",
    kernel: Path | None = None,
    initrd: Path | None = None,
    placement: str | None = None,
    paging: str | None = None,
    trace: str | None = None,
    instructions: int | None = None,
    seed: int = 0,
    stats: str | None = None,
    events: Path | None = None,
    suspend_to: Path | None = None,
    suspend_at: float | None = None,
    disks: Sequence[Path] = (),
    controller: str = "lsilogic",
    cards: Sequence[str] = (),
    capture: Path | None = None,
    rom: Path | None = None,
) -> int:
    """Run until the guest ends, the limit is reached or the person leaves; returns the exit status."""
    memory_bytes = None if memory is None else parse_size(memory)
    if instructions is not None and instructions < 0:
        raise AdminError(f"The guest was not started: it cannot run {instructions} instructions.")

    from vilab.vmm.choices import engine_options
    from vilab.vmm.runner import RunOptions, run_image

    options = RunOptions(
        image=image,
        engine=engine,
        memory_bytes=memory_bytes,
        append=append,
        kernel_path=kernel,
        initrd_path=initrd,
        instructions=instructions,
        seed=seed,
        stats=stats is not None,
        events_path=events,
        engine_options=engine_options(engine, placement, paging, trace),
        suspension=suspension(suspend_to, suspend_at),
        disks=tuple(disks),
        controller=controller,
        cards=tuple(cards),
        capture_path=capture,
        rom_path=rom,
    )
    return _on_this_terminal(options, lambda terminal: run_image(options, terminal))


def resume_guest(
    file: Path,
    stats: str | None = None,
    events: Path | None = None,
    suspend_to: Path | None = None,
    suspend_at: float | None = None,
) -> int:
    """Go on with a suspended machine, as ``run_guest``."""
    from vilab.vmm.runner import RunOptions, resume_file

    options = RunOptions(
        image=str(file), stats=stats is not None, events_path=events, suspension=suspension(suspend_to, suspend_at)
    )
    return _on_this_terminal(options, lambda terminal: resume_file(file, terminal, options))


def suspension(path: Path | None, at_ms: float | None) -> Suspension | None:
    """When the run is to become a file: at that virtual time, or when the person leaves."""
    if path is None:
        if at_ms is not None:
            raise AdminError("--suspend-at says when, and --suspend-to FILE where to; both are needed.")
        return None
    if at_ms is not None and not 0 < at_ms < math.inf:
        raise AdminError(f"--suspend-at {at_ms:g}: milliseconds of virtual time since power-on are more than 0.")
    from vilab.vmm.runner import Suspension

    return Suspension(path, None if at_ms is None else round(at_ms * 1_000_000))


def _on_this_terminal(options: RunOptions, run: Callable[[Terminal], RunResult]) -> int:
    from vilab.commands import leaving

    terminal = Terminal()
    wish = options.suspension
    suspends_on_leaving = wish is not None and wish.at_ns is None

    def request() -> None:
        assert wish is not None
        wish.requested = True

    leaving.install(request if suspends_on_leaving else None)
    if terminal.interactive:
        what = "suspends and leaves" if suspends_on_leaving else "leaves"
        print(f"Ctrl-] {what}; every other key goes to the guest.", file=sys.stderr)
    try:
        with terminal.attached():
            result = run(terminal)
    finally:
        if terminal.last_byte not in (b"", b"\n"):
            terminal.write(b"\n")
    print(result.sentence, file=sys.stderr)
    if options.stats:
        print(json.dumps(result.stats), flush=True)
    return result.exit_status
