"""Teaching kernels in which a test's own program has taken the place of a bundled one."""

from __future__ import annotations

import struct
from pathlib import Path

from tests.tools import require_module
from vilab.guests import build as guests_build


def kernels_with(source: Path, place: str, name: str, scratch: Path) -> dict[bool, Path]:
    """The kernel ``name``, native (``False``) and paravirtual (``True``): ``source`` in the place of a program."""
    require_module("ziglang", "the PyPI package ziglang (extra: guest)")
    builder = guests_build._Builder(scratch)
    programs = guests_build.HERE / "programs"
    script = builder.script(programs / "program.lds")
    library = [builder.compile(programs / part) for part in ("start.S", "library.c")]
    builder.link(script, "_start", [*library, builder.compile(programs / f"{place}.c")], scratch / "old.elf")
    compiled = scratch / f"{source.stem}.o"
    arguments = [*guests_build.COMPILE, "-I", "programs", "-c", str(source), "-o", str(compiled)]
    guests_build._run(builder.compiler, arguments, guests_build.HERE)
    builder.link(script, "_start", [*library, compiled], scratch / "new.elf")
    old, new = (scratch / "old.elf").read_bytes(), (scratch / "new.elf").read_bytes()
    # It fits if its first segment does: its second one is all zeros, and nobody needs the section headers behind.
    _, offset, _, _, size_bytes = struct.unpack_from("<5I", new, 52)
    assert offset + size_bytes <= len(old)
    made = {}
    for paravirtual, file in ((False, f"{name}.elf"), (True, f"{name}-para.elf")):
        kernel = (guests_build.PREBUILT / file).read_bytes()
        assert kernel.count(old) == 1
        made[paravirtual] = scratch / file
        made[paravirtual].write_bytes(kernel.replace(old, new[: len(old)].ljust(len(old), b"\0")))
    return made
