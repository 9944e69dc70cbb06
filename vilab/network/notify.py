"""Telling physical switches where a machine is: a frame from its address, sent over the uplink that it uses now.

::

    | ff:ff:ff:ff:ff:ff | the machine's MAC | 8035 | RARP request: 0.0.0.0 at that MAC, for that MAC |

    machine started, or arrived by VMotion ──┐
    its uplink has failed, another one is used ─> one frame over the new uplink ─> every switch learns the new port

Nobody answers; what counts is the source address. A frame can be a RARP request of a host that looks for its address:
that it needs no IP address is why RARP and not ARP is used.

MODEL: one frame each time; ESX repeats it a few times. Sources: ESX Server 3 Configuration Guide, "Notify Switches";
VMware KB 343401 (type 0x8035, broadcast, when); RFC 903.
"""

from __future__ import annotations

from vilab.network.ethernet import BROADCAST, MAX_VLAN, RARP, frame_of, tagged
from vilab.network.packets import ANY_IP, RARP_REQUEST, Arp


def notify_frame(mac: bytes, vlan: int = 0) -> bytes:
    """``vlan``: of the port; 0, and 4095 where the guest does the tagging, send it without a tag."""
    frame = frame_of(BROADCAST, mac, RARP, Arp(RARP_REQUEST, mac, ANY_IP, mac, ANY_IP).encode())
    return tagged(frame, vlan) if 1 <= vlan <= MAX_VLAN else frame
