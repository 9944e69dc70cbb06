"""Guests from assembly text, built with the GNU assembler."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.tools import require_tool


def flat(source: Path | str, folder: Path, address: int) -> bytes:
    """The bytes of a source that is to stand at ``address``. ``source``: a file, or the text itself."""
    path = source if isinstance(source, Path) else folder / "text.S"
    if isinstance(source, str):
        path.write_text(source)
    item, binary = folder / "text.o", folder / "text.bin"
    assembler, linker = (require_tool(name, "the Debian package binutils") for name in ("as", "ld"))
    subprocess.run([assembler, "--32", "-o", item, path], check=True)
    subprocess.run(
        [linker, "-m", "elf_i386", "--oformat", "binary", f"-Ttext={address:#x}", "-e", "0", "-o", binary, item],
        check=True,
    )
    return binary.read_bytes()
