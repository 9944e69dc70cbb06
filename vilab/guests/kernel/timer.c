/* The 8254 interval timer: channel 0, divided down to 100 interrupts a second. */

#include "kernel.h"
#include "x86.h"

enum {
    CHANNEL_0 = 0x40, MODE = 0x43,
    MODE_CHANNEL_0_RATE = 0x34,         /* low byte then high byte, mode 2: rate generator */
    INPUT_HZ = 1193182, TICKS_PER_SECOND = 100, DIVISOR = INPUT_HZ / TICKS_PER_SECOND,
    SLICE_TICKS = 2,
};

static volatile u32 ticks;

#ifdef MEMORY
/* Boot option hz=N. Below 19 the divisor would not fit into 16 bits: channel 0 is stopped, and the clock chip ticks. */
enum { MODE_CHANNEL_0_STOP = 0x30, LEAST_HZ = INPUT_HZ / 0x10000 + 1, MOST_HZ = 1000 };

static u32 hz;

void timer_init(void)
{
    hz = boot_number("hz", TICKS_PER_SECOND);
    if (hz > MOST_HZ)
        hz = MOST_HZ;
    if (hz < LEAST_HZ) {
        out8(MODE, MODE_CHANNEL_0_STOP);
        hz = rtc_start(hz);
        return;
    }
    out8(MODE, MODE_CHANNEL_0_RATE);
    out8(CHANNEL_0, INPUT_HZ / hz & 0xff);
    out8(CHANNEL_0, INPUT_HZ / hz >> 8);
    pic_unmask(IRQ_TIMER);
}

u32 timer_hz(void) { return hz; }
#else
void timer_init(void)
{
    out8(MODE, MODE_CHANNEL_0_RATE);
    out8(CHANNEL_0, DIVISOR & 0xff);
    out8(CHANNEL_0, DIVISOR >> 8);
    pic_unmask(IRQ_TIMER);
}
#endif

u32 timer_ticks(void) { return ticks; }

void timer_interrupt(void)
{
    ticks++;
    for (struct process *p = process_table; p < process_table + PROCESSES; p++)
        if (p->state == SLEEPING && p->waits_for == &ticks && (int)(ticks - p->wake_at) >= 0)
            p->state = RUNNABLE;
    if (ticks % SLICE_TICKS == 0)
        scheduler_preempt();
    lsi_tick();
    network_tick();
}

void timer_sleep(u32 count)
{
    u32 flags = critical_enter();
    current->wake_at = ticks + count;
    sleep_on((const void *)&ticks);
    critical_leave(flags);
}
