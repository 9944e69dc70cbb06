"""Builds the prebuilt guests: ``python -m vilab.guests.build [DIRECTORY]``.

::

    programs/*.c + library.c + start.S  --program.lds-->  one ELF a program
                                                              |  .incbin (kernel/programs.S)
    kernel/*.c, kernel/*.S              --kernel.lds--->  prebuilt/kernel.elf       (Multiboot)
                              -DPARA    --kernel.lds--->  prebuilt/kernel-para.elf  (the same, with hypercalls)
                              -DMEMORY  --kernel.lds--->  prebuilt/kernel-memory.elf  (with balloon, swap, file cache)
                              -DMEMORY -DDISK  -------->  prebuilt/kernel-disk.elf  (and SCSI disks, files)
                              -DPARA -DDISK  ---------->  prebuilt/kernel-disk-para.elf
                              -DMEMORY -DDISK -DNETWORK   prebuilt/kernel-network.elf  (and a network card)
                              -DPARA -DDISK -DNETWORK ->  prebuilt/kernel-network-para.elf
                              ... -DNETWORK -DWRITER -->  prebuilt/kernel-writer.elf  (and programs that are moved)
    apic/*.c, apic/*.S                  --apic.lds----->  prebuilt/apic.elf         (Multiboot)
    bare/*.S                            --bare.lds----->  prebuilt/bare-*.elf       (no kernel at all)
                              -DPARA    --bare.lds----->  prebuilt/bare-*-para.elf  (those that name PARA)

The compiler is clang as the ``ziglang`` wheel carries it (extra ``guest``), the same on every host. The files are
stripped, so that no path of the building machine gets into them and two builds give the same bytes.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from vilab.errors import AdminError

HERE = Path(__file__).parent
PREBUILT = HERE / "prebuilt"

TARGET = ["-target", "x86-freestanding-none", "-mcpu=i686"]
COMPILE = [
    *TARGET,
    *("-O2", "-std=gnu11", "-masm=intel", "-g0", "-Wall", "-Wextra", "-Werror"),
    *("-ffreestanding", "-fno-builtin", "-fno-pic", "-fno-stack-protector", "-fno-sanitize=all"),
    *("-fno-asynchronous-unwind-tables", "-fomit-frame-pointer"),
    *("-mno-sse", "-mno-mmx", "-mno-80387"),
]
KERNELS = {
    "": (),
    "para": ("PARA",),
    "memory": ("MEMORY",),
    "disk": ("MEMORY", "DISK"),
    "disk-para": ("PARA", "DISK"),
    "network": ("MEMORY", "DISK", "NETWORK"),
    "network-para": ("PARA", "DISK", "NETWORK"),
    "writer": ("MEMORY", "DISK", "NETWORK", "WRITER"),
}
"""What the kernel's builds are called, and the words that their sources ask for with ``#ifdef``."""

LINK = [*TARGET, "-nostdlib", "-static", "-Wl,--build-id=none", "-s"]


def find_compiler() -> list[str]:
    """The command line that starts clang. ``AdminError`` if the wheel is not installed."""
    if importlib.util.find_spec("ziglang") is None:
        raise AdminError(
            "The guests cannot be built: the ziglang package, which carries the compiler, is not installed; "
            "get it with pip install 'vilab[guest]'."
        )
    return [sys.executable, "-m", "ziglang", "cc"]


