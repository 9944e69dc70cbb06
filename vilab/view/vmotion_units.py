"""How a migration's quantities are written, once for the picture, the panels and the text twin.

Sizes count memory: 1 MB is 1,048,576 bytes, 256 pages. Rates count what a link carries: 1 Mb/s is 1,000,000 bits a
second. Both are what the field says; 1 MB in a second is 8.4 Mb/s.
"""

from __future__ import annotations

from vilab.view.vmotion_seen import PAGE_BYTES, Migration
from vilab.view.words import NBSP

_SIZES = (("KB", 1024), ("MB", 1024**2), ("GB", 1024**3), ("TB", 1024**4))
_RATES = (("kb/s", 1e3), ("Mb/s", 1e6), ("Gb/s", 1e9), ("Tb/s", 1e12))
_TIMES = (("ns", 1.0), ("µs", 1e3), ("ms", 1e6), ("s", 1e9))


def size_unit(most_bytes: float) -> tuple[str, int]:
    """The unit for sizes up to that: name and bytes."""
    return next((each for each in reversed(_SIZES) if most_bytes >= each[1]), _SIZES[0])


def size(size_bytes: float) -> str:
    """``676.8 MB``, ``4.0 KB``, ``148 KB``"""
    name, unit = size_unit(size_bytes)
    return f"{in_unit(size_bytes, unit)}{NBSP}{name}"


def unit_of(seen: Migration) -> tuple[str, int]:
    """The one unit for all rounds: the largest of which the largest round is ten or more."""
    most = max((each.due_bytes for each in seen.rounds), default=seen.memory_bytes)
    return size_unit(most / 10)


def amount(size_bytes: float, unit: tuple[str, int]) -> str:
    """With that unit; with a smaller one of its own where nothing would be left of it: a tenth of a GB is coarse."""
    name, one = unit
    if 0 < size_bytes < one * (0.95 if one >= 1024**3 else 0.095):
        return size(size_bytes)
    return f"{in_unit(size_bytes, one)}{NBSP}{name}"


def memory(size_bytes: int) -> str:
    """``800 MB``: of what is configured, without a decimal where there is nothing behind it."""
    name, unit = size_unit(size_bytes)
    return size(size_bytes) if size_bytes % unit else f"{size_bytes // unit:,}{NBSP}{name}"


def in_unit(size_bytes: float, unit: int) -> str:
    """One decimal, but none for hundreds of KB."""
    amount = size_bytes / unit
    return f"{amount:,.0f}" if not amount or (unit == 1024 and amount >= 99.95) else f"{amount:,.1f}"


def square(unit_bytes: int) -> str:
    """What one square is: ``1 MB sent``, ``4 KB sent, a page``."""
    name, unit = size_unit(unit_bytes)
    return f"{unit_bytes // unit}{NBSP}{name} sent" + (", a page" if unit_bytes == PAGE_BYTES else "")


def rate_unit(most_bits_per_s: float) -> tuple[str, float]:
    return next((each for each in reversed(_RATES) if most_bits_per_s >= each[1]), _RATES[0])


def rate(bytes_per_s: float) -> str:
    """``294 Mb/s``, ``1.2 Gb/s``"""
    bits = bytes_per_s * 8
    name, unit = rate_unit(bits)
    amount = bits / unit
    return f"{amount:,.1f}{NBSP}{name}" if amount < 9.95 else f"{amount:,.0f}{NBSP}{name}"


def time(ns: float) -> str:
    """``201 ms``, ``71.0 s``, ``9.0 ms``, ``340 µs``"""
    name, unit = next((each for each in reversed(_TIMES) if ns >= each[1] * 0.9995), _TIMES[0])
    amount = ns / unit
    if name == "s" or amount < 9.95:
        return f"{amount:,.1f}{NBSP}{name}" if amount else f"0{NBSP}s"
    return f"{amount:,.0f}{NBSP}{name}"
