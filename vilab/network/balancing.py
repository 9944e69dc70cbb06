"""Which of several links a frame takes: the numbers behind the load balancing policies, before "modulo links".

::

    port_id    the port's number                        all of a machine's frames take one link
    mac_hash   source MAC, last octet                   the same
    ip_hash    source IP, last octet XOR destination    each pair of hosts another link; needs a link aggregation group
               IP, last octet                           on the physical switch

    untagged frame   | 0 .. 11 addresses | 12 type | 14 .. IPv4 header                            |
                                                      26 27 28 [29] source   30 31 32 [33] destination

For packets that are no IP, whatever is at these places is used. A group on the physical switch is modelled with the
same ``ip_hash``.

Sources: ESX Server 3 Configuration Guide, "Load Balancing" (port, MAC hash, IP hash; non-IP packets: what is at those
offsets). vSphere Networking, "Route Based on IP Hash": XOR of the last octets, then a number from 0 to links - 1.

MODEL: which octets of the MAC address are hashed, and that "modulo" is what makes a number of the link, is not said
there; the addresses that VMware makes differ in the last octets.
"""

from __future__ import annotations

from vilab.network.ethernet import HEADER_BYTES, TAG_BYTES, TAG_TYPE


def mac_hash(mac: bytes) -> int:
    return mac[5]


def ip_hash(frame: bytes) -> int:
    """Also of tagged frames. 0 if the frame is too short to have addresses."""
    at = HEADER_BYTES
    while frame[at - 2 : at] == TAG_TYPE:
        at += TAG_BYTES
    return frame[at + 15] ^ frame[at + 19] if len(frame) >= at + 20 else 0
