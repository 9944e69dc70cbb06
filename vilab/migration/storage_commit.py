"""The moment of a move from datastore to datastore: which of the two folders counts from now on.

::

    in the old folder     in the new folder
    web.vmx.copying       web.vmx.moving         ``stay``: web.vmx.staying, and the copy goes
    web.vmx.switching     web.vmx.moving         ``switch``, first half
    web.vmx.switching     web.vmx                ``switch``, second half: it has moved
                          no answer              withdrawn: it stays; there after all: it has moved; else ``Undecided``

What the names mean to somebody who finds them later is told by ``vilab.host.vm_move``.
"""

from __future__ import annotations

import contextlib

from vilab.errors import AdminError
from vilab.host.vm_home import VmHome
from vilab.host.vm_move import ArrivingHome, MoveRecord, clear_half_copy, forget_copy, go_on, write_record


class UndecidedError(AdminError):
    """Which of the two counts is written on a datastore that does not answer now."""


class Commitment:
    """Of one move. ``record``: what the old folder says of it, with the phase that it is in."""

    def __init__(self, source: VmHome, arriving: ArrivingHome, record: MoveRecord) -> None:
        self.source, self.arriving, self.record = source, arriving, record

    def begin(self) -> None:
        """From now on whoever finds the old folder knows of the new one."""
        write_record(self.source, self.record)

    def switch(self) -> None:
        """The machine is in the new folder from now on.

        Raises
        ------
        UndecidedError : whether it is cannot be found out now.
        AdminError, OSError : it is not, and never will be.
        """
        self.record = go_on(self.source, self.record, "switching")
        try:
            self.arriving.arrive()
        except (AdminError, OSError) as error:
            self._look_again(error)

    def _look_again(self, error: Exception) -> None:
        """Whether it has got its name is not known: see to it that it never will, or find that it has."""
        arriving = self.arriving
        try:
            arriving.withdraw()
        except (AdminError, OSError):
            try:
                arriving.arrived = arriving.has_arrived(self.record.number)
            except (AdminError, OSError):
                arriving.arrived = False
            if not arriving.arrived:
                raise UndecidedError(str(error)) from None
            return
        raise error

    def stay(self) -> None:
        """The machine stays: what there is of the copy goes, now or when it is powered on the next time. A record of
        redo logs stays until they are merged (``forget``)."""
        with contextlib.suppress(AdminError, OSError):
            self.record = go_on(self.source, self.record, "staying")
            if self.record.redo_logs:
                clear_half_copy(self.source.storage, self.record)
            else:
                forget_copy(self.source, self.record)

    def forget(self) -> None:
        """The redo logs are merged: the record goes, too."""
        forget_copy(self.source, self.record)
