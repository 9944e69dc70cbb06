"""A cable between two agents that passes bytes on, and does something at the byte with a number.

::

    source ──> Proxy.address ──> destination         out: bytes there     back: bytes here
                      └─ at byte N of one direction: ``cut``, ``stall``, ``corrupt``, or what the test does itself
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Callable
from typing import Literal

Action = Literal["cut", "stall", "corrupt"] | Callable[[], None]
Direction = Literal["out", "back"]
READ_BYTES = 1 << 16
POLL_S = 0.1


class Proxy:
    """For one connection, in a thread of its own."""

    def __init__(self, target: str, direction: Direction = "out", byte: int = -1, action: Action = "cut") -> None:
        self.passed: dict[Direction, int] = {"out": 0, "back": 0}
        self.done = False
        host, _, port = target.rpartition(":")
        self._target = host, int(port)
        self._direction, self._byte, self._action = direction, byte, action
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(POLL_S)
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="cutting proxy", daemon=True)
        self._thread.start()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(10)

    def _serve(self) -> None:
        with self._listener:
            while not self._over.is_set():
                with contextlib.suppress(TimeoutError):
                    here = self._listener.accept()[0]
                    break
            else:
                return
        with here, socket.create_connection(self._target) as there, contextlib.suppress(OSError):
            self._pass_on(here, there)

    def _pass_on(self, here: socket.socket, there: socket.socket) -> None:
        ways: dict[socket.socket, tuple[Direction, socket.socket]] = {here: ("out", there), there: ("back", here)}
        with selectors.DefaultSelector() as selector:
            for each in ways:
                selector.register(each, selectors.EVENT_READ)
            while not self._over.is_set():
                for key, _ in selector.select(POLL_S):
                    assert isinstance(key.fileobj, socket.socket)
                    direction, to = ways[key.fileobj]
                    data = key.fileobj.recv(READ_BYTES)
                    if not data:
                        return
                    before = self.passed[direction]
                    self.passed[direction] += len(data)
                    at = self._byte - before
                    if direction == self._direction and not self.done and 0 <= at < len(data):
                        self.done = True
                        if self._action == "corrupt":
                            data = data[:at] + bytes((data[at] ^ 1 << at % 8,)) + data[at + 1 :]
                        else:
                            to.sendall(data[:at])
                            data = data[at:]
                            if self._action == "cut":
                                return
                            if self._action == "stall":
                                self._over.wait()
                                return
                            self._action()
                    to.sendall(data)
