"""What has happened to a frame, in words, from the step's own facts."""

from __future__ import annotations

from vilab.network.ethernet import BROADCAST, is_group, vlan_of
from vilab.view.frame_bytes_layers import brief, sentence
from vilab.view.switch_frame import Copy, Scene, SwitchStep
from vilab.view.switch_layout import vlan_words

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight")
WHY = {
    "came back": "Its source is a port of this switch, so it went out before and **came back**: dropped, or every "
                 "broadcast "
    "would be heard twice.",
    "unknown address": "**Unknown address**: no port listens to it, and a virtual switch floods nothing inwards.",
    "forged source": "**Forged source**: its port listens to another address, and forged transmits are rejected.",
    "guest tag": "**Guest tag**: on this port tags are not the guest's affair. Else a guest could choose its VLAN.",
    "no uplink": "**No uplink**: nobody here listens to that address, and nothing leads out.",
    "no receiver": "**No receiver**: nobody else is in this VLAN, and nothing leads out.",
    "own address": "It is addressed to its own sender.",
    "queue full": "**Queue full**: the port's shaper holds as many frames as it may.",
    "port down": "The port has no link.",
    "reserved VLAN": "VLAN 4095 is reserved: no frame may have that tag.",
    "address changed": "**Address changed**: its driver has set another address than its card was made with, and MAC "
                       "changes "
    "are rejected. Nothing is delivered to that port.",
    "other uplink": "The copy of this port comes over the uplink that its own traffic uses.",
    "too short": "It has no whole header.", "too long": "It is longer than the switch's MTU.",
}  # fmt: skip


def say(step: SwitchStep) -> str:
    return {
        "begin": _begin, "set": _set, "sends": _sends, "forwards": _forwards, "drops": _drops, "outside": _outside,
        "link": _link, "moves": _moves, "tells": _tells, "beacons": _beacons,
    }[step.kind](step)  # fmt: skip


def listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _begin(step: SwitchStep) -> str:
    s = step.scene
    if step.words:
        return f"{step.words}. Nothing is on its way."
    ports = ", ".join(f"{m.name} on port {m.port}, {vlan_words(m.vlan)}" for m in s.machines)
    return f"{s.switch} on esx1: {ports}. Nothing is on its way."


def _set(step: SwitchStep) -> str:
    return f"{step.words}."


def _to(scene: Scene, frame: bytes) -> str:
    destination = frame[:6]
    return (
        "everybody" if destination == BROADCAST else "a group" if is_group(destination) else scene.name_of(destination)
    )


def _tag(frame: bytes) -> str:
    vlan = vlan_of(frame)
    return "without a tag" if vlan is None else f"with the tag `{frame[12:14].hex()} {frame[14:16].hex()}`, VLAN {vlan}"


def _sends(step: SwitchStep) -> str:
    s, frame = step.scene, step.frame
    machine = s.machine(step.origin)
    source = (
        ""
        if frame[6:12] == (machine.mac if machine else frame[6:12])
        else f", as if it came from **{s.name_of(frame[6:12])}**"
    )
    return f"**{step.origin} sends** {_tag(frame)}, to {_to(s, frame)}{source}: {sentence(frame)}."


def _copy(scene: Scene, copy: Copy, origin: bytes) -> str:
    was, now = vlan_of(origin), vlan_of(copy.frame)
    if was is None and now is not None:
        how = f"4 bytes longer, tag `{copy.frame[12:14].hex()} {copy.frame[14:16].hex()}`"
    elif was is not None and now is None:
        how = "its tag taken off"
    else:
        how = "untagged, as it came" if now is None else "tag and all"
    return f"to **{copy.place}**, {how}"


def _forwards(step: SwitchStep) -> str:
    s = step.scene
    copies = [_copy(s, copy, step.frame) for copy in step.copies]
    count = NUMBERS[len(copies)].capitalize() if len(copies) < len(NUMBERS) else str(len(copies))
    made = f"{count} {'copy' if len(copies) == 1 else 'copies'}: {_shortened(copies)}."
    curious = [
        m.name
        for c in step.copies
        if (m := s.machine(c.place)) and m.curious and step.frame[:6] not in (m.mac, BROADCAST)
    ]
    withheld = [(place, why) for place, why in step.refused if why in ("address changed", "other uplink")]
    if curious:
        after = f" {listed(curious)} asked for every frame of its VLAN, and is allowed to."
    elif withheld:
        after = f" **Not to {withheld[0][0]}: {withheld[0][1]}.**"
    elif step.frame[:6] == BROADCAST:
        after = " What counts is the VLAN of each port."
    elif any(c.place in {u.name for u in s.uplinks} for c in step.copies):
        after = " No port here listens to that address: it must be outside."
    elif s.uplink(step.origin) is not None:
        after = " That port listens to the address."
    else:
        after = " The switch knows whose address it is, and nothing leaves the host."
    return made + after


