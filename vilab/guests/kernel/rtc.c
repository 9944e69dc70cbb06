/* Slow ticks: the clock chip MC146818 interrupts 2, 4, 8 ... 8192 times a second (register A, bits 3 .. 0).

   hz = 32768 >> (rate - 1)         rate 15: 2     14: 4     13: 8     12: 16

   The interval timer cannot do less than 18.2. An idle guest that ticks twice a second costs little to run. */

#ifdef MEMORY

#include "kernel.h"
#include "x86.h"

enum {
    INDEX = 0x70, DATA = 0x71,
    REGISTER_A = 0x0a, REGISTER_B = 0x0b, REGISTER_C = 0x0c,
    DIVIDER_RUNS = 0x20, PERIODIC_INTERRUPT = 0x40,
    SLOWEST_RATE = 15, SLOWEST_HZ = 2,
};

static u8 read_register(u8 index)
{
    out8(INDEX, index);
    return in8(DATA);
}

static void write_register(u8 index, u8 value)
{
    out8(INDEX, index);
    out8(DATA, value);
}

/* The next power of two that is not above hz. */
u32 rtc_start(u32 hz)
{
    u32 rate = SLOWEST_RATE, exact = SLOWEST_HZ;
    while (exact * 2 <= hz) {
        exact *= 2;
        rate--;
    }
    write_register(REGISTER_A, DIVIDER_RUNS | rate);
    write_register(REGISTER_B, read_register(REGISTER_B) | PERIODIC_INTERRUPT);
    pic_unmask(IRQ_RTC);
    return exact;
}

/* Reading register C takes the interrupt back; without it there is never another. */
void rtc_acknowledge(void) { read_register(REGISTER_C); }

#endif
