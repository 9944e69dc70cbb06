"""Virtual disks and their snapshots, in reading order.

``vmdk_layout``    on disk, a datasheet; ``descriptor``: the text that says what belongs together
``extent``         where a sector lies; ``sparse_tables``, ``sparse_extent``: grains; ``sparse_open``: headers, judged
``stream_extent``  compressed grains, ``stream_writer``: written from front to back
``vmdk``           one disk without its parents; ``vmdk_create``: new ones; ``vmdk_convert``: one kind into another
``vmdk_check``     looking for damage
``disk_chain``     a disk with its parents, as a block device
``redo_log_child`` new redo logs; ``redo_log_merge``: what one holds goes into its parent
``redo_log``       snapshots: taken, reverted, merged while the virtual machine writes
``vmsd``, ``vmsn`` the files of a machine's snapshots; ``snapshot_graph``: which disk stands on which
``snapshot_journal`` the list, and what is done when an operation was cut short
``vm_snapshots``   all disks of a machine and its state, in a tree: taken, reverted, deleted
``rdm``            a file that stands for a LUN; ``lun_extent``: the LUN as a piece of a disk
"""
