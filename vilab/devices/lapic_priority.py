"""Which interrupt goes first, and which has to wait: IRR, ISR and TMR of a local APIC; who a message is for.

::

    IRR ──highest──> its class > PPR's? ──yes──> INTR ──INTA──> ISR ──EOI──> gone (level: the IOAPIC is told)
    PPR = TPR, or the class of the highest vector in ISR, whichever is higher

A vector's class is its upper four bits. Source: Intel SDM volume 3, sections 10.6.2 and 10.8.
"""

from __future__ import annotations


class Requests:
    """256 vectors, requested, in service and level triggered: bit n of each number is vector n."""

    __slots__ = ("irr", "isr", "tmr")

    def __init__(self) -> None:
        self.isr = self.tmr = self.irr = 0

    def request(self, vector: int, level: bool) -> None:
        bit = 1 << vector
        self.irr |= bit
        self.tmr = self.tmr | bit if level else self.tmr & ~bit

    def processor_priority(self, tpr: int) -> int:
        in_service = self.isr.bit_length() - 1
        if in_service < 0 or tpr >> 4 >= in_service >> 4:
            return tpr
        return in_service & 0xF0

    def deliverable(self, tpr: int) -> int:
        """The vector that would interrupt now, or -1."""
        vector = self.irr.bit_length() - 1
        return vector if vector >> 4 > self.processor_priority(tpr) >> 4 else -1

    def take(self, vector: int) -> None:
        """INTA: from requested to in service."""
        self.irr &= ~(1 << vector)
        self.isr |= 1 << vector

    def end(self) -> int:
        """EOI. The vector if it was level triggered, else -1."""
        vector = self.isr.bit_length() - 1
        if vector < 0:
            return -1
        self.isr &= ~(1 << vector)
        return vector if self.tmr >> vector & 1 else -1


def is_addressed(destination: int, logical: bool, number: int, ldr: int, dfr: int) -> bool:
    """Is a message to ``destination`` for the APIC with this number, logical number and model of logical numbers?"""
    if not logical:
        return destination in (number, 0xFF)
    own = ldr >> 24
    if dfr >> 28 == 0xF:
        return bool(destination & own)
    return destination == 0xFF or (destination >> 4 == own >> 4 and bool(destination & own & 0xF))
