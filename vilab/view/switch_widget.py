"""A virtual switch in a notebook, to be wired and watched. Needs Jupyter.

The player's module with ``switch_bench.js`` behind it: the page knows the controls, the rest is as in every lesson.
"""

from __future__ import annotations

from vilab.view.capture import CapturePlayback, CaptureTrack
from vilab.view.switch_bench import Bench, BenchPlayback
from vilab.view.widget import HERE, STYLE, Player

PLAYERS_EXPORT = "export default { render };"


def module(name: str) -> str:
    """``player.js`` without its export, and a module that stands behind it, which has one."""
    player, own = ((HERE / each).read_text(encoding="utf-8") for each in ("player.js", name))
    return player.replace(PLAYERS_EXPORT, "") + "\n" + own


class SwitchBench(Player):
    """A switch with controls. Every control is a method, too; each gives the text twin of what is seen then."""

    _esm = module("switch_bench.js")  # type: ignore[assignment]
    _css = STYLE + (HERE / "switch_bench.css").read_text(encoding="utf-8")

    def __init__(self, bench: Bench, question: str, asks: bool = True) -> None:
        self.bench = bench
        super().__init__(BenchPlayback(bench, question, asks))

    def change(self, what: str, name: str, to: str = "") -> str:
        """``change("vlan", "web1", "20")``, ``change("cable", "vmnic0", "out")``, ``change("team", "", "ip_hash")``,
        ``change("policy", "promiscuous", "accept")``, ``change("detection", "", "beacon")``."""
        return self._do({"do": "bench", "what": what, "name": name, "to": to})

    def let(self, who: str, how: str, whom: str = "") -> str:
        """``let("web1", "ping", "db1")``: recorded to its end; the picture stands at its beginning."""
        return self._do({"do": "bench", "what": "send", "who": who, "how": how, "whom": whom})


class Capture(Player):
    """The frames of one port, decoded in place, and as a file to be saved."""

    _esm = module("capture.js")  # type: ignore[assignment]
    _css = STYLE + (HERE / "capture.css").read_text(encoding="utf-8")

    def __init__(self, track: CaptureTrack, pcap: bytes, position: int = 0) -> None:
        self.pcap = pcap
        super().__init__(CapturePlayback(track, pcap, position))
