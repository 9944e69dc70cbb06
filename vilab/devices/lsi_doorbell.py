"""The doorbell of a Fusion-MPT adapter: messages passed word by word through one register.

::

    driver                                        adapter
    DOORBELL <- handshake, n dwords ────────────> in use, doorbell interrupt
    INT_STATUS <- 0
    DOORBELL <- dword          (n times) ───────> carries the message out
              <────────────────────────────────── interrupt
    DOORBELL -> 16 bits, INT_STATUS <- 0 ───────> next 16 bits, interrupt        (until the reply is through)
              <────────────────────────────────── not in use any more, interrupt
    INT_STATUS <- 0

Task management may come this way too: its reply goes into a frame, and the doorbell is free, with an interrupt.
"""

from __future__ import annotations

import msgspec

MOST_DWORDS = 255


class DoorbellState(msgspec.Struct):
    """``expected``: dwords that are still to come; ``reply``: 16 bits each, the first one can be read now;
    ``seen``: it has been."""

    in_use: bool = False
    interrupt: bool = False
    expected: int = 0
    message: bytes = b""
    reply: list[int] = msgspec.field(default_factory=list)
    seen: bool = False


def begin(state: DoorbellState, dwords: int) -> None:
    """A handshake: one that was not finished is forgotten."""
    state.in_use, state.interrupt, state.expected = bool(dwords), True, dwords
    state.message, state.reply, state.seen = b"", [], False


def take(state: DoorbellState, dword: int) -> bool:
    """A dword of the message. True: that was the last one."""
    state.message += dword.to_bytes(4, "little")
    state.expected -= 1
    return state.expected == 0


def answer(state: DoorbellState, reply: bytes) -> None:
    state.reply = [int.from_bytes(reply[at : at + 2], "little") for at in range(0, len(reply), 2)]
    state.message, state.interrupt, state.seen = b"", True, False


def close(state: DoorbellState) -> None:
    """The message is answered elsewhere."""
    state.message, state.in_use, state.interrupt = b"", False, True


def read(state: DoorbellState) -> int:
    """The data bits."""
    if not state.reply:
        return 0
    state.seen = True
    return state.reply[0]


def acknowledge(state: DoorbellState) -> None:
    """A write of INT_STATUS."""
    state.interrupt = bool(state.reply)
    if state.reply and state.seen:
        del state.reply[0]
        state.seen = False
        state.interrupt = True
        state.in_use = bool(state.reply)
