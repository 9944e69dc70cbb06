"""The PC around the processor. A device knows its registers, a clock, its interrupt line; no bus, thread or engine.

``registers``             a register table is data
``pic``                   8259A pair: which interrupt goes first
``lapic_registers`` ``lapic_state`` ``lapic_timer`` ``lapic_priority`` ``lapic``   the APIC beside each processor
``ioapic`` ``interrupts``   pins of the I/O APIC; the three controllers as one source
``pit_counter`` ``pit``   8254: 1.193182 MHz divided; IRQ 0
``port61``                the gate of counter 2, the speaker, a bit that toggles
``rtc_time`` ``cmos`` ``rtc``  MC146818: date, alarm, IRQ 8, and what firmware left in its memory
``uart``                  16550A: the serial console; IRQ 4
``keyboard``              8042, nobody typing
``crtc``                  text screen
``pci``                   configuration mechanism 1
``debug_port`` ``power``  bytes for the log; off and reset
``ramdisk``               4 KB blocks that go to and from guest memory by themselves; IRQ 5; only if asked for
``pci_firmware``          addresses and interrupts for what is plugged in, as a BIOS gives them
``pci_adapter`` ``bus_master`` ``adapter_events``   what all adapters share: timing and interrupt, memory, reports
``scsi_adapter`` ``scsi_initiator`` ``scsi_events``   what SCSI adapters share: commands under way on a bus
``lsi_*``                 LSI Logic 53C1030: registers, messages, scatter-gather lists, pages, doorbell, firmware
``buslogic_*``            BusLogic BT-958: registers, commands, mailboxes and what is in them
``e1000_*``               Intel 82545EM: registers, EEPROM, PHY, rings, filter, offloads, interrupt delays
``vmxnet3_*``             VMware's own network card: registers, memory shared with its driver, rings, offloads, commands
``pcnet_*``               AMD PCnet-PCI II ("vlance"): registers, rings, filter, buffer management
``balloon_port``          the channel between a guest's balloon driver and its host
``absent``                what is not there, and what that looks like
``pc_bus`` ``pc``         who answers where; all of them together; ``datasheets``: all register tables
"""
