/* The instructions that C has no words for, one function each. With -DPARA the kernel asks its monitor instead. */

#ifndef X86_H
#define X86_H

#ifdef PARA
#include "para.h"
#else

#include "types.h"

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

static inline u32 read_cr2(void)
{
    u32 value;
    asm volatile("mov %0, cr2" : "=r"(value));
    return value;
}

static inline u32 read_cr3(void)
{
    u32 value;
    asm volatile("mov %0, cr3" : "=r"(value));
    return value;
}

/* Also drops every translation that the processor has cached. */
static inline void write_cr3(u32 value) { asm volatile("mov cr3, %0" : : "r"(value) : "memory"); }

/* Drops the cached translation of one page. */
static inline void invalidate_page(u32 address) { asm volatile("invlpg [%0]" : : "r"(address) : "memory"); }

static inline void interrupts_on(void) { asm volatile("sti" : : : "memory"); }
static inline void interrupts_off(void) { asm volatile("cli" : : : "memory"); }
static inline void halt(void) { asm volatile("hlt" : : : "memory"); }

/* STI takes effect after the next instruction, so no interrupt can slip in between the two and be slept through. */
static inline void interrupts_on_and_halt(void) { asm volatile("sti\n hlt" : : : "memory"); }

/* A critical section against interrupts:

       u32 flags = critical_enter();      pushf; pop; cli
       ...
       critical_leave(flags);             push; popf

   Leaving puts IF back to what it was, so critical sections nest. It relies on PUSHF showing IF and on POPF setting
   it: true in ring 0. In any other ring (with IOPL 0) POPF leaves IF alone and says nothing. */
static inline u32 critical_enter(void)
{
    u32 flags;
    asm volatile("pushfd\n pop %0\n cli" : "=r"(flags) : : "memory");
    return flags;
}

static inline void critical_leave(u32 flags) { asm volatile("push %0\n popfd" : : "r"(flags) : "memory", "cc"); }

/* The ring is in the low two bits of CS, and anybody may look. */
static inline u32 current_ring(void)
{
    u32 selector;
    asm volatile("mov %0, cs" : "=r"(selector));
    return selector & 3;
}

/* The low half of CR0 without asking for privilege: the 286, whose instruction SMSW is, hid nothing. The upper half of
   the register is undefined (Intel SDM volume 2, SMSW). */
static inline u32 machine_status(void)
{
    u32 value;
    asm volatile("smsw %0" : "=r"(value));
    return value & 0xffff;
}

/* An entry of a page table that may be in use. */
static inline void pte_set(u32 *entry, u32 value) { *entry = value; }
static inline u32 pte_get(const u32 *entry) { return *entry; }
static inline void pte_flush(void) { }

#endif
#endif
