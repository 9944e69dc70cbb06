"""What moving pages is measured against: ``socket.sendall`` of as many bytes, from one process to another.

::

    this process  ── sendall ══ loopback TCP ══> a process that receives where it stays, and then says so

Whoever receives has touched its memory before, and the bytes are no zeros: nothing is measured but the socket.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time

import numpy as np

from vilab.addresses import PAGE_BYTES
from vilab.errors import VmmBug

READ_BYTES = 1 << 18


class Receiver:
    """The other process; ``rate`` may be measured again and again."""

    def __init__(self, size_bytes: int) -> None:
        self.data = np.random.default_rng(2005).bytes(size_bytes)
        with socket.create_server(("127.0.0.1", 0)) as server:
            command = [sys.executable, "-m", __name__, str(server.getsockname()[1]), str(size_bytes)]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
            server.settimeout(60)
            self._socket, _ = server.accept()
        self._answer()

    def _answer(self) -> None:
        if self._socket.recv(1) != b"k":
            raise VmmBug("The process that receives has ended.")

    def rate(self) -> float:
        """Bytes a second, until the last one was received."""
        started = time.perf_counter()
        self._socket.sendall(self.data)
        self._answer()
        return len(self.data) / (time.perf_counter() - started)

    def close(self) -> None:
        self._socket.close()
        self._process.wait(60)


def receive(port: int, size_bytes: int) -> None:
    """The other process, until its connection is closed."""
    memory = bytearray(size_bytes)
    for at in range(0, size_bytes, PAGE_BYTES):
        memory[at] = 1
    view = memoryview(memory)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"k")
        while True:
            at = 0
            while at < size_bytes:
                count = connection.recv_into(view[at : at + READ_BYTES])
                if not count:
                    return
                at += count
            connection.sendall(b"k")


if __name__ == "__main__":
    receive(int(sys.argv[1]), int(sys.argv[2]))
