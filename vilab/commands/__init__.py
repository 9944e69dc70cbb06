"""What the commands do, one file each.

``run``       a guest on this terminal
``guests``    guests that others wrote: brought from packages, listed
``terminal``  the terminal as the far end of a serial line
``leaving``   Ctrl-C at a moment that does no harm
``bench``     how fast it is, beside something to compare it with
``bench_memory``  what managing memory costs
``bench_storage``  conversions, chains and iSCSI, beside other programs
``bench_migration``  VMotion between processes, beside a plain socket and QEMU
``bench_network``  a virtual switch, guests that send to each other, the hosted product
``vmdk``      virtual disks looked at, checked, converted, with snapshots
``vmfs``      VMFS volumes: made, listed, copied to and from, checked
``iscsi_target``  disks for any iSCSI initiator
``host``      an ESX host as a process
``agent``     what it can be asked
``host_lines``  the command lines of both
``datacenter``  what all hosts know: a secret, certificates
``doctor``    what this machine has and lacks
``lab``       JupyterLab on the work copy of the lessons
"""
