/* Local APIC and I/O APIC (Intel SDM volume 3, chapter 10; 82093AA datasheet).

   Both are registers in memory. The local APIC has one every 16 bytes; the I/O APIC has an index at 0 and a window at
   0x10, and for each pin an entry of two registers from index 0x10 on:

     63-56 destination   16 masked   15 level   13 low   11 logical   10-8 mode   7-0 vector */

#include "apic.h"

enum { ID = 0x20, VERSION = 0x30, TPR = 0x80, EOI = 0xb0, SVR = 0xf0, ICR_LOW = 0x300, ICR_HIGH = 0x310,
       LVT_TIMER = 0x320, LVT_LINT0 = 0x350, LVT_LINT1 = 0x360, LVT_ERROR = 0x370, INITIAL = 0x380, DIVIDE = 0x3e0 };
enum { ENABLE = 1 << 8, MASKED = 1 << 16, PERIODIC = 1 << 17, TO_SELF = 1 << 18, BY_1 = 0xb };
enum { SELECT = 0, WINDOW = 0x10, IO_VERSION = 1, ENTRIES = 0x10 };

static volatile u8 *lapic, *ioapic;

static u32 get(u32 offset) { return *(volatile u32 *)(lapic + offset); }
static void put(u32 offset, u32 value) { *(volatile u32 *)(lapic + offset) = value; }

void lapic_init(u32 address)
{
    lapic = (volatile u8 *)address;
    put(SVR, ENABLE | VECTOR_SPURIOUS);
    put(LVT_LINT0, MASKED);             /* no more virtual wire */
    put(LVT_LINT1, MASKED);
    put(LVT_ERROR, MASKED);
    put(TPR, 0);
}

u32 lapic_id(void) { return get(ID) >> 24; }
u32 lapic_version(void) { return get(VERSION) & 0xff; }
void lapic_end_of_interrupt(void) { put(EOI, 0); }
void lapic_priority(u32 class) { put(TPR, class << 4); }

void lapic_timer(u32 count)
{
    put(DIVIDE, BY_1);
    put(LVT_TIMER, count ? PERIODIC | VECTOR_TIMER : MASKED);
    put(INITIAL, count);
}

void lapic_send_to_self(u32 vector)
{
    put(ICR_HIGH, 0);
    put(ICR_LOW, TO_SELF | vector);
}

static u32 io_get(u32 index)
{
    *(volatile u32 *)(ioapic + SELECT) = index;
    return *(volatile u32 *)(ioapic + WINDOW);
}

static void io_put(u32 index, u32 value)
{
    *(volatile u32 *)(ioapic + SELECT) = index;
    *(volatile u32 *)(ioapic + WINDOW) = value;
}

void ioapic_init(u32 address)
{
    ioapic = (volatile u8 *)address;
    for (u32 pin = 0; pin < ioapic_pins(); pin++)
        ioapic_mask(pin);
}

u32 ioapic_pins(void) { return (io_get(IO_VERSION) >> 16 & 0xff) + 1; }
void ioapic_mask(u32 pin) { io_put(ENTRIES + 2 * pin, MASKED); }

void ioapic_route(u32 pin, u32 vector, u32 destination)
{
    io_put(ENTRIES + 2 * pin + 1, destination << 24);
    io_put(ENTRIES + 2 * pin, vector);  /* edge, high, fixed, physical */
}
