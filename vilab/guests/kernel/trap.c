/* The interrupt descriptor table, and what happens for each vector.

   0 .. 31    exceptions             32 .. 47   the 16 lines of the PIC            0x80   system calls, open to ring 3

   A gate, 8 bytes (Intel SDM volume 3, 6.11):

    63             48 47 46 45 44  40 39        32 31             16 15              0
   +-----------------+--+-----+------+------------+-----------------+-----------------+
   | handler 31 .. 16|P | DPL | 01110|     0      |    selector     | handler 15 .. 0 |     01110: interrupt gate,
   +-----------------+--+-----+------+------------+-----------------+-----------------+     entry clears IF */

#include "kernel.h"
#include "x86.h"

enum { IRQS = 16, USER_RING = 3, FAULT_WRITE = 2 };

extern const u32 trap_stubs[VECTOR_IRQ + IRQS], trap_stub_syscall;
static u64 idt[256];

static const char *const exception_names[VECTOR_IRQ] = {
    "divide error", "debug", "NMI", "breakpoint", "overflow", "bound range", "invalid opcode", "no FPU",
    "double fault", "FPU segment", "invalid TSS", "segment not present", "stack segment", "general protection",
    "page fault", "reserved", "FPU error", "alignment", "machine check", "SIMD error",
};

static u64 gate(u32 handler, u32 ring)
{
    u32 low = (u32)KERNEL_CODE << 16 | (handler & 0xffff);
    u32 high = (handler & 0xffff0000) | 1 << 15 | ring << 13 | 0xe << 8;
    return (u64)high << 32 | low;
}

void trap_init(void)
{
    for (u32 vector = 0; vector < VECTOR_IRQ + IRQS; vector++)
        idt[vector] = gate(trap_stubs[vector], 0);
    idt[VECTOR_SYSCALL] = gate(trap_stub_syscall, USER_RING);
    struct { u16 limit; u32 base; } __attribute__((packed)) idtr = { sizeof idt - 1, (u32)idt };
#ifdef PARA
    hypercall(HYPERCALL_IDT, (u32)&idtr, 0);
#else
    asm volatile("lidt [%0]" : : "r"(&idtr) : "memory");
#endif
}

static void interrupt(u32 irq)
{
    if (pic_is_spurious(irq))
        return;
    if (irq == IRQ_TIMER)
        timer_interrupt();
    else if (irq == IRQ_COM1)
        uart_interrupt();
    else if (lsi_has_irq(irq))
        lsi_interrupt();
#ifdef MEMORY
    else if (irq == IRQ_RAMDISK)
        ramdisk_interrupt();
    else if (irq == IRQ_RTC) {
        rtc_acknowledge();
        timer_interrupt();
    }
#endif
    if (pcnet_has_irq(irq))             /* it may share the line with a disk adapter: each looks for itself */
        pcnet_interrupt();
    pic_end_of_interrupt(irq);
}

/* An exception: curable, the program's end, or the kernel's. */
static void exception(struct trap_frame *frame)
{
    int page_fault = frame->vector == VECTOR_PAGE_FAULT;
    u32 address = page_fault ? read_cr2() : 0;
    int of_program = page_fault && current->pid && space_find(&current->space, address);
    if (of_program && fault_resolve(&current->space, address, frame->error))
        return;

    /* A system call that touches the program's memory when there is none left is the program's fault, too. */
    const char *name = exception_names[frame->vector] ? exception_names[frame->vector] : "reserved";
    if ((frame->cs & 3) != USER_RING && !of_program)
        panic("%s in the kernel, eip %x, error %x, address %x", name, frame->eip, frame->error, address);
    if (page_fault)
        kprintf("kernel: %s (pid %u) killed: page fault at eip %x, %s address %x\n", current->name, current->pid,
                frame->eip, frame->error & FAULT_WRITE ? "writing" : "reading", address);
    else
        kprintf("kernel: %s (pid %u) killed: %s at eip %x\n", current->name, current->pid, name, frame->eip);
    process_exit(128 + frame->vector);
}

/* Called by trap.S with interrupts off. */
void trap(struct trap_frame *frame)
{
    if (frame->vector == VECTOR_SYSCALL) {
        interrupts_on();                /* a system call may take its time */
        syscall(frame);
        interrupts_off();
    } else if (frame->vector >= VECTOR_IRQ) {
        interrupt(frame->vector - VECTOR_IRQ);
    } else {
        exception(frame);
    }
    if ((frame->cs & 3) == USER_RING)
        scheduler_return_to_user();
}
