"""vilab: a virtual infrastructure that can be opened up.

The rooms, in teaching order; each imports only from rooms above it in this list:

``events`` ``clock`` ``costs`` ``addresses`` ``protocols`` ``errors``   the ground floor
``x86``       facts about the instruction set
``guests``    programs that run on it, and loaders for those that others wrote
``machine``   the bare metal: one processor and its frames of memory
``memory``    the vmkernel's memory manager: which machine frame backs which page of which guest
``storage``   disks and what they are kept in
``network``   frames, virtual switches, and what is behind their uplinks
``devices``   the PC around the processor
``vmm``       one virtual machine's monitor: engines, page tables, exits, stepping
``host``      an ESX host: several virtual machines on one machine
``migration`` machines that move between hosts, and disks between datastores, while they run
``view``      pictures of a running system, each with its text twin
``course``    lessons, predictions, graded exercises
``cli``       the commands
"""

__version__ = "0.1.0"
