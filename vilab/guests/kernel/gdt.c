/* Segments: flat, because pages do the protecting. What remains of segmentation is the ring.

   A descriptor, 8 bytes (Intel SDM volume 3, 3.4.5):

    63     56 55 54 53 52 51   48 47 46 45 44 43  40 39     32 31          16 15           0
   +---------+--+--+--+--+-------+--+-----+--+------+---------+--------------+--------------+
   | base 3  |G |B |0 |0 |limit 2|P | DPL |S | type | base 2  |  base 1, 0   |  limit 1, 0  |
   +---------+--+--+--+--+-------+--+-----+--+------+---------+--------------+--------------+ */

#include "kernel.h"
#include "x86.h"

enum {
    TYPE_DATA = 0x3, TYPE_CODE = 0xb,   /* writable, readable; both already marked accessed */
    TYPE_TSS = 0x9,
    CODE_OR_DATA = 1, SYSTEM = 0,
    PAGES = 0xc, BYTES = 0x0,           /* the limit's unit; 32-bit segment */
};

/* The processor reads two words of it: the stack to take on an entry from ring 3 (SDM volume 3, figure 7-2). */
struct task_state {
    u32 previous, esp0, ss0;
    u32 unused[22];
    u32 io_map;                         /* high half: offset of the I/O bitmap; beyond the limit = none */
};

static u64 gdt[6];
static struct task_state tss;

static u64 descriptor(u32 base, u32 limit, u32 type, u32 system, u32 ring, u32 unit)
{
    u32 low = (base << 16) | (limit & 0xffff);
    u32 high = (base & 0xff000000) | (unit << 20) | (limit & 0xf0000) | 1 << 15 | ring << 13 | system << 12 |
               type << 8 | (base >> 16 & 0xff);
    return (u64)high << 32 | low;
}

void gdt_init(void)
{
    gdt[KERNEL_CODE / 8] = descriptor(0, 0xfffff, TYPE_CODE, CODE_OR_DATA, 0, PAGES);
    gdt[KERNEL_DATA / 8] = descriptor(0, 0xfffff, TYPE_DATA, CODE_OR_DATA, 0, PAGES);
    gdt[USER_CODE / 8] = descriptor(0, 0xfffff, TYPE_CODE, CODE_OR_DATA, 3, PAGES);
    gdt[USER_DATA / 8] = descriptor(0, 0xfffff, TYPE_DATA, CODE_OR_DATA, 3, PAGES);
    gdt[TASK_STATE / 8] = descriptor((u32)&tss, sizeof tss - 1, TYPE_TSS, SYSTEM, 0, BYTES);
    tss.ss0 = KERNEL_DATA;
    tss.io_map = sizeof tss << 16;

    struct { u16 limit; u32 base; } __attribute__((packed)) gdtr = { sizeof gdt - 1, (u32)gdt };
#ifdef PARA
    /* The loader's table has the same flat segments at the same places: nothing to load again. */
    hypercall(HYPERCALL_GDT, (u32)&gdtr, 0);
    hypercall(HYPERCALL_TASK, TASK_STATE, 0);
#else
    asm volatile("lgdt [%0]\n"
                 "mov ds, %1\n mov es, %1\n mov ss, %1\n"
                 "mov fs, %2\n mov gs, %2\n"
                 "push %3\n mov eax, offset reloaded%=\n push eax\n retf\n"    /* the only way to load CS: jump, call or return to it */
                 "reloaded%=:\n"
                 "ltr %w4"
                 : : "r"(&gdtr), "r"(KERNEL_DATA), "r"(0), "i"(KERNEL_CODE), "r"(TASK_STATE) : "eax", "memory");
#endif
}

#ifdef PARA
void tss_set_kernel_stack(u32 top) { hypercall(HYPERCALL_STACK, top, 0); }
#else
void tss_set_kernel_stack(u32 top) { tss.esp0 = top; }
#endif
