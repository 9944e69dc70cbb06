"""The table of c-critical with the mock-up's values: for drawing, not for truth."""

from __future__ import annotations

from tests.view.sample_runs import CPU, GUEST
from vilab.view.critical import CriticalCell, CriticalResult

REGISTERS, PROTECTION = "read or write the machine's registers", "ask the machine about protection"
_ROWS = (
    ("sgdt [m]", REGISTERS, "c0398000", "ffc07000"), ("sidt [m]", REGISTERS, "c0397000", "ffc18000"),
    ("sldt ax", REGISTERS, "0000", "0058"), ("smsw ax", REGISTERS, "0033", "003b"),
    ("pushf", REGISTERS, "IF 0", "IF 1"), ("popf", REGISTERS, "IF 0", "IF 1"),
    ("lar eax,cx", PROTECTION, "00cf9b00", "ZF 0"), ("lsl eax,cx", PROTECTION, "ffffffff", "ZF 0"),
    ("verr cx", PROTECTION, "ZF 1", "ZF 0"), ("verw cx", PROTECTION, "ZF 1", "ZF 0"),
    ("pop ss", PROTECTION, "0068", "#GP"), ("push cs", PROTECTION, "0060", "0061"),
    ("call far", PROTECTION, "cs 0060", "#GP"), ("jmp far", PROTECTION, "cs 0060", "#GP"),
    ("ret far", PROTECTION, "cs 0060", "#GP"), ("int 0x80", PROTECTION, "gate 80", "#GP"),
    ("str ax", PROTECTION, "0080", "0040"), ("mov eax,cs", PROTECTION, "0060", "0061"),
)  # fmt: skip


def results() -> list[CriticalResult]:
    rows = []
    for text, category, expected, bare in _ROWS:
        traps = bare == "#GP"
        cells = {
            "deprivileged": CriticalCell(False, bare, guest=GUEST, cpu=CPU),
            "trap": CriticalCell(traps, expected if traps else bare, traps, guest=GUEST, cpu=CPU),
            "bt": CriticalCell(True, expected),
            "svm": CriticalCell(True, expected),
        }
        rows.append(CriticalResult(text.split()[0], text, category, expected, cells))
    return rows
