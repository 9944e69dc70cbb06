"""A SCSI target at CDB level, in reading order.

``commands``     the table of commands; ``cdb``: from bytes to a row of it; ``sense``: what can be wrong
``request``      a command and its answer as records, its event; ``state``: units, nexuses and tasks as records
``blocks``       READ, WRITE, VERIFY, WRITE SAME, UNMAP; ``inquiry``, ``mode``: what a unit says of itself
``reservation``  whose the unit is, in both generations; ``reservation_commands``
``unit``         one logical unit; ``missing``: none; ``target``: units, initiators, task management
``lun_identity`` what an initiator asks first; ``lun_disk``: a LUN as a block device
``parallel``     disks on a parallel bus, each with its time; ``passthrough``: a LUN on that bus as it is
"""
