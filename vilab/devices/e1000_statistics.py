"""Statistics registers of the 82545EM: what is counted for a frame, on either way.

::

    received       TPR, TORL and TORH    every frame that comes, whoever it is for
                   GPRC, GORC, PRC, BPRC, MPRC                 those that the filter lets through
    transmitted    TPT, TOT, GPTC, GOTC, PTC, BPTC, MPTC

Bytes include the FCS. Counters of 32 bits stay at their end, a read clears; those of 64 bits, in two registers, are
cleared with their upper half. Source: the manual's 13.7.
"""

from __future__ import annotations

FCS_BYTES = 4
RXERRC, MPC, RNBC, RUC, ROC, TSCTC, TSCTFC = 0x400C, 0x4010, 0x40A0, 0x40A4, 0x40AC, 0x40F8, 0x40FC
PRC64, GPRC, BPRC, MPRC, GORCL, TORL, TPR = 0x405C, 0x4074, 0x4078, 0x407C, 0x4088, 0x40C0, 0x40D0
PTC64, GPTC, MPTC, BPTC, GOTCL, TOTL, TPT = 0x40D8, 0x4080, 0x40F0, 0x40F4, 0x4090, 0x40C8, 0x40D4
LONG_COUNTERS = (GORCL, GOTCL, TORL, TOTL)
_SIZES = (64, 127, 255, 511, 1023)
_MOST, _MOST_LONG = (1 << 32) - 1, (1 << 64) - 1
BROADCAST = b"\xff" * 6

Counters = dict[int, int]


def count(counters: Counters, register: int, by: int = 1) -> None:
    most = _MOST_LONG if register in LONG_COUNTERS else _MOST
    counters[register] = min(counters.get(register, 0) + by, most)


def read(counters: Counters, register: int) -> int:
    """And clear."""
    if register in LONG_COUNTERS:
        return counters.get(register, 0) & _MOST
    if register - 4 in LONG_COUNTERS:
        return counters.pop(register - 4, 0) >> 32
    return counters.pop(register, 0)


def came(counters: Counters, frame: bytes) -> None:
    """Any frame."""
    count(counters, TPR)
    count(counters, TORL, len(frame) + FCS_BYTES)


def was_good(counters: Counters, frame: bytes) -> None:
    """One that was let through."""
    _good(counters, frame, GPRC, GORCL, PRC64, BPRC, MPRC)


def went(counters: Counters, frame: bytes | bytearray) -> None:
    count(counters, TPT)
    count(counters, TOTL, len(frame) + FCS_BYTES)
    _good(counters, frame, GPTC, GOTCL, PTC64, BPTC, MPTC)


def _good(
    counters: Counters, frame: bytes | bytearray, packets: int, bytes_low: int, sizes: int, broadcast: int, group: int
) -> None:
    size = len(frame) + FCS_BYTES
    count(counters, packets)
    count(counters, bytes_low, size)
    count(counters, sizes + 4 * next((n for n, most in enumerate(_SIZES) if size <= most), len(_SIZES)))
    if frame[:6] == BROADCAST:
        count(counters, broadcast)
    elif frame[0] & 1:
        count(counters, group)
