"""``vilab run``: a guest whose serial line is this terminal.

What the guest writes goes to standard output byte by byte; how the run ended is one sentence on standard error;
``--stats json`` puts one JSON object on standard output's last line.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from vilab.commands.terminal import Terminal
from vilab.errors import AdminError

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
) -> int:
    """Run until the guest ends, the limit is reached or the person leaves; returns the exit status."""
    memory_bytes = None if memory is None else parse_size(memory)
    if instructions is not None and instructions < 0:
        raise AdminError(f"The guest was not started: it cannot run {instructions} instructions.")

    from vilab.commands import leaving
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
    )
    terminal = Terminal()
    leaving.install()
    if terminal.interactive:
        print("Ctrl-] leaves; every other key goes to the guest.", file=sys.stderr)
    try:
        with terminal.attached():
            result = run_image(options, terminal)
    finally:
        if terminal.last_byte not in (b"", b"\n"):
            terminal.write(b"\n")
    print(result.sentence, file=sys.stderr)
    if stats == "json":
        print(json.dumps(result.stats), flush=True)
    return result.exit_status
