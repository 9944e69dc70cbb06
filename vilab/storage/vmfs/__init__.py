"""VMFS-3, in reading order.

``layout``    on disk, a datasheet: ``record``, ``block_id``
``volume``    reading: ``resource``, ``catalog``, ``directory``, ``namespace``
``lun``       a LUN that hosts share; ``time``: when a host is taken for dead
``member``    a host's heartbeat and locks; ``transaction``, ``journal``: whole changes; ``recovery``: the dead's
``host``      names and files: ``block_map``, ``file``; ``mkfs``; ``check``
``datastore`` a mounted volume as a place for virtual machines; ``events``, ``errors``
"""