def _shortened(copies: list[str]) -> str:
    """The same way said once for those who get the same."""
    ways: dict[str, list[str]] = {}
    for copy in copies:
        who, _, how = copy.removeprefix("to ").partition(", ")
        ways.setdefault(how, []).append(who)
    return "; ".join(f"to {listed(who)}, {how}" for how, who in ways.items())


def _drops(step: SwitchStep) -> str:
    if step.refused:
        who = step.refused[0][0]
        return f"**{who} does not get** this {brief(step.frame)}. {WHY.get(step.reason, step.reason)}"
    return f"From {step.origin} comes `{brief(step.frame)}`. {WHY.get(step.reason, step.reason)}"


def _outside(step: SwitchStep) -> str:
    learned = f" It learns: **{step.words}**." if step.words else ""
    if not step.copies:
        return (
            f"The physical switch passes this frame from {step.origin} to **nobody**: no other port is in its VLAN, "
            f"or leads to "
            f"its address.{learned}"
        )
    places = [
        f"**{copy.place}**{', tagged' if vlan_of(copy.frame) is not None else ', untagged'}" for copy in step.copies
    ]
    known = "knows the address" if len(step.copies) == 1 and not is_group(step.frame[:6]) else "floods the VLAN"
    return f"The physical switch {known}: to {listed(places)}.{learned}"


def _link(step: SwitchStep) -> str:
    if step.reason == "up":
        return f"**{step.origin} has a link** again."
    return f"**{step.origin} has lost its link**: the card notices at once, no frame is needed for that."


def _moves(step: SwitchStep) -> str:
    old, _, new = step.words.partition(" ")
    why = {"link": "the link is gone", "beacon": "beacons say that it leads nowhere", "failback": "it is well again"}
    reason = why.get(step.reason, step.reason)
    if not new:
        return f"**{step.origin} has no uplink any more**: {reason}."
    return f"**{step.origin} moves** {f'from {old} ' if old else ''}**to {new}**: {reason}."


def _tells(step: SwitchStep) -> str:
    who = step.scene.name_of(step.frame[6:12])
    return (
        f"esx1 sends **RARP in {who}'s name** over {step.origin}, so that the physical switch learns where it is now, "
        "before it has said anything itself."
    )


def _beacons(step: SwitchStep) -> str:
    if step.reason:
        return (
            "**Two halves that do not hear each other**, equally large: beacons cannot tell which of them is cut off. "
            "So "
            "every frame is sent over all uplinks (shotgun)."
        )
    if step.origin:
        return (
            f"**Beacons of {step.origin} are not heard** by the others, three in a row: it counts as failed, link or "
            f"not."
        )
    return "All uplinks hear each other's beacons again."


def short(step: SwitchStep) -> str:
    """For a log: a few words."""
    to = listed([c.place for c in step.copies]) if step.copies else ""
    what, receiver = (brief(step.frame), _to(step.scene, step.frame)) if step.frame else ("", "")
    return {
        "begin": "begin", "set": step.words, "sends": f"{what} to {receiver}", "forwards": f"{what} to {to}",
        "drops": step.reason, "outside": f"{what} to {to or 'nobody'}", "link": f"link {step.reason}",
        "moves": f"to {step.words.partition(' ')[2] or 'nowhere'}: {step.reason}", "tells": "RARP",
        "beacons": step.reason or step.origin or "all well",
    }[step.kind]  # fmt: skip


def where(step: SwitchStep) -> str:
    """At whom a step is, for a log."""
    if step.kind in ("forwards", "drops"):
        return step.scene.switch
    return {"outside": "physical", "set": "you", "beacons": "esx1", "tells": "esx1"}.get(step.kind, step.origin)
