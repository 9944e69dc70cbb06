"""Questions about a host's memory, judged by the step that follows: it is run when a choice has arrived, and recorded,
but not shown before Step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vilab.memory import memory_events as events
from vilab.view.memory_frame import MemoryFrame
from vilab.view.memory_grid import size
from vilab.view.memory_says import touched_since
from vilab.view.memory_track import MemoryTrack
from vilab.view.predict import NextStep, Prediction, step_questions
from vilab.view.words import counted, grouped

Question = NextStep[MemoryFrame]


def asked(track: MemoryTrack, questions: Mapping[int, Question]) -> Callable[[int], Prediction | None]:
    """For a player: the position before which a question stands."""
    return step_questions(questions, lambda _: (track.frame, track.peek()))


def freed(before: MemoryFrame, after: MemoryFrame) -> int:
    return after.free_pages - before.free_pages


def given(before: MemoryFrame, after: MemoryFrame) -> int:
    """Frames that guests hold more than before."""
    return _held(after) - _held(before)


def _held(frame: MemoryFrame) -> int:
    return sum(vm.private for vm in frame.vms) + frame.sharing.shared_frames


def copied(before: MemoryFrame, after: MemoryFrame) -> int:
    return sum(1 for each in after.events if isinstance(each, events.SharingBroken) and each.mpn != each.from_mpn)


def cost_percent(before: MemoryFrame, after: MemoryFrame) -> int:
    """Frames for every 100 pages of the guests that have come."""
    new = [vm for vm in after.vms if before.vm_of(vm.vm_id) is None]
    return 100 * given(before, after) // sum(vm.pages - vm.untouched for vm in new)


def left_percent(before: MemoryFrame, after: MemoryFrame) -> int:
    """Frames that came free for every 100 pages of the guests that have gone."""
    gone = [vm for vm in before.vms if after.vm_of(vm.vm_id) is None]
    return -100 * given(before, after) // sum(vm.pages - vm.untouched for vm in gone)


def saved_percent(before: MemoryFrame, after: MemoryFrame) -> int:
    """Of the pages that were ever touched, how many need no frame of their own."""
    touched = sum(vm.pages - vm.untouched for vm in after.vms)
    return 100 * after.sharing.saved_frames // touched


UNTIL_TOUCHED: Mapping[int, Question] = {
    0: Question(
        "vm1, configured with 24 MB, is switched on and boots. How much of the machine will it have taken then, its "
        "monitor aside?",
        ("Less than 1 MB.", "1 to 12 MB.", "More than half of it.", "All 24 MB: they were promised."),
        (256, 12 * 256, 20 * 256), given,
        lambda n: f"{counted(n, 'page')}, {size(n)}: what its kernel has touched. The rest has no frame yet.",
    ),
    3: Question(
        "A program in vm1 asks its kernel for 1,500 pages and only reads them. All are zero. How many frames more?",
        ("None: there is nothing to store.", "One, a page of zeros for all.", "About 750.", "About 1,500."),
        (1, 700, 1400), given,
        lambda n: f"{counted(n, 'frame')}. The first access takes a frame, and here a read is as good as a write.",
    ),
    7: Question(
        "vm2's program has ended; its kernel counts 1,500 pages as free again. How many of them has the host got?",
        ("All of them.", "About half.", "None."),
        (-1400, -100), lambda before, after: -freed(before, after),
        lambda n: "None. Nobody has told the host, and the kernel's list of free pages is nothing that it can see.",
    ),
    9: Question(
        "Another program in vm2, 1,000 pages. How many pages of vm2 are touched for the first time?",
        ("None, or next to none.", "About 500.", "About 1,000."), (100, 800), lambda b, a: touched_since(a, b),
        lambda n: f"{grouped(n)}. Its kernel hands out pages that it has used before; the host sees no difference.",
    ),
    14: Question(
        "vm1 is switched off. How much of the machine is free again?",
        ("Nothing: it might come back.", "The pages that it had touched.", "These, and its monitor.",
         "All that it was configured with."),
        (256, 2000, 20 * 256), freed,
        lambda n: f"{size(n)}: every page that it had touched, and the monitor.",
    ),
}  # fmt: skip

TWINS: Mapping[int, Question] = {
    0: Question(
        "vm2 and vm3 are made from vm1, the same to the last byte, and a second passes in which the scanner looks at "
        "4,000 random pages. How many frames have the two clones cost by then?",
        ("None: they are equal to vm1.", "Up to a quarter of their pages.", "A quarter to three quarters.", "More."),
        (1, 25, 75), cost_percent,
        lambda n: f"{n} frames for every 100 of their pages. That two pages are equal has to be found, one by one.",
    ),
    5: Question(
        "Five seconds, 20,000 random looks. Of all pages that were ever touched, how many will need no frame of their "
        "own after one second more?",
        ("Less than 20 %.", "20 to 45 %.", "45 to 66 %.", "More: two thirds and above."), (20, 45, 67), saved_percent,
        lambda n: f"{n} %. Of three equal guests no more than two thirds can be saved, and some pages are rewritten.",
    ),
    9: Question(
        "vm3 is switched off. It has touched as many pages as the others. How many frames of guest memory come free?",
        ("None.", "Less than a third as many.", "A third to two thirds.", "As many as it has touched."),
        (1, 33, 67), left_percent,
        lambda n: f"{n} for every 100 pages: those that it had to itself. The others still read the rest.",
    ),
    11: Question(
        "Now vm1, from which all were made, is switched off. What becomes of the pages that vm2 shares with it?",
        ("They are copied to vm2 first.", "Nothing is copied: vm2 reads on."), (1,),
        lambda before, after: 0 if copied(before, after) > 100 else 1,
        lambda n: "A shared frame belongs to nobody. It goes when its last reader goes.",
    ),
}  # fmt: skip
