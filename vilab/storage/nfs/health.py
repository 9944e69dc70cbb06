"""Is the server there? GETATTR of the export's root, again and again.

::

                max_failures in a row without an answer
    active ──────────────────────────────────────────────> inactive (all paths down)
           <──────────────────────────────────────────────
                one answer

    every frequency: | heard of it less than delta ago: nothing | else GETATTR, at most timeout |

While inactive, disks say *away* at once instead of waiting for every request; a timed disk asks again until it is
answered or the guest gives up, so that the guest sees a disk that takes long, as under ESX.

Source: VMware KB 1007909 for what the settings mean. MODEL: their values in ESX 3 are from memory.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from vilab.clock import Timer, VirtualClock
from vilab.events import EventLog
from vilab.storage.nfs.client import NfsClient
from vilab.storage.nfs.errors import NfsError
from vilab.storage.nfs.events import NfsDatastoreActive, NfsDatastoreInactive, NfsHeartbeatMissed

State = Literal["active", "inactive"]


class HeartbeatSettings(msgspec.Struct, frozen=True):
    """NFS.HeartbeatFrequency, .HeartbeatDelta, .HeartbeatTimeout, .HeartbeatMaxFailures.

    The timeout is of this machine's own time: the server is a real one, or answers at once.
    """

    frequency_ns: int = 9_000_000_000
    delta_ns: int = 5_000_000_000
    timeout_s: float = 5.0
    max_failures: int = 3


class Health:
    """Watches one export."""

    def __init__(
        self, name: str, client: NfsClient, clock: VirtualClock, settings: HeartbeatSettings, log: EventLog | None
    ) -> None:
        self.name, self.client, self.clock, self.settings, self.log = name, client, clock, settings, log
        self.state: State = "active"
        self.failures = 0
        self.why = ""
        self._heard_ns = clock.now_ns
        self._inactive_ns = 0
        self._timer: Timer | None = None

    def start(self) -> None:
        """From now on, a beat every ``frequency_ns`` of virtual time."""
        if self._timer is None:
            self._timer = self.clock.at(self.clock.now_ns + self.settings.frequency_ns, self._due)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        self._timer = None
        self.beat()
        self.start()

    def heard(self) -> None:
        """Any answer of the server counts."""
        self.failures, self._heard_ns = 0, self.clock.now_ns
        if self.state == "inactive":
            self.state = "active"
            if self.log is not None and self.log.active:
                now_ns = self.clock.now_ns
                self.log.emit(NfsDatastoreActive(now_ns, self.name, now_ns - self._inactive_ns))

    def check(self) -> None:
        """``NfsError`` while the datastore is inactive."""
        if self.state == "inactive":
            raise NfsError("away", f"Datastore {self.name} is inactive: {self.why}")

    def beat(self) -> None:
        """Ask, if it is time to."""
        heard = self.state == "active" and not self.failures
        if heard and self.clock.now_ns - self._heard_ns < self.settings.delta_ns:
            return
        try:
            self.client.getattr(self.client.root, "the export", timeout_s=self.settings.timeout_s)
        except NfsError as error:
            self._missed(str(error))
        else:
            self.heard()

    def _missed(self, why: str) -> None:
        self.failures += 1
        self.why = why
        says = self.log is not None and self.log.active
        if says:
            assert self.log is not None
            self.log.emit(NfsHeartbeatMissed(self.clock.now_ns, self.name, self.failures, why))
        if self.state == "active" and self.failures >= self.settings.max_failures:
            self.state, self._inactive_ns = "inactive", self.clock.now_ns
            if says:
                assert self.log is not None
                self.log.emit(NfsDatastoreInactive(self.clock.now_ns, self.name, why))
