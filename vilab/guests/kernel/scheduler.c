/* Who runs next: round robin over the processes that can.

                    timer: slice over, yield
                  +-------------------------+
                  v                         |
   fork -->  RUNNABLE  --- schedule --->  running  --- exit --->  ZOMBIE  --- wait by the parent --->  UNUSED
                  ^                         |
                  +------- SLEEPING <-------+
                  wake_up           sleep_on

   User code is preempted; kernel code runs until it sleeps or returns. Process 0 is the idle loop. */

#include "kernel.h"
#include "x86.h"

void switch_stacks(u32 *save_esp, u32 load_esp);

static int slice_is_over;

static struct process *next_runnable(void)
{
    u32 from = current - process_table;
    for (u32 i = 1; i <= PROCESSES; i++) {
        struct process *process = &process_table[(from + i) % PROCESSES];
        if (process->state == RUNNABLE && process != &process_table[0])
            return process;
    }
    return &process_table[0];
}

void schedule(void)
{
    struct process *previous = current, *next = next_runnable();
    slice_is_over = 0;
    if (next == previous)
        return;
    current = next;
    tss_set_kernel_stack((u32)physical(next->stack) + PAGE_BYTES);
    write_cr3(next->space.directory);
    switch_stacks(&previous->saved_esp, next->saved_esp);
}

void scheduler_preempt(void) { slice_is_over = 1; }

void scheduler_return_to_user(void)
{
    if (slice_is_over)
        schedule();
}

void sleep_on(const void *event)
{
    current->waits_for = event;
    current->state = SLEEPING;
    schedule();
}

void wake_up(const void *event)
{
    for (struct process *p = process_table; p < process_table + PROCESSES; p++)
        if (p->state == SLEEPING && p->waits_for == event)
            p->state = RUNNABLE;
}

void idle(void)
{
    for (;;) {
        interrupts_off();
        schedule();
        interrupts_on_and_halt();
    }
}
