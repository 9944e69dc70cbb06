"""One ESX host: machine memory, storage, and the virtual machines that share them, in reading order.

``host``        one machine whose virtual machines take turns; several side by side
``hosted_vm``   one of them; ``Snapshot``: all of it as a value
``registered``  from a .vmx file; ``vmx``: its lines; ``vmx_settings``, ``vmx_disks``: what they mean

``storage``     LUNs and datastores, and where a path leads (``datastore_path``)
``luns``        adapters and the paths behind them: ``local_disks``, ``software_initiator``, Fibre Channel
``mounted``     a datastore as a host has it: heartbeats, locks, who uses it; ``storage_time``: whose time they keep;
                ``host_files``: its files
``vm_home``     a machine's folder, and who has the machine powered on
``vm_disks``    its disks: locked, opened, attached, given back; ``hosted_disk``: one that can be taken from it
``machine_snapshots``  of a machine that runs, with its memory
``suspended``   suspend to a file, go on from it on any host that sees it; ``suspension``: what the configuration says
                of it; ``state_parts``: a machine as bytes

``host_network``    switches, port groups, physical cards, VMkernel ports; whose cable is where (``vmx_network``)

``hosted_product``  the other composition: VMM, VMDriver and VMApp on somebody else's system; its network card, from the
                ``host_nic`` to the guest's ``hosted_lance``; ``vmapp``; beside it ESX and the bare machine
                (``network_product``)
``world_switch``    what every crossing between worlds costs (``world_costs``), each an event (``world_events``)
``hosted_machine``  a guest on one of these products; ``hosted_account``, ``hosted_figures``: where its time goes

``overcommit``  more memory promised than there is: an experiment
``network_pair``  two Linux guests that send to each other over each kind of card: another
``figure_4``    what clones of a stock Linux share: another
"""
