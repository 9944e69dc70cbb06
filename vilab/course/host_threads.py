"""Hosts that run beside each other in one virtual time: each is a plain function, and waits where it has to.

::

    virtual time   0 ─────────────────────────────────────────────────────────────>
    esx1           mount ▌wait▐ lock ▌wait▐ write ✕           a thread that moves only when it is its turn
    esx2                 mount ▌ wait           ▐ lock ...    whoever is due next, moves; the others stand still

What a host does between two waits takes no time and is done by it alone, so that the same functions give the same run,
command for command. A host that is switched off does nothing any more: its next command, or its waiting, ends in
``PowerLost``, which goes up through all that it was doing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from vilab.clock import NEVER_NS, VirtualClock
from vilab.errors import VmmBug
from vilab.storage.vmfs.time import VIRTUAL_EPOCH_S


class PowerLost(BaseException):
    """This host has no power. Not an ``Exception``: nobody who means errors shall catch it."""


class HostThread:
    """One host, and the ``Clock`` that it goes by.

    ``fuse``: so many more commands, then the power is lost; ``None``: it stays.
    """

    def __init__(self, name: str, clock: VirtualClock, work: Callable[[HostThread], None]) -> None:
        self.name, self.clock = name, clock
        self.dead = False
        self.fuse: int | None = None
        self.failure: BaseException | None = None
        self.on_death: Callable[[], None] = lambda: None
        self._go, self._parked = threading.Semaphore(0), threading.Semaphore(0)
        self._work = work
        self._thread = threading.Thread(target=self._run, name=f"vilab {name}", daemon=True)

    @property
    def now_ns(self) -> int:
        return self.clock.now_ns

    def unix_s(self) -> int:
        return VIRTUAL_EPOCH_S + self.clock.now_ns // 1_000_000_000

    def wait(self, for_ns: int) -> None:
        """The others go on until then."""
        if self.dead:
            raise PowerLost
        self.clock.at(self.clock.now_ns + max(0, for_ns), self._turn)
        self._parked.release()
        self._go.acquire()
        if self.dead:
            raise PowerLost

    def command(self, takes_ns: int) -> None:
        """A command to a disk is about to be sent; it is carried out at the end of the time that it takes."""
        if self.fuse == 0:
            self.die()
        if self.fuse is not None:
            self.fuse -= 1
        self.wait(takes_ns)

    def die(self) -> None:
        """Now, in the middle of what it does. Called by the host's own thread."""
        if not self.dead:
            self.dead = True
            self.on_death()
        raise PowerLost

    def begin(self) -> None:
        self.clock.at(self.clock.now_ns, self._first_turn)

    def _first_turn(self) -> None:
        self._thread.start()
        self._turn()

    def _turn(self) -> None:
        self._go.release()
        self._parked.acquire()

    def _run(self) -> None:
        self._go.acquire()
        try:
            self._work(self)
        except PowerLost:
            pass
        except BaseException as error:
            self.failure = error
        finally:
            self._parked.release()


def run(clock: VirtualClock, hosts: list[HostThread], most_turns: int = 1_000_000) -> None:
    """Until nobody waits any more. What a host's function raises is raised here."""
    for host in hosts:
        host.begin()
    for _ in range(most_turns):
        if clock.next_ns() >= NEVER_NS:
            return
        clock.skip_to_next()
        clock.run_due()
        for host in hosts:
            if host.failure is not None:
                raise host.failure
    raise VmmBug(f"Hosts have gone on for {most_turns} turns without coming to an end.")
