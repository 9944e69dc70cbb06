/* Two 8259A interrupt controllers, the second behind line 2 of the first.

   The PC leaves line 0 at vector 8, where the processor has its double fault, so the first thing to do is to move all
   sixteen to 32 .. 47. A command byte with bit 4 set starts the four-byte initialisation (8259A data sheet, figure 7). */

#include "kernel.h"
#include "x86.h"

enum {
    FIRST = 0x20, FIRST_DATA = 0x21, SECOND = 0xa0, SECOND_DATA = 0xa1,
    ICW1_START = 0x11, ICW4_8086 = 0x01,
    END_OF_INTERRUPT = 0x20, READ_IN_SERVICE = 0x0b,
};

static u16 masked = 0xffff & ~(1 << IRQ_CASCADE);

static void write_masks(void)
{
    out8(FIRST_DATA, masked);
    out8(SECOND_DATA, masked >> 8);
}

void pic_init(void)
{
    out8(FIRST, ICW1_START);
    out8(SECOND, ICW1_START);
    out8(FIRST_DATA, VECTOR_IRQ);
    out8(SECOND_DATA, VECTOR_IRQ + 8);
    out8(FIRST_DATA, 1 << IRQ_CASCADE);
    out8(SECOND_DATA, IRQ_CASCADE);
    out8(FIRST_DATA, ICW4_8086);
    out8(SECOND_DATA, ICW4_8086);
    write_masks();
}

void pic_unmask(u32 irq)
{
    masked &= ~(1 << irq);
    write_masks();
}

/* A line that fell before it was acknowledged arrives as 7 or 15, but nothing is in service. */
int pic_is_spurious(u32 irq)
{
    if (irq != 7 && irq != 15)
        return 0;
    out8(irq == 7 ? FIRST : SECOND, READ_IN_SERVICE);
    if (in8(irq == 7 ? FIRST : SECOND) & 0x80)
        return 0;
    if (irq == 15)
        out8(FIRST, END_OF_INTERRUPT);  /* the cascade line was real */
    return 1;
}

void pic_end_of_interrupt(u32 irq)
{
    if (irq >= 8)
        out8(SECOND, END_OF_INTERRUPT);
    out8(FIRST, END_OF_INTERRUPT);
}
