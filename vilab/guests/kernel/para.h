/* x86.h of the paravirtual kernel: the same functions, without one instruction that needs ring 0. */

#ifndef PARA_H
#define PARA_H

#include "hypercall.h"
#include "layout.h"
#include "types.h"

static inline int hypercall(u32 number, u32 a, u32 b)
{
    int answer;
    asm volatile("int 0x82" : "=a"(answer) : "a"(number), "b"(a), "c"(b) : "memory");
    return answer;
}

/* Ports are the one thing left to trap: a machine's worth of devices would need a call each. */
static inline u8 in8(u16 port)
{
    u8 value;
    asm volatile("in %0, %1" : "=a"(value) : "Nd"(port));
    return value;
}

static inline void out8(u16 port, u8 value) { asm volatile("out %1, %0" : : "a"(value), "Nd"(port)); }
static inline void out16(u16 port, u16 value) { asm volatile("out %1, %0" : : "a"(value), "Nd"(port)); }
static inline void out32(u16 port, u32 value) { asm volatile("out %1, %0" : : "a"(value), "Nd"(port)); }

static inline u16 in16(u16 port)
{
    u16 value;
    asm volatile("in %0, %1" : "=a"(value) : "Nd"(port));
    return value;
}

static inline u32 in32(u16 port)
{
    u32 value;
    asm volatile("in %0, %1" : "=a"(value) : "Nd"(port));
    return value;
}

static inline volatile u32 *shared(u32 address) { return (volatile u32 *)address; }

static inline u32 read_cr2(void) { return *shared(SHARED_CR2); }
static inline void write_cr3(u32 value) { hypercall(HYPERCALL_CR3, value, 0); }
static inline void invalidate_page(u32 address) { hypercall(HYPERCALL_INVALIDATE, address, 0); }

static inline void interrupts_off(void)
{
    *shared(SHARED_FLAGS) = 0;
    asm volatile("" : : : "memory");
}

static inline void interrupts_on(void)
{
    asm volatile("" : : : "memory");
    *shared(SHARED_FLAGS) = EFLAGS_IF;
    if (*shared(SHARED_PENDING))
        hypercall(HYPERCALL_EVENTS, 0, 0);
}

static inline void halt(void) { hypercall(HYPERCALL_HALT, 0, 0); }
static inline void interrupts_on_and_halt(void) { hypercall(HYPERCALL_ENABLE_HALT, 0, 0); }

static inline u32 critical_enter(void)
{
    u32 flags = *shared(SHARED_FLAGS);
    interrupts_off();
    return flags;
}

static inline void critical_leave(u32 flags)
{
    if (flags & EFLAGS_IF)
        interrupts_on();
}

static inline u32 current_ring(void) { return *shared(SHARED_RING); }
static inline u32 machine_status(void) { return *shared(SHARED_CR0) & 0xffff; }

/* Page-table entries that are in use are changed by the monitor, many with one call. */
void pte_set(u32 *entry, u32 value);
u32 pte_get(const u32 *entry);
void pte_flush(void);

#endif
