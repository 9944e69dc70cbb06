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
"""
