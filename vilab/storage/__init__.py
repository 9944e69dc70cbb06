"""Disks, from the guest's request down to bytes in files and on shared volumes. What the rooms share, in reading order:

``block``           what a disk is, the errors it can have; a disk in memory; ``geometry``: cylinders, heads, sectors
``timed``           requests that take virtual time, can be withdrawn and are counted
``storage_events``  what disks report
``disk_file``       files, and what a crash leaves of them; ``counted_files``: files that note what is asked of them
``raw_disk``        a file as a disk; ``paged_disk``: a large, sparse one in memory
``datastore``       where virtual machines' files are, whatever it is made of

and the rooms, each with a list of its own:

``disks``   virtual disks (VMDK), chains of redo logs, snapshots of whole machines, mappings
``scsi``    a target at CDB level, and disks on a parallel bus
``iscsi``   LUNs over TCP: target and initiator
``luns``    roads to a LUN: Fibre Channel, several paths
``vmfs``    VMFS-3: a volume that several hosts share
``nfs``     a file server's export as a datastore
"""
