/* Does this processor behave? Two questions that a kernel in ring 0 need never ask.

   Deprivileged, check_cpu prints what the processor really has, and check_timer never comes back: POPF did not turn
   interrupts on again, and nobody was told. */

#include "kernel.h"
#include "x86.h"

enum { WAIT_TICKS = 3 };

void check_cpu(void) { kprintf("cpu: ring %u, machine status %x\n", current_ring(), machine_status()); }

void check_timer(void)
{
    interrupts_on();
    kprintf("interrupts: on\n");

    u32 flags = critical_enter();
    u32 start = timer_ticks();
    critical_leave(flags);
    kprintf("interrupts: a critical section entered and left\n");

    while (timer_ticks() - start < WAIT_TICKS)
        halt();                         /* only an interrupt ends it */
    kprintf("timer: %u ticks\n", WAIT_TICKS);
}
