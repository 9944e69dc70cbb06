"""LUNs over TCP (RFC 7143), in reading order. All but ``server`` and ``client`` are state machines over bytes.

``layout``        PDUs, a datasheet; ``pdu``: bytes and digests; ``text``, ``keys``: negotiation; ``chap``
``session``       what the two sides of a session keep; ``target_login``, ``transfer``, ``exchange``, ``services``,
                  ``connection``: the target's side, from login to data; ``target``: all its sessions
``server``        the target on sockets
``initiator_login``, ``pending``, ``initiator_sending``, ``initiator``: the other side; ``client``: on a socket, or in
                  memory
``session_lun``   a LUN through a session; ``disk``: as a block device, and for raw CDBs
``bench``         how fast the target is, beside tgt; ``errors``, ``events``
"""
