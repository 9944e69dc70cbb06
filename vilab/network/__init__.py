"""The network: frames, virtual switches, what they are connected to. No processor is needed for any of it.

``ethernet``   addresses, types, the 802.1Q tag
``policies``   security, shaping, teaming: what a switch says, and what a port group says differently
``pcap``       captures: written, read, taken at any port

A virtual switch, in the order in which to read it:

``port_group``, ``vlan_tagging``      a template for ports; who puts the tag on
``switch_port``, ``uplinks``          what a card is plugged into; where frames leave the host
``forwarding``, ``shaping``           who gets a frame; how fast a machine may send
``virtual_switch``, ``switch_state``  all of it, and as a value; ``switch_description`` as text
``virtual_switches``                  those of one host
``statistics``, ``network_events``    what was counted; what is said

``cable``      between a machine's card and a port: two clocks, and what is on its way

Behind the uplinks:

``physical_nic``, ``wire``            vmnic0, and what it is plugged into: speed, delay, a queue, can be pulled
``physical_switch``                   VLANs, learning, groups of links; ``physical_port``, ``forwarding_table``
``balancing``, ``failover``           which card of a team; who is in use when one fails
``teaming``, ``teams``                a port group's team; all those of a switch
``beacon``, ``notify``                failures that no link shows; telling switches where a machine is
``physical_events``                   what is said

Somebody to talk to:

``packets``, ``peer``                 ARP, IPv4, ICMP, UDP, TCP; a small host
``dhcp``, ``dhcp_message``            addresses for guests
``tap``                               the Linux underneath
``tunnel``, ``tunnel_codec``          another process; ``tunnel_rejoin``: one that ends and comes again
``small_network``                     a switch with one such host, for a machine by itself
"""
