"""What an initiator waits for: commands, task management, answers to questions."""

from __future__ import annotations

from vilab.protocols import ReadableBytes
from vilab.storage.iscsi.text import TextCollector
from vilab.storage.scsi.request import Response

MAX_ANSWER_BYTES = 1 << 20
MAX_ANSWER_KEYS = 4096


class Command:
    """A SCSI command under way. ``response`` is there when it is done; ``aborted``: there will be none."""

    __slots__ = (
        "aborted",
        "cdb",
        "cmd_sn",
        "data_in",
        "data_in_bytes",
        "data_out",
        "lun",
        "response",
        "sent_bytes",
        "tag",
    )

    def __init__(self, tag: int, lun: int, cdb: bytes, data_out: ReadableBytes, data_in_bytes: int) -> None:
        self.tag = tag
        self.lun = lun
        self.cdb = cdb
        self.data_out = memoryview(data_out).cast("B")
        self.data_in = bytearray()
        self.data_in_bytes = data_in_bytes
        self.cmd_sn = 0
        self.sent_bytes = 0
        self.response: Response | None = None
        self.aborted = False

    @property
    def done(self) -> bool:
        return self.response is not None or self.aborted


class Management:
    """A task management function under way. ``result``: of RFC 7143, 11.6.1."""

    __slots__ = ("result",)

    def __init__(self) -> None:
        self.result: int | None = None

    @property
    def done(self) -> bool:
        return self.result is not None


class Question:
    """A text negotiation, a NOP or a logout under way."""

    __slots__ = ("answer", "collector")

    def __init__(self) -> None:
        self.answer: list[tuple[str, str]] | None = None
        self.collector = TextCollector(MAX_ANSWER_BYTES, MAX_ANSWER_KEYS)

    @property
    def done(self) -> bool:
        return self.answer is not None
