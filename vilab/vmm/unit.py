"""A translation unit and its compiled code fragment, as records.

::

    guest                        translation cache
    TU  8b 44 24 08              CCF  8b 44 24 08              line: ident
        fa                            36 c7 05 ... 00 00 00 00  line: in cache
        0f 22 d8                      cc                        line: callout
        74 0e                         0f 84 -> stub             line: control
                                      cc 90 90 90 90            continuation: fall-through
                                 stub cc                        continuation: taken
"""

from __future__ import annotations

from vilab.x86.decode import Instruction

IDENT, IN_CACHE, CALLOUT, CONTROL = "ident", "in_cache", "callout", "control"

Line = tuple[int, int, str, int, int]
"""(guest address, length, kind, address in the cache, length there)"""


class Unit:
    """One TU and its CCF.

    ``eip`` and ``end_eip`` bound the guest's code, ``source`` are its bytes, ``start`` and ``end`` the fragment.
    ``pages`` are the (vpn, ppn) it was read from. ``incoming`` are the continuations patched to jump here,
    ``falls_from`` the one whose stub this fragment took the place of. ``shadows`` are the places in the cache where no
    interrupt is taken, because STI or a load of SS comes just before. ``mode`` is the translator's. ``forwarded``: the
    fragment that this one's first bytes jump to since it was translated anew, and the bytes that stood there.
    ``calls``: it ends with a CALL, which will return to ``end_eip``.
    """

    __slots__ = ("calls", "continuations", "eip", "end", "end_eip", "falls_from", "forwarded", "incoming", "lines",
                 "mode", "pages", "preludes", "shadows", "source", "start", "valid")  # fmt: skip

    def __init__(self, eip: int, start: int, mode: object = None) -> None:
        self.eip = eip
        self.mode = mode
        self.end_eip = eip
        self.start = start
        self.end = start
        self.source = b""
        self.lines: list[Line] = []
        self.pages: list[tuple[int, int]] = []
        self.continuations: list[Continuation] = []
        self.incoming: list[Continuation] = []
        self.falls_from: Continuation | None = None
        self.forwarded: tuple[Unit, bytes] | None = None
        self.preludes: dict[int, int] = {}
        self.shadows: list[int] = []
        self.calls = False
        self.valid = True

    def __repr__(self) -> str:
        return f"<Unit {self.eip:08x} at {self.start:08x}, {len(self.lines)} instructions>"


class Continuation:
    """An exit of a fragment that has not been taken yet, or has been chained.

    ``stub`` is the address of its INT3; ``patch_at`` what is rewritten when the target is known: the Jcc itself
    (``condition`` 0 to 15), or with ``condition`` -1 the stub, which becomes a JMP.
    """

    __slots__ = ("condition", "kind", "patch_at", "stub", "target", "to", "unit")

    def __init__(self, unit: Unit, kind: str, target: int, stub: int, patch_at: int, condition: int = -1) -> None:
        self.unit = unit
        self.kind = kind
        self.target = target
        self.stub = stub
        self.patch_at = patch_at
        self.condition = condition
        self.to: Unit | None = None


class Callout:
    """An INT3 inside a fragment: the monitor carries out ``instruction``; the fragment goes on right behind it.

    ``ends``: nothing comes behind, the unit is over. ``popped``: the slow way of the in-cache POPF, which has
    moved ESP. ``simulated``: an ordinary store that has hit traced pages too often.
    """

    __slots__ = ("ends", "instruction", "popped", "simulated", "unit")

    def __init__(
        self, unit: Unit, instruction: Instruction, ends: bool = False, popped: bool = False, simulated: bool = False
    ) -> None:
        self.unit = unit
        self.instruction = instruction
        self.ends = ends
        self.popped = popped
        self.simulated = simulated


class Miss:
    """An INT3 that ends a failed table lookup. ``table``: 0 returns, 1 indirect jumps. ``popped``: ESP has moved on."""

    __slots__ = ("popped", "table")

    def __init__(self, table: int, popped: bool) -> None:
        self.table = table
        self.popped = popped
