"""A JupyterLab of the test's own: the real command ``vilab lab``, on loopback, in a folder that is thrown away."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from vilab.commands.lab import WORKSPACE_ID, lay_out

START_SECONDS = 90


class Lab(msgspec.Struct, frozen=True):
    """A running server: its address, the token that it wants, and the work copy that it serves."""

    url: str
    token: str
    work: Path

    def page(self, notebook: str) -> str:
        """Address of a notebook in a workspace of its own, so that no test meets another one's tabs."""
        name = f"test-{secrets.token_hex(4)}"
        lay_out(self.work / ".jupyter-workspaces", name, notebook)
        return f"{self.url}/lab/workspaces/{name}?token={self.token}"

    def end_kernels(self) -> None:
        """Each open lesson holds a kernel of some 150 MB; a test gives its own back."""
        for session in self._ask("GET", "sessions"):
            self._ask("DELETE", f"sessions/{session['id']}")

    def _ask(self, method: str, what: str) -> Any:
        request = urllib.request.Request(f"{self.url}/api/{what}?token={self.token}", method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            body = answer.read()
        return json.loads(body) if body else None

    def front_door(self) -> str:
        """What a browser that the command starts would open."""
        return f"{self.url}/lab/workspaces/{WORKSPACE_ID}?token={self.token}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running_lab(folder: Path) -> Iterator[Lab]:
    """Start ``vilab lab`` with nothing of this computer's own Jupyter settings, and end it with its kernels."""
    token, port, work = secrets.token_hex(16), free_port(), folder / "lessons"
    own = {name: str(folder / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR")}
    command = [sys.executable, "-m", "vilab.cli", "lab", "--no-browser", "--port", str(port), "--dir", str(work)]
    log = folder / "lab.log"
    settings = Path(own["JUPYTER_CONFIG_DIR"])
    settings.mkdir(parents=True)
    # Lab's own handle for tests: window.jupyterapp executes the commands that its menus have.
    (settings / "jupyter_lab_config.json").write_text('{"LabApp": {"expose_app_in_browser": true}}')
    with log.open("wb") as out:
        server = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            env={**os.environ, **own, "JUPYTER_TOKEN": token, "JUPYTER_RUNTIME_DIR": str(folder / "runtime")},
        )  # fmt: skip
        try:
            lab = Lab(f"http://127.0.0.1:{port}", token, work)
            _wait_until_it_answers(lab, server, log)
            yield lab
        finally:
            server.send_signal(signal.SIGTERM)
            try:
                server.wait(timeout=20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _wait_until_it_answers(lab: Lab, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            break
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{lab.url}/api?token={lab.token}", timeout=5):
            return
        time.sleep(0.2)
    raise AssertionError("vilab lab did not answer:\n" + log.read_text(errors="replace")[-3000:])
