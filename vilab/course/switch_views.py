"""The pictures of lesson 16. Needs Jupyter."""

from __future__ import annotations

from vilab.course.predictions_switch import conversation_questions
from vilab.course.switch_runs import LOADS, SHAPED, conversation, office
from vilab.network.policies import ShapingPolicy
from vilab.view.capture import CaptureTrack
from vilab.view.memory_players import KnobPlayer
from vilab.view.playback import Playback
from vilab.view.switch_balance import BalanceTrack, balance_questions
from vilab.view.switch_bench import Bench
from vilab.view.switch_failover import FailoverTrack, failover_questions
from vilab.view.switch_lab import SwitchLab
from vilab.view.switch_shaping import ShapingTrack
from vilab.view.switch_track import SwitchTrack
from vilab.view.switch_widget import Capture, SwitchBench
from vilab.view.widget import Player


def frames(question: str, lab: SwitchLab | None = None, ask: bool = False) -> Player:
    """Frames on their way; without ``lab``, the conversation of the lesson."""
    steps = (lab or conversation()).recorder.steps
    return Player(Playback(SwitchTrack(steps, question), conversation_questions(steps) if ask else None))


def bench(question: str, wired: Bench | None = None, ask: bool = True) -> SwitchBench:
    """A switch to be wired by hand; without ``wired``, the office of the lesson, new: web1 is about to broadcast."""
    if wired is None:
        wired = office()
        wired.send("web1", "broadcast")
    return SwitchBench(wired, question, ask)


def balance(question: str, ask: bool = False) -> Player:
    """Which uplink carries whose frames, a load balancing policy a step."""
    track = BalanceTrack(LOADS, question)
    return Player(Playback(track, (lambda position: balance_questions(track, position)) if ask else None))


def failover(question: str, ask: bool = False) -> Player:
    """How long a machine is cut off, a kind of failure a step."""
    track = FailoverTrack(question)
    return Player(Playback(track, (lambda position: failover_questions(track, position)) if ask else None))


def shaping(question: str, policy: ShapingPolicy = SHAPED) -> KnobPlayer:
    """Offered and passed, with knobs for average, peak and burst."""
    return KnobPlayer(ShapingTrack(question, policy))


def capture(lab: SwitchLab | Bench, port: str, question: str = "", position: int = 0) -> Capture:
    """The frames that a port has seen: a machine's by its name, or an uplink's."""
    lab = lab.lab if isinstance(lab, Bench) else lab
    pcap = lab.pcap(port)
    return Capture(CaptureTrack(lab.captures[port], port, question or f"What was on {port}?"), pcap, position)


def walk(view: Player, first: int = 0, last: int | None = None) -> str:
    """The text twins from one step to another, numbered. The view stays where it is."""
    track = view.playback.track
    assert isinstance(track, SwitchTrack | BalanceTrack | FailoverTrack | CaptureTrack | ShapingTrack)
    last = track.total if last is None else min(last, track.total)
    return "\n".join(f"{position:3}  {track.describe(position)}" for position in range(first, last + 1))
