"""Virtual machines that move while they run: VMotion and Storage VMotion.

``migration_events``   what is said

A machine from host to host, in reading order:

``source``, ``destination``      both sides, as they are driven by messages (``messages``) and time
``vmotion``                      in one program: two hosts, a link, a task; ``options``: how
``compatibility``                may it? ``descriptions`` of hosts and machines
``termination``                  when to stop and copy: the rules; ``rate_control``: how fast a round may send
``writers``                      processes that write faster than pages can be sent
``page_stream``, ``page_source`` pages as bytes; ``page_delta``, ``sent_pages``: as what has changed; ``page_order``
``round_sender``                 one round after the other, as far as the wire has room
``machine_state``                the rest of the machine; ``state_digest``: is what arrived what was sent?
``post_copy_source``, ``post_copy_destination``   what is left comes while it runs there already
``handover``                     whose is the machine, by the locks of its files: both sides, and the record
``line``                         its serial line goes along

Without a machine:

``dirty_traces``                 which pages are written when: workloads to try a rule on
``working_set``                  how fast pages get dirty, and what downtime that costs
``precopy_model``                a rule over a trace, page by page

Hosts that talk:

``agent_session``                who may talk, and frames that cannot be changed on their way
``agent_link``, ``agent_tcp``    in virtual time; between processes (``agent_tls``); ``agent_port`` joins them
``vmkernel_link``                in virtual time, over the hosts' own wires; ``segment_stream``: as TCP does
``host_agent``                   a host as a process; ``agent_requests``, ``agent_client``: what it can be asked
``host_requests``                what it answers, or begins
``host_tasks``                   what takes it longer than a turn of its loop

``storage_vmotion``              disks and folder from datastore to datastore; ``changed_blocks``
``cold_migration``               the same of a machine that is off, with its snapshots: files as they are
``file_copy_source``, ``file_copy_destination``   the folder of one that is off to a host that shares no datastore;
                                 ``file_copy_decision``: whose it is when the connection has broken
``cloning``                      another machine with a copy of the disks, from one that is off or runs
"""
