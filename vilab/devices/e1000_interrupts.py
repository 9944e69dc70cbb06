"""When the 82545EM interrupts: causes, the mask, and three kinds of delay.

::

    frame stored ──RDTR──> moved on by each frame ──┬──> RXT0        descriptor with "delay" ──TIDV──┬──> TXDW
                   RADV──> moved on by nothing ─────┘                                        TADV────┘
    ICR ── IMS ──> the pin goes high, but not sooner than ITR after it last did so

Source: the manual's 13.4.17 to 13.4.21 (causes, throttling), 13.4.30, 13.4.31, 13.4.41, 13.4.44 (delays).
"""

from __future__ import annotations

from vilab.devices.e1000_registers import DELAY_NS, ITR, RADV, RDTR, RXT0, TADV, THROTTLE_NS, TIDV, TXDW
from vilab.devices.e1000_state import E1000State


def waits(s: E1000State) -> bool:
    """Is there a cause that the mask lets through?"""
    return bool(s.causes & s.mask)


def throttle(s: E1000State, now_ns: int) -> None:
    """The pin has gone high."""
    s.quiet_ns = now_ns + s.registers[ITR] * THROTTLE_NS


def deadlines(s: E1000State) -> tuple[int, ...]:
    """When something is to be done here; 0: nothing is."""
    throttled_ns = s.quiet_ns if waits(s) and not s.line else 0
    return throttled_ns, s.received_ns, s.received_latest_ns, s.sent_ns, s.sent_latest_ns


def received(s: E1000State, now_ns: int) -> None:
    """Frames are in memory."""
    if not s.registers[RDTR]:
        s.causes |= RXT0
        return
    s.received_ns = now_ns + s.registers[RDTR] * DELAY_NS
    if s.registers[RADV] and not s.received_latest_ns:
        s.received_latest_ns = now_ns + s.registers[RADV] * DELAY_NS


def sent(s: E1000State, now_ns: int) -> None:
    """Descriptors are done that let their interrupt be delayed."""
    s.sent_ns = now_ns + s.registers[TIDV] * DELAY_NS
    if s.registers[TADV] and not s.sent_latest_ns:
        s.sent_latest_ns = now_ns + s.registers[TADV] * DELAY_NS


def flush(s: E1000State, of_receiver: bool) -> None:
    """What is delayed comes now."""
    if of_receiver and s.received_ns:
        s.received_ns = s.received_latest_ns = 0
        s.causes |= RXT0
    elif not of_receiver and s.sent_ns:
        s.sent_ns = s.sent_latest_ns = 0
        s.causes |= TXDW


def expire(s: E1000State, now_ns: int) -> None:
    """Delays that are over become causes."""
    if any(0 < at_ns <= now_ns for at_ns in (s.received_ns, s.received_latest_ns)):
        flush(s, of_receiver=True)
    if any(0 < at_ns <= now_ns for at_ns in (s.sent_ns, s.sent_latest_ns)):
        flush(s, of_receiver=False)
