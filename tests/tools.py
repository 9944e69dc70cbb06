"""What a test needs from outside: there, or a sentence that says which package brings it.

A missing tool skips the test. With ``VILAB_REQUIRE_TOOLS=1`` it fails instead, so that a machine which is meant to
have everything cannot quietly test nothing.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

from vilab.commands.doctor import interop_folder
from vilab.errors import AdminError
from vilab.guests.debian import Debian
from vilab.guests.debian import find as find_debian

if TYPE_CHECKING:
    from playwright.sync_api import Playwright

INTEROP_HINT = ".ci/fetch-guests gets it from Debian's packages"


def tools_are_required() -> bool:
    return os.environ.get("VILAB_REQUIRE_TOOLS", "") not in ("", "0")


def missing(what: str, package: str) -> NoReturn:
    """End the test: skipped, or failed where everything has to be there."""
    sentence = f"{what} is not on this machine; it comes with {package}."
    if tools_are_required():
        pytest.fail(f"{sentence} (VILAB_REQUIRE_TOOLS is set.)", pytrace=False)
    pytest.skip(sentence)


def require_tool(command: str, package: str) -> str:
    """Path of a command. ``package`` as a person would type it: ``the Debian package qemu-system-x86``."""
    path = shutil.which(command)
    if path is None:
        missing(f"The command {command}", package)
    return path


def require_file(path: Path, package: str) -> Path:
    if not path.is_file():
        missing(f"{path.name} ({path.parent})", package)
    return path


def require_module(name: str, package: str) -> None:
    """A Python module that only an extra brings, for instance ``ziglang``."""
    if importlib.util.find_spec(name) is None:
        missing(f"The Python module {name}", package)


def memtest86() -> Path:
    """Stock memtest86+ 6.10 as a bzImage with a 32-bit entry."""
    return require_file(interop_folder() / "memtest86+ia32.bin", f"the Debian package memtest86+ ({INTEROP_HINT})")


def gnumach() -> Path:
    """Stock GNU Mach 1.8 as a multiboot ELF kernel."""
    package = f"the i386 Debian package gnumach-image-1.8-486 ({INTEROP_HINT})"
    return require_file(interop_folder() / "gnumach-1.8-486", package)


def debian() -> Debian:
    """The stock Debian kernel with busybox."""
    try:
        return find_debian()
    except AdminError as error:
        missing(f"The Debian guest ({error})", "the i386 Debian packages linux-image-686 and busybox-static")


def chromium(playwright: Playwright) -> str:
    """A Chromium: Debian's, or the one that Playwright has downloaded itself."""
    for command in ("chromium", "chromium-browser", "google-chrome"):
        path = shutil.which(command)
        if path is not None:
            return path
    own = playwright.chromium.executable_path
    if not Path(own).is_file():
        missing("Chromium", "the Debian package chromium, or elsewhere with: playwright install chromium")
    return own
