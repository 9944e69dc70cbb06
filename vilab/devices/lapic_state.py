"""One local APIC as a record, as firmware leaves it behind: enabled, as a virtual wire."""

from __future__ import annotations

import msgspec

from vilab.devices.lapic_registers import (
    BASE,
    BASE_BSP,
    BASE_ENABLE,
    EXTINT,
    MASKED,
    MODE_SHIFT,
    NMI,
    SVR_ENABLE,
)


def _lvt_at_power_on() -> list[int]:
    return [MASKED, MASKED, MASKED, EXTINT << MODE_SHIFT, NMI << MODE_SHIFT, MASKED]


class LapicState(msgspec.Struct):
    """One local APIC. ``isr``, ``tmr`` and ``irr`` as 32 bytes, vector 0 in bit 0 of the first.

    The timer stood at ``left`` when it was ``started_ns``. ``errors``: not yet in ESR.
    """

    number: int = 0
    apic_base: int = BASE | BASE_ENABLE | BASE_BSP
    tpr: int = 0
    ldr: int = 0
    dfr: int = 0xFFFF_FFFF
    svr: int = SVR_ENABLE | 0xFF
    isr: bytes = bytes(32)
    tmr: bytes = bytes(32)
    irr: bytes = bytes(32)
    esr: int = 0
    errors: int = 0
    icr_low: int = 0
    icr_high: int = 0
    lvt: list[int] = msgspec.field(default_factory=_lvt_at_power_on)
    initial: int = 0
    divide: int = 0
    left: int = 0
    started_ns: int = 0
    timer_at_ns: int | None = None
    wire: bool = False
