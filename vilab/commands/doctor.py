"""``vilab doctor``: what this machine has, what it lacks, and how to get that; one line each.

===========  ===========================================================================
mark         meaning
===========  ===========================================================================
``ok``       there, and fit for use
``MISSING``  the lessons need it: exit status 2
``absent``   only some commands or tests need it; nothing else suffers
===========  ===========================================================================
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import msgspec

import vilab
from vilab.errors import VilabError
from vilab.guests import debian

OK, MISSING, ABSENT = "ok", "MISSING", "absent"
OLDEST_PYTHON = (3, 11)
AGAIN = f"{Path(sys.executable).name} -m pip install --force-reinstall vilab"

NEEDED = (
    ("unicorn", "unicorn", "the processor"),
    ("capstone", "capstone", "the decoder"),
    ("numpy", "numpy", "views of machine memory"),
    ("msgspec", "msgspec", "state records and events"),
    ("jupyterlab", "jupyterlab", "opens the lessons"),
    ("ipykernel", "ipykernel", "runs the lessons' cells"),
    ("ipywidgets", "ipywidgets", "buttons and sliders"),
    ("anywidget", "anywidget", "the pictures"),
    ("bqplot", "bqplot", "the charts"),
)
"""Distribution, module, what for."""

COMMANDS = (
    ("chromium", ("chromium", "chromium-browser", "google-chrome"), "the tests of the lessons in a browser",
     "Debian: apt-get install chromium; elsewhere: playwright install chromium"),
    ("qemu-system-i386", ("qemu-system-i386",), "a second opinion on a guest: tests, and bench boot",
     "Debian: apt-get install qemu-system-x86"),
)  # fmt: skip

INTEROP = ("memtest86+ia32.bin", "gnumach-1.8-486")


class Finding(msgspec.Struct, frozen=True):
    """One line: a mark, what was looked at, and what was found or how to get it."""

    mark: str
    what: str
    note: str


def examine(out: TextIO) -> int:
    """Write one line a finding; 0 if everything that the lessons need is there, else 2."""
    findings = list(look_around())
    width = max(len(finding.what) for finding in findings)
    for finding in findings:
        print(f"{finding.mark:<8} {finding.what:<{width}}  {finding.note}", file=out)
    missing = sum(finding.mark == MISSING for finding in findings)
    if missing:
        print(f"\nThe lessons cannot run yet: {missing} of {len(findings)} are missing.", file=out)
        return 2
    print("\nEverything that the lessons need is here.", file=out)
    return 0


def look_around() -> Iterator[Finding]:
    """Every finding, from the ground up."""
    yield _python()
    for distribution, module, purpose in NEEDED:
        yield _package(distribution, module, purpose)
    yield _block_hook()
    yield _lessons()
    yield _package("ziglang", "ziglang", "compiles guests that a student writes", needed=False, extra="guest")
    yield _package("playwright", "playwright", "drives the browser in tests", needed=False, extra="test")
    for name, commands, purpose, how in COMMANDS:
        path = next((found for found in map(shutil.which, commands) if found), None)
        yield Finding(OK, name, f"{path}, {purpose}") if path else Finding(ABSENT, name, f"{purpose}. {how}")
    yield _debian()
    for name in INTEROP:
        image = interop_folder() / name
        if image.is_file():
            yield Finding(OK, name, f"{image}, a guest that others wrote")
        else:
            yield Finding(ABSENT, name, "a guest that others wrote, for the tests. On Debian 12: .ci/fetch-guests")


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < OLDEST_PYTHON:
        return Finding(MISSING, "Python", f"{version} is too old: vilab needs 3.11 or later, from python.org")
    return Finding(OK, "Python", f"{version}, {sys.executable}")


def _package(distribution: str, module: str, purpose: str, needed: bool = True, extra: str = "") -> Finding:
    mark = MISSING if needed else ABSENT
    how = f"pip install 'vilab[{extra}]'" if extra else AGAIN
    if importlib.util.find_spec(module) is None:
        return Finding(mark, distribution, f"{purpose}. Get it: {how}")
    try:
        version = importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return Finding(mark, distribution, f"{purpose}: present, but its version is unknown. Get it: {how}")
    wanted = _wanted(distribution)
    if wanted and not _satisfies(version, wanted):
        return Finding(mark, distribution, f"{purpose}: {version} is here, {wanted} is needed. Get it: {how}")
    if needed:
        try:
            importlib.import_module(module)
        except Exception as error:
            # Whatever an import runs into (a missing shared library, a wrong processor) is what the line reports.
            return Finding(mark, distribution, f"{purpose}: {version} does not start ({error}). Get it: {how}")
    return Finding(OK, distribution, f"{version}, {purpose}")


def _wanted(distribution: str) -> str:
    """The versions that vilab's own metadata asks for, e.g. ``==2.1.4``; empty if it says nothing."""
    for requirement in importlib.metadata.requires("vilab") or []:
        spec = requirement.split(";")[0].strip()
        if spec.startswith(distribution) and spec[len(distribution) :][:1] in tuple("=<>~!"):
            return spec[len(distribution) :]
    return ""


def _satisfies(version: str, wanted: str) -> bool:
    try:
        from packaging.specifiers import SpecifierSet
    except ImportError:  # comes with JupyterLab, whose absence has a line of its own
        return not wanted.startswith("==") or wanted == f"=={version}"
    return SpecifierSet(wanted).contains(version, prereleases=True)


def _block_hook() -> Finding:
    """Does the hook that counts executed code run as machine code on this processor?"""
    what = "block hook"
    try:
        from vilab.machine.cpu import Cpu
        from vilab.machine.memory import MachineMemory

        cpu = Cpu(MachineMemory(1 << 20))
    except (ImportError, OSError, VilabError) as error:
        return Finding(MISSING, what, f"counts executed code: the processor does not start ({error})")
    native = cpu.is_native
    cpu.close()
    if native:
        return Finding(OK, what, f"machine code by llvmlite {importlib.metadata.version('llvmlite')}")
    return Finding(
        ABSENT, what, "counts executed code: runs in Python, many times slower. Get it: pip install llvmlite"
    )


def _lessons() -> Finding:
    from vilab.course.workcopy import originals_folder

    try:
        folder = originals_folder() / "notebooks"
    except VilabError as error:
        return Finding(MISSING, "lessons", str(error))
    count = len(list(folder.glob("*.ipynb")))
    return Finding(OK if count else MISSING, "lessons", f"{count} of vilab {vilab.__version__} in {folder}")


def _debian() -> Finding:
    """Kernel and busybox of `vilab run debian`, every file checked."""
    try:
        found = debian.find()
    except VilabError as error:
        return Finding(ABSENT, "debian guest", f"vilab run debian. {error}")
    return Finding(OK, "debian guest", found.describe())


def interop_folder() -> Path:
    """Where ``.ci/fetch-guests`` puts guests that others wrote."""
    chosen = os.environ.get("VILAB_INTEROP_DIR")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vilab" / "interop"
