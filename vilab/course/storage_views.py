"""The pictures of lessons 12 and 13. Needs Jupyter."""

from __future__ import annotations

from vilab.course.disk_time import AtOnce
from vilab.course.one_write import DISK_MB, OneWrite
from vilab.course.predictions_storage import story_questions
from vilab.course.snapshot_runs import ChainCosts, story
from vilab.view.chain_cost import ChainCostTrack
from vilab.view.disk_map import DiskTrack
from vilab.view.disk_run import DiskRun
from vilab.view.disk_statistics import DiskStatisticsTrack
from vilab.view.playback import Playback
from vilab.view.predict import Prediction, measured
from vilab.view.widget import Player
from vilab.view.write_path_track import WritePathTrack


def disk_map(question: str, run: DiskRun | None = None, ask: bool = False, rows: int = 3) -> Player:
    """A disk and its redo logs, a deed a step; without ``run``, the story of the lesson."""
    run = run or story()
    return Player(Playback(DiskTrack(run, question, rows), story_questions(run) if ask else None))


def chain_costs(question: str, most: int = 8, ask: bool = True) -> Player:
    """A snapshot a step, measured; the last step deletes them all."""
    track = ChainCostTrack(ChainCosts(most), question, "one pass over 8 MB")
    return Player(Playback(track, track.ask if ask else None))


def walk(view: Player, first: int = 0, last: int | None = None) -> str:
    """The text twins from one step to another, numbered. The view stays where it is."""
    track = view.playback.track
    assert isinstance(track, DiskTrack | ChainCostTrack | WritePathTrack | DiskStatisticsTrack)
    last = track.total if last is None else min(last, track.total)
    for position in range(last + 1):
        track.go(position)
    return "\n".join(f"{position:3}  {track.describe(position)}" for position in range(first, last + 1))


def one_write(question: str, run: OneWrite | None = None, ask: bool = False) -> Player:
    """One line of text on its way to the LUN, an event a step."""
    track = WritePathTrack(run or OneWrite(), question)
    return Player(Playback(track, track.ask if ask else None))


def same_write(view: Player, question: str) -> Player:
    """Another view of the same run."""
    track = view.playback.track
    assert isinstance(track, WritePathTrack)
    again = WritePathTrack(track.source, question)
    return Player(Playback(again))


def disk_time(question: str, run: OneWrite, ask: bool = False) -> Player:
    """What the guest's disk did meanwhile, a request a step."""
    track = DiskStatisticsTrack(run.requests, question)

    def before(position: int) -> Prediction | None:
        if position:
            return None
        return measured(
            "From the first of these requests to the last, how much of the time does the disk work?",
            ("Less than a tenth: there is much to do for twelve bytes.", "About half.", "More than nine tenths."),
            (0.1, 0.9), lambda: _share(track),
            lambda share: f"{100 * share:.1f} %. Driver, file system, monitor and host share the rest.",
        )  # fmt: skip

    return Player(Playback(track, before if ask else None))


def all_at_once(question: str, run: OneWrite, ask: bool = False) -> Player:
    """The same requests given to a disk of the same make by a driver that does not wait for the answers."""
    once = AtOnce(run.requests.cdbs, run.requests.bus.latency, DISK_MB << 20)
    track = DiskStatisticsTrack(once, question)
    why = "there is one arm" if once.lanes == 1 else "nothing passes a flush"

    def before(position: int) -> Prediction | None:
        if position:
            return None
        return measured(
            "All of them are given in the same moment. Against one by one, when is the last one done?",
            ("Much sooner: they overlap.", "Hardly sooner.", "Later: they are in each other's way."),
            (0.8, 1.0), lambda: once.moments()[-1].at_ns / run.requests.moments()[-1].at_ns,
            lambda ratio: f"It takes {100 * ratio:.1f} % of the time: {why}. Each of them takes longer, because it "
            "waits for those before it.",
        )  # fmt: skip

    return Player(Playback(track, before if ask else None))


def _share(track: DiskStatisticsTrack) -> float:
    works_ns, idle_ns = track.figures(track.total).busy_ns, track.idle_ns(track.total)
    return works_ns / (works_ns + idle_ns)


def run_of(view: Player) -> OneWrite:
    """The run that a picture of ``one_write`` shows."""
    track = view.playback.track
    assert isinstance(track, WritePathTrack)
    assert isinstance(track.source, OneWrite)
    return track.source
