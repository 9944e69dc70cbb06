"""The network: frames, virtual switches, what they are connected to. No processor is needed for any of it.

``ethernet``   addresses, types, the 802.1Q tag
``cable``      between a machine's card and a port: two clocks, and what is on its way
"""
