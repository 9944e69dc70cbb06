"""One virtual machine's monitor, in the order in which to read it.

``vm`` ``vcpu``                        what a virtual machine is made of; a virtual CPU
``native_vcpu`` ``deprivileged_vcpu``    held by the processor; the two truths about one that is deprivileged
``walk``                               the guest's page tables
``segments`` ``deliver`` ``far``       segment registers; interrupts; transfers between rings
``real_mode``                          the same where there is no protection
``emulate``                            what each privileged instruction means, once for all engines
``engine_time`` ``engine_platform``     an engine's clock, and what the guest finds around its processor
``engine_delivery`` ``engine_steps`` ``engine_state`` ``engine``   the loop between processor, clock and devices
``engine_bare``                        no VMM: the baseline
``monitor`` ``deprivileged``             ring 1: where the monitor lives, page faults
``shadow_entries`` ``shadow_roots`` ``shadow_paging``   shadow tables: who maps a page; address spaces; filled, kept up
``engine_trap``                        trap and emulate, and the same without help
``hypercalls`` ``engine_para``          a kernel that asks its monitor
``unit`` ``in_cache`` ``translator`` ``translation_cache`` ``code_pages``   binary translation: from code to fragments
``translated_vcpu`` ``packed_code`` ``packed_callouts`` ``fragment_callouts`` ``engine_bt``   fragments in one cache
``mirror``... ``mirrored_code`` ``mirrored_callouts`` ``mirrored_steps`` ``engine_mirrored``   a mirror of each page
``sixteen_bit`` ``sixteen_bit_vcpu`` ``sixteen_bit_engines``   real mode and 16-bit code for the three above
``vmcb`` ``vmcb_build`` ``svm_exits`` ``svm_intercepts`` ``nested_paging``   hardware assist: what the processor is told
``svm_memory`` ``svm_guest_code`` ``svm_handling`` ``svm_devices`` ``engine_svm``   its exits; ``svm_shadow``
``translation_path``                   gva to gpa to mpa at any moment, without side effects
``records`` ``checkpoint`` ``tape`` ``stepping``   walking a run in both directions
``scsi_disks``                         files behind a SCSI adapter
``network``, ``lone_network``          network cards; what those of a machine by itself are plugged into
``suspend``                            a machine as a file
``choices`` ``typist`` ``runner``      which options an engine takes; who types what was piped in; one run, its figures
``critical_run``                       the eighteen critical instructions under every engine
``differential``...                    random programs: is a translated guest the same as a bare one?
``bench``...                           engines side by side with the bare processor
``comparison``...                      software against hardware, by counting what each engine does
"""