def _run(compiler: list[str], arguments: list[str], cwd: Path) -> None:
    done = subprocess.run([*compiler, *arguments], cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        raise AdminError(f"A guest does not compile: {' '.join(arguments[-3:])}\n{done.stderr.strip()}")


def _suffix(variant: str) -> str:
    return f"-{variant}" if variant else ""


def _defines(variant: str) -> list[str]:
    return [f"-D{word}" for word in KERNELS.get(variant, (variant.upper(),))]


def _belongs_to(source: Path, variant: str) -> bool:
    """Whether the kernel has anything of this file: one that begins with ``#ifdef WORD`` is all in it, or nothing."""
    comment, _, rest = source.read_text().partition("*/")
    asked_for = re.match(r"\s*#ifdef (\w+)$", rest, re.MULTILINE) if comment.startswith("/*") else None
    return asked_for is None or asked_for[1] in KERNELS[variant]


class _Builder:
    """Compiles inside one scratch directory; sources are named relative to the package, so paths do not matter."""

    def __init__(self, scratch: Path) -> None:
        self.compiler = find_compiler()
        self.scratch = scratch

    def compile(self, source: Path, variant: str = "") -> Path:
        """``variant``: one of ``KERNELS``."""
        target = self.scratch / f"{source.parent.name}-{source.name}{_suffix(variant)}.o"
        relative = source.relative_to(HERE).as_posix()
        include = [f"-I{self.scratch}"] if source.suffix == ".S" else []
        _run(self.compiler, [*COMPILE, *include, *_defines(variant), "-c", relative, "-o", str(target)], HERE)
        return target

    def script(self, source: Path, variant: str = "") -> Path:
        """A linker script, through the preprocessor: only a paravirtual file has a note."""
        target = self.scratch / f"{source.stem}{_suffix(variant)}.lds"
        defines = _defines(variant)
        relative = source.relative_to(HERE).as_posix()
        _run(self.compiler, [*defines, "-E", "-P", "-x", "assembler-with-cpp", relative, "-o", str(target)], HERE)
        return target

    def link(self, script: Path, entry: str, objects: list[Path], target: Path) -> None:
        names = [f"-Wl,--entry={entry}", *(str(path) for path in objects)]
        _run(self.compiler, [*LINK, "-T", str(script), *names, "-o", str(target)], HERE)


def bundled_program_names(variant: str = "") -> list[str]:
    """The programs inside a kernel, in the order of ``kernel/programs.S``. ``variant``: one of ``KERNELS``."""
    source = (HERE / "kernel" / "programs.S").read_text()
    for word in {"MEMORY", "DISK", "NETWORK", "WRITER"}.difference(KERNELS[variant]):
        source = re.sub(rf"^#ifdef {word}$.*?^#endif$", "", source, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"^\s+PROGRAM ([\w-]+)$", source, re.MULTILINE)


def build(directory: Path = PREBUILT) -> list[Path]:
    """Builds every guest into ``directory`` and returns the files written.

    Raises ``AdminError`` if there is no compiler or a source does not compile.
    """
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        builder = _Builder(scratch)
        programs_script = builder.script(HERE / "programs" / "program.lds")
        library = [builder.compile(HERE / "programs" / part) for part in ("start.S", "library.c")]
        for program in bundled_program_names("writer"):
            source = builder.compile(HERE / "programs" / f"{program}.c")
            builder.link(programs_script, "_start", [*library, source], scratch / f"{program}.elf")
        sources = sorted((HERE / "kernel").glob("*.[cS]"), key=lambda path: (path.name != "boot.S", path.name))
        built: list[Path] = []
        for variant in KERNELS:
            built.append(scratch / f"kernel{_suffix(variant)}.elf")
            script = builder.script(HERE / "kernel" / "kernel.lds", variant)
            objects = [builder.compile(path, variant) for path in sources if _belongs_to(path, variant)]
            builder.link(script, "boot", objects, built[-1])
        for variant in ("", "para"):
            script = builder.script(HERE / "bare" / "bare.lds", variant)
            for source in sorted((HERE / "bare").glob("*.S")):
                if variant and f"#ifdef {variant.upper()}" not in source.read_text():
                    continue
                built.append(scratch / f"bare-{source.stem}{_suffix(variant)}.elf")
                builder.link(script, "entry", [builder.compile(source, variant)], built[-1])
        built.append(scratch / "apic.elf")
        script = builder.script(HERE / "apic" / "apic.lds")
        sources = sorted((HERE / "apic").glob("*.[cS]"))
        builder.link(script, "boot", [builder.compile(path) for path in sources], built[-1])
        directory.mkdir(parents=True, exist_ok=True)
        return [Path(shutil.copyfile(path, directory / path.name)) for path in built]


def main() -> int:
    try:
        files = build(Path(sys.argv[1]) if len(sys.argv) > 1 else PREBUILT)
    except AdminError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write("".join(f"{path.name}: {path.stat().st_size} bytes\n" for path in files))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
