"""Roads to a LUN, in reading order.

``path``       one way to it; ``paths``: several, one in use: fixed, most recently used
``fc_names``   world wide names; ``fc_fabric``: name server, zones; ``fc_array``: masking, two processors;
``fc_hba``     the adapter; ``fc_events``
"""
