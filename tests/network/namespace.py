"""A network namespace of a test's own, with one TAP device in it."""

from __future__ import annotations

import contextlib
import os
import subprocess

import pytest

from tests.tools import require_tool
from vilab.network.tap import open_tap, why_not


def tap_or_skip() -> None:
    """Skips where there can be no TAP device, also where tools are required: it is a right that they need."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    require_tool("ip", "the Debian package iproute2")
    require_tool("ping", "the Debian package iputils-ping")


class Namespace:
    """A network namespace with one TAP device of the same name, both gone at the end."""

    def __init__(self, name: str) -> None:
        self.name = self.device = name
        self.file = -1

    def __enter__(self) -> Namespace:
        made = subprocess.run(["ip", "netns", "add", self.name], capture_output=True, text=True)
        if made.returncode:
            pytest.skip(f"No network namespace can be made here: {made.stderr.strip()}")
        try:
            self.file = open_tap(self.device)
            self._ip("link", "set", self.device, "netns", self.name)
            for arguments in (
                ("addr", "add", "10.9.0.1/24", "dev", self.device), ("link", "set", self.device, "up"),
                ("link", "set", "lo", "up"),
            ):  # fmt: skip
                self._ip("-n", self.name, *arguments)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self.file >= 0:
            with contextlib.suppress(OSError):
                os.close(self.file)
        subprocess.run(["ip", "netns", "delete", self.name], capture_output=True)

    def inside(self, *command: str) -> list[str]:
        return ["ip", "netns", "exec", self.name, *command]

    @staticmethod
    def _ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
