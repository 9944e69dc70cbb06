"""Who asks a host's agent: a person at a command line, a test, VirtualCenter.

::

    client.ask(PowerOn(home))  ──> blocks until Done; Refused is an ``AdminError`` with the agent's sentence
    client.move("web", "127.0.0.1:9022", watch)        watch hears of each Moving meanwhile
    client.move_storage("web", "san2", watch=watch)    and of each Copying
"""

from __future__ import annotations

import itertools
import select
import ssl
import time
from collections.abc import Callable

from vilab.errors import AdminError
from vilab.migration import agent_requests as requests
from vilab.migration import agent_tcp
from vilab.migration.agent_port import AgentPort
from vilab.migration.agent_session import AgentSession, Received
from vilab.migration.host_agent import MESSAGES
from vilab.migration.host_calls import parse_address
from vilab.migration.page_stream import Kind
from vilab.migration.storage_vmotion import MethodName

Watch = Callable[[requests.Progress], None]
PATIENCE_S = 150.0
"""A host that asks the locks whose a machine is may be silent for more than a minute."""


def _nobody(_progress: requests.Progress) -> None:
    """Watches."""


class AgentClient:
    """Parameters
    ----------
    name : what the agent knows us as; not the name of a host.

    Raises
    ------
    AdminError : nobody answers there, or we do not know the secret; later, what the agent refuses.
    """

    def __init__(
        self, address: str, secret: bytes, name: str = "console", *, datacenter: str = "datacenter",
        tls: ssl.SSLContext | None = None, patience_s: float = PATIENCE_S,
    ) -> None:  # fmt: skip
        self.address, self.patience_s = address, patience_s
        self._numbers = itertools.count(1)
        self._got: list[Received] = []
        self._ended = ""
        session = AgentSession(name, secret, MESSAGES, initiator=True, datacenter=datacenter)
        self._link = agent_tcp.connect(name, *parse_address(address), tls)
        self._port = AgentPort(session, self._link, self._got.append, self._lost)
        self._until(lambda: session.established)
        self.host = session.peer

    def _lost(self, why: str) -> None:
        self._ended = why

    def _until(self, there: Callable[[], bool]) -> None:
        """Serve the connection until then. ``AdminError``: it ended, or has been silent for too long."""
        heard_s = time.monotonic()
        while not there():
            if self._ended:
                raise AdminError(self._ended)
            if self._link.poll():
                heard_s = time.monotonic()
            elif time.monotonic() - heard_s > self.patience_s:
                raise AdminError(f"The agent at {self.address} has said nothing for {self.patience_s:g} s; look at it.")
            elif self._link.open and not there():
                writes = [self._link] if self._link.wants_write else []
                select.select([self._link], writes, [], 0.2)

    def ask(self, request: requests.Request, watch: Watch = _nobody) -> tuple[requests.Request, bytes]:
        """The answer, and the bytes that came with it."""
        self._port.send(request)
        while True:
            self._until(lambda: bool(self._got))
            got = self._got.pop(0)
            message, body = got.message, bytes(got.body)
            if not isinstance(message, requests.Request) or message.number != request.number:
                continue
            if isinstance(message, requests.Progress):
                watch(message)
            elif isinstance(message, requests.Refused):
                raise AdminError(message.why)
            else:
                return message, body

    # --- the requests -------------------------------------------------------------------------------------------------

    def machines(self) -> tuple[requests.Machine, ...]:
        answer, _ = self.ask(requests.ListMachines(next(self._numbers)))
        assert isinstance(answer, requests.Machines)
        return answer.machines

    def power_on(self, home: str, discard_suspended: bool = False) -> str:
        return self._done(requests.PowerOn(next(self._numbers), home, discard_suspended))

    def power_off(self, name: str) -> str:
        return self._done(requests.PowerOff(next(self._numbers), name))

    def move(
        self, name: str, address: str, rule: str = "nelson", watch: Watch = _nobody, kind: Kind = "zero",
        verify: bool = False,
    ) -> str:  # fmt: skip
        """VMotion. Returns the sentence that says what it has cost."""
        return self._done(requests.Move(next(self._numbers), name, address, rule, kind, verify), watch)

    def move_storage(
        self, name: str, datastore: str, method: MethodName = "changed blocks", watch: Watch = _nobody
    ) -> str:  # fmt: skip
        """Storage VMotion. Returns the sentence that says what it has cost. It goes on when we hang up."""
        return self._done(requests.MoveStorage(next(self._numbers), name, datastore, method), watch)

    def suspend(self, name: str) -> str:
        return self._done(requests.Suspend(next(self._numbers), name))

    def relocate(self, home: str, datastore: str, watch: Watch = _nobody) -> str:
        """Cold migration. It goes on when we hang up."""
        return self._done(requests.Relocate(next(self._numbers), home, datastore), watch)

    def move_folder(
        self, home: str, address: str, datastore: str, clone_name: str = "", watch: Watch = _nobody
    ) -> str:  # fmt: skip
        """Cold migration, or a clone, to a host that shares no datastore. It goes on when we hang up."""
        return self._done(requests.MoveFolder(next(self._numbers), home, address, datastore, clone_name), watch)

    def ask_folder(self, home: str, finish: bool = True, here: bool = False, address: str = "") -> str:
        """Where a machine is whose move to such a host was cut off."""
        return self._done(requests.AskFolder(next(self._numbers), home, finish, here, address))

    def clone(self, source: str, name: str, datastore: str, watch: Watch = _nobody) -> str:
        """Of a machine that is on, by its name, or off, by its file. It goes on when we hang up."""
        return self._done(requests.Clone(next(self._numbers), source, name, datastore), watch)

    def read(self, name: str, after: int = 0) -> tuple[bytes, int]:
        """What a machine has said after so many bytes, and how many it has said in all."""
        answer, body = self.ask(requests.Read(next(self._numbers), name, after))
        assert isinstance(answer, requests.Said)
        return body, answer.total

    def type(self, name: str, data: bytes) -> None:
        self._done(requests.Type(next(self._numbers), name, data))

    def quit(self) -> str:
        """The host's process ends."""
        return self._done(requests.Quit(next(self._numbers)))

    def _done(self, request: requests.Request, watch: Watch = _nobody) -> str:
        answer, _ = self.ask(request, watch)
        assert isinstance(answer, requests.Done)
        return answer.what

    def close(self) -> None:
        self._port.close()
