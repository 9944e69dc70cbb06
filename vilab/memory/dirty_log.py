"""Which pages were written since: for whoever copies a machine's memory while it runs.

::

    traces      restart ──> every mapping read-only        the first write to each page faults once and is noted; the
                                                           next ones of the same round cost nothing
    dirty bits  restart ──> every Dirty bit cleared        the processor sets it at the first write, nobody hears of it;
                                                           whoever asks has to look at every table entry
                   └──> the pages written until now        the round's work

A page that loses its content (ballooned, freed) counts as written: it reads as zeros from now on. One that is shared,
swapped out, or moved to another frame does not: it reads the same.

Source: Clark et al. 2005, section 4 (dirty logging); Nelson et al. 2005 (a write trace a page).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt

from vilab.errors import VmmBug
from vilab.memory.managed_pmap import ManagedPmap

Pages = npt.NDArray[np.int64]
Method = Literal["traces", "dirty_bits"]


class DirtyLog:
    """Of one guest's pages, until ``stop``. Two at a time are a defect of the caller's (``VmmBug``).

    ``on_trace`` is called with the page of each write fault. ``traces``: how many there were since ``restart``.
    With Dirty bits ``AdminError`` is raised where the mappings have none, and nothing is noted.
    """

    def __init__(
        self, pmap: ManagedPmap, on_trace: Callable[[int], None] | None = None, method: Method = "traces"
    ) -> None:
        self.method = method
        if pmap.on_written is not None:
            raise VmmBug(f"The writes of virtual machine {pmap.vm_id} are being noted already.")
        if method == "dirty_bits":
            pmap.harvest()
        self._pmap, self._on_trace = pmap, on_trace
        self._written = np.zeros(pmap.pages, np.bool_)
        self.traces = 0
        pmap.on_written = self._note

    def _note(self, ppn: int) -> None:
        self._written[ppn] = True
        if self.method == "dirty_bits":
            return
        self.traces += 1
        if self._on_trace is not None:
            self._on_trace(ppn)

    @property
    def dirty_pages(self) -> int:
        """Different pages since ``restart``."""
        self._look()
        return int(np.count_nonzero(self._written))

    def is_dirty(self, ppns: Pages) -> npt.NDArray[np.bool_]:
        """Of each of these pages: was it written since ``restart``? Of Dirty bits those that were seen are known."""
        written: npt.NDArray[np.bool_] = self._written[ppns]
        return written

    def restart(self) -> Pages:
        """The pages written since the last time, ascending; from now on they are noted anew."""
        if self.method == "dirty_bits":
            self._look()
        found = np.flatnonzero(self._written)
        self._written[:] = False
        self.traces = 0
        if self.method == "traces":
            self._pmap.trace_writes()
        return found

    def _look(self) -> None:
        """Take the Dirty bits that are set by now."""
        if self.method == "dirty_bits":
            self._written[self._pmap.harvest()] = True

    def stop(self) -> Pages:
        """The pages written since ``restart``; no more are noted."""
        self._look()
        self._pmap.on_written = None
        if self.method == "traces":
            self._pmap.stop_tracing()
        else:
            self._pmap.stop_harvest()
        return np.flatnonzero(self._written)
