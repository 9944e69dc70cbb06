"""Frames as a capture file, and what tshark reads in it."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

from tests.tools import require_tool


def captured(folder: Path, frames: list[bytes]) -> Path:
    """A pcap file with one frame a millisecond."""
    path = folder / "frames.pcap"
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for number, frame in enumerate(frames):
            file.write(struct.pack("<IIII", 0, number * 1000, len(frame), len(frame)) + frame)
    return path


def tshark(path: Path, *fields: str, check: bool = True) -> list[list[str]]:
    """The fields of every frame, as tshark reads them; with the checksums checked."""
    command = [
        require_tool("tshark", "the Debian package tshark"),
        "-r",
        str(path),
        "-T",
        "fields",
        "-E",
        "separator=|",
    ]
    if check:
        for protocol in ("ip", "udp", "tcp"):
            command += ["-o", f"{protocol}.check_checksum:TRUE"]
    for field in fields:
        command += ["-e", field]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return [line.split("|") for line in run.stdout.splitlines()]
