"""Who puts the VLAN tag on: what a port group's VLAN number makes of the frames of its ports.

::

    number      name                        the tag is put on and taken off by
    0           EST  external switch tagging   the physical switch: here, frames have none
    1 to 4094   VST  virtual switch tagging    this switch, on the way to and from an uplink
    4095        VGT  virtual guest tagging     the guest; the port carries all VLANs, as an uplink does

    arrives at a port that is   EST               VST n                VGT, or an uplink
      without a tag             VLAN 0            VLAN n               VLAN 0
      tag of id 0, priority p   VLAN 0, as it is  VLAN n, priority p   VLAN 0, as it is
      tag of id v, 1 to 4094    guest tag         guest tag            VLAN v
      tag of id 4095            guest tag         guest tag            reserved VLAN
      id 0, then another tag    guest tag         guest tag            VLAN 0, as it is
      id v, then more tags      guest tag         guest tag            VLAN v; those behind are data
      a tag cut off             too short         too short            too short

    leaves by a port that is    EST               VST n                VGT, or an uplink
      in VLAN 0                 as it is          -                    as it is
      in VLAN n                 -                 without the tag      with the tag of id n, and its priority

So a frame goes from one port to another if both have its VLAN: EST to EST and VGT, VST n to VST n (of any port group)
and VGT, VGT by its tag to all three. A frame between two VST ports never has a tag; as a rule it is the same octets.
Between VST and VGT or an uplink one tag is put on or taken off.

* "0: the port group can see only untagged traffic; 4095: any VLAN, tags left as they are" (ESX Server 3 Configuration
  Guide, port group properties, in other words): hence ``guest tag`` on EST, which else could reach every VLAN.
* A machine on a VST port that tags its frames itself would have them tagged twice: the switch drops them (same guide,
  securing virtual switch ports, double encapsulation).

MODEL: a tag of id 0 says a priority and no VLAN (802.1Q-2005, 9.6), which the guide does not speak of: the frame counts
as untagged. Its priority, and DEI, stay in the tag that leaves by a trunk, and are lost where a tag is taken off.
MODEL: a frame is padded to 60 octets where taking off its tag leaves less (802.1Q-2005, annex C).
Tags of other types (88a8, 9100) are data: ESX 3 knows none.
"""

from __future__ import annotations

from typing import Literal

from vilab.errors import AdminError
from vilab.network.ethernet import HEADER_BYTES, MAX_VLAN, MIN_FRAME_BYTES, TAG_BYTES, TAG_TYPE, tagged

TRUNK = MAX_VLAN + 1
UNTAGGED = 0


def kind_of(number: int) -> Literal["EST", "VST", "VGT"]:
    return "EST" if number == UNTAGGED else "VGT" if number == TRUNK else "VST"


def check_number(number: int) -> None:
    """Raises ``AdminError``."""
    if not UNTAGGED <= number <= TRUNK:
        raise AdminError(f"{number} is no VLAN of a port group: 0 (none), 1 to {MAX_VLAN}, or {TRUNK} (all) are.")


def vlan_at(number: int, frame: bytes) -> int | Literal["too short", "guest tag", "reserved VLAN"]:
    """The VLAN of a frame that arrives at a port with this number, 0 for none; or why it is dropped."""
    if frame[12:14] != TAG_TYPE:
        return UNTAGGED if number == TRUNK else number
    if len(frame) < HEADER_BYTES + TAG_BYTES:
        return "too short"
    vlan = (frame[14] << 8 | frame[15]) & 0xFFF
    if number == TRUNK:
        return vlan if vlan != TRUNK else "reserved VLAN"
    return number if vlan == 0 and frame[16:18] != TAG_TYPE else "guest tag"


def with_tag(frame: bytes, vlan: int) -> bytes:
    """How a frame of a VLAN leaves by a trunk, whatever port it arrived at."""
    if vlan == UNTAGGED:
        return frame
    if frame[12:14] != TAG_TYPE:
        return tagged(frame, vlan)
    if (frame[14] << 8 | frame[15]) & 0xFFF == vlan:
        return frame
    return frame[:14] + bytes((frame[14] & 0xF0 | vlan >> 8, vlan & 0xFF)) + frame[16:]


def without_tag(frame: bytes, vlan: int) -> bytes:
    """How a frame of a VLAN leaves by a port whose group has that number."""
    if vlan == UNTAGGED or frame[12:14] != TAG_TYPE:
        return frame
    return (frame[:12] + frame[16:]).ljust(MIN_FRAME_BYTES, b"\0")
