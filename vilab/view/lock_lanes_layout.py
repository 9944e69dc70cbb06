"""Where things stand in ``lock_lanes``: time on x, hosts and the sectors of the LUN as rows."""

from __future__ import annotations

from vilab.view import lock_wire
from vilab.view.lock_frame import SECOND_NS, LockStory

LEFT, RIGHT = 136.0, 900.0
TOP, LANE, ROW, GAP = 24.0, 56.0, 21.0, 6.0


class Layout:
    """Where things stand; the same for every step of one story."""

    def __init__(self, story: LockStory) -> None:
        self.story = story
        self.seconds = max(10.0, -(-story.end_ns // (5 * SECOND_NS)) * 5.0)
        self.rows = len(story.paths) + 3
        self.lun = TOP + LANE + GAP
        self.lun_end = self.lun + self.rows * ROW + 10
        self.below = self.lun_end + GAP
        self.wire = self.below + LANE + 30
        self.height = self.wire + lock_wire.ROWS * lock_wire.PITCH

    def x(self, at_ns: float) -> float:
        return LEFT + (RIGHT - LEFT) * at_ns / SECOND_NS / self.seconds

    def lane(self, host: str) -> float:
        return TOP if host == self.story.hosts[0] else self.below

    def path(self, host: str) -> float:
        return self.lane(host) + 42

    def row(self, number_: int) -> float:
        """0: reserved; 1: slot 0; files; last: slot 1."""
        return self.lun + 5 + ROW * number_

    def slot_row(self, slot: int) -> float:
        return self.row(1 if slot == 0 else self.rows - 1)

    def file_row(self, at: int) -> float:
        return self.row(2 + at)
