"""Disks, from the guest's request down to bytes in files and on shared volumes, in reading order.

``block``        what a disk is, the errors it can have; a disk in memory; ``geometry``: cylinders, heads, sectors
``timed``        requests that take virtual time, can be withdrawn and are counted
``scsi_*``       a target at CDB level: ``commands`` (the table), ``cdb``, ``sense``, ``blocks``, ``inquiry``, ``mode``,
                 ``reservation``, ``unit``, ``target``
"""
