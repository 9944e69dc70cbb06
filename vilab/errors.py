"""Three families of errors: the guest's, the person's, ours."""

from __future__ import annotations

VECTOR_NAMES = {
    0: "#DE", 1: "#DB", 2: "NMI", 3: "#BP", 4: "#OF", 5: "#BR", 6: "#UD", 7: "#NM", 8: "#DF",
    10: "#TS", 11: "#NP", 12: "#SS", 13: "#GP", 14: "#PF", 16: "#MF", 17: "#AC", 18: "#MC", 19: "#XM",
}  # fmt: skip
"""Intel SDM volume 3, table 6-1."""

VECTORS_WITH_ERROR_CODE = frozenset({8, 10, 11, 12, 13, 14, 17})


class VilabError(Exception):
    """What every error of this package is. ``str()`` is one sentence for a person."""


class GuestFault(VilabError):
    """An exception that belongs to the guest: the monitor delivers it through the guest's IDT.

    Parameters
    ----------
    vector : 0 to 31.
    error_code : pushed by the processor for the vectors of ``VECTORS_WITH_ERROR_CODE``, else ``None``.
    address : for #PF the linear address that goes into CR2, else ``None``.
    why : the reason in a few words, for the log.
    """

    def __init__(self, vector: int, error_code: int | None = None, address: int | None = None, why: str = "") -> None:
        if error_code is None and vector in VECTORS_WITH_ERROR_CODE:
            error_code = 0
        self.vector = vector
        self.error_code = error_code
        self.address = address
        self.why = why
        super().__init__(vector, error_code, address, why)

    def __str__(self) -> str:
        name = VECTOR_NAMES.get(self.vector, f"vector {self.vector}")
        code = "" if self.error_code is None else f"({self.error_code:04x})"
        where = "" if self.address is None else f" at {self.address:08x}"
        return f"{name}{code}{where}" + (f": {self.why}" if self.why else "")


class AdminError(VilabError):
    """An error of the person at the controls. The sentence says what did not happen, why, and where to look."""


class GuestStopped(VilabError):
    """The guest cannot go on (triple fault, halted with interrupts off): its own doing, said in one sentence."""


class VmmBug(VilabError):
    """An invariant of the monitor broke. Never the guest's fault, never the person's."""
