/* What the files of this kernel share. */

#ifndef APIC_H
#define APIC_H

#include <stdbool.h>

#include "../kernel/types.h"
#include "../kernel/x86.h"

/* mp.c: what the MP tables say. */
struct machine {
    u32 processors;
    u32 lapic;                  /* physical addresses */
    u32 ioapic;
    u32 pin_of_irq[16];
};

bool mp_find(struct machine *machine);

/* controllers.c: registers in memory. */
enum { VECTOR_TIMER = 0x20, VECTOR_PIT = 0x22, VECTOR_UART = 0x24, VECTOR_SELF = 0x30, VECTOR_SPURIOUS = 0xff };

void lapic_init(u32 address);
u32 lapic_id(void);
u32 lapic_version(void);
void lapic_timer(u32 count);
void lapic_send_to_self(u32 vector);
void lapic_priority(u32 class);
void lapic_end_of_interrupt(void);
void ioapic_init(u32 address);
u32 ioapic_pins(void);
void ioapic_route(u32 pin, u32 vector, u32 destination);
void ioapic_mask(u32 pin);

/* serial.c */
void print(const char *text);
void print_hex(u32 value);
void print_number(u32 value);
void serial_send_by_interrupt(const char *text);
void serial_interrupt(void);
bool serial_done(void);

#endif
