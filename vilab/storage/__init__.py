"""Disks, from the guest's request down to bytes in files and on shared volumes, in reading order.

``block``        what a disk is, the errors it can have; a disk in memory; ``geometry``: cylinders, heads, sectors
``paged_disk``   a large, sparse disk in memory; ``counted_files``: files that note what is asked of them
``timed``        requests that take virtual time, can be withdrawn and are counted
``storage_events``  what disks report; ``disk_file``: files, crashes; ``raw_disk``: a file as a disk
``vmdk_layout``  virtual disks on disk, a datasheet; ``descriptor``: the text that says what belongs together
``extent``       where a sector lies; ``sparse_tables``, ``sparse_extent``: grains; ``sparse_open``: headers, judged
``stream_extent``  compressed grains, ``stream_writer``: written from front to back
``vmdk``         one disk without its parents; ``vmdk_create``: new ones; ``vmdk_convert``: one kind into another
``vmdk_check``   looking for damage
``disk_chain``   a disk with its parents, as a block device
``redo_log``     snapshots: taken, reverted, merged while the virtual machine writes
``vm_snapshots`` all disks of a machine and its state, in a tree; ``snapshot_graph``, ``vmsd``, ``vmsn``: its files
``rdm``          a file that stands for a LUN; ``lun_extent``: the LUN as a piece of a disk
``scsi_*``       a target at CDB level: ``commands`` (the table), ``cdb``, ``sense``, ``blocks``, ``inquiry``, ``mode``,
                 ``reservation``, ``reservation_commands``, ``unit``, ``missing``, ``target``, with the records
                 ``request`` and ``state``; ``parallel``: disks on a bus, each with its time; ``passthrough``: a LUN on
                 that bus as it is
``iscsi_*``      LUNs over TCP: ``layout`` (PDUs, a datasheet), ``pdu``, ``text``, ``keys``, ``chap``; the target:
                 ``session``, ``target_login``, ``transfer``, ``exchange``, ``services``, ``connection``, ``target``,
                 ``server``; the initiator: ``initiator_login``, ``pending``, ``initiator``, ``client``, ``disk``;
                 ``bench_iscsi``
``nfs_*``        a file server's export as a datastore: ``layout`` (NFSv3, a datasheet), ``xdr``, ``rpc``, ``link``,
                 ``client``, ``mount``, ``errors``; ``file``: written behind and committed; ``files``; ``health``;
                 ``lock_record``, ``lock``, ``locks``: who may power a virtual machine on; ``datastore``; ``events``;
                 a server in memory: ``volume``, ``server_calls``, ``memory_server``
``lun_disk``     a LUN as a block device; ``paths``: several ways to it, one in use
``fc_*``         Fibre Channel: ``names``, ``fabric`` (name server, zones), ``array`` (masking), ``hba``, ``events``
``vmfs_layout``  VMFS-3 on disk, a datasheet: ``record``, ``block_id``; reading: ``volume``, ``resource``, ``catalog``
``vmfs_lun``     a LUN that hosts share: ``scsi_lun``, ``iscsi_lun``; ``time``: when a host is taken for dead;
                 ``events``, ``errors``
``vmfs_member``  a host's heartbeat and locks; ``transaction``, ``journal``: whole changes; ``recovery``: the dead's
``vmfs_host``    names and files: ``directory``, ``block_map``, ``file``, ``namespace``; ``mkfs``; ``check``
``datastore``    where virtual machines' files are, whatever it is made of; ``vmfs_datastore``
"""
