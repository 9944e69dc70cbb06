"""Fixtures that several rooms share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import tools


@pytest.fixture(scope="session")
def memtest86_image() -> Path:
    """Stock memtest86+; skips where the Debian package has not been fetched."""
    return tools.memtest86()


@pytest.fixture(scope="session")
def gnumach_image() -> Path:
    """Stock GNU Mach; skips where the Debian package has not been fetched."""
    return tools.gnumach()
