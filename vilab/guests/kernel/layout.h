/* Where things are. Numbers only: assembly and the linker script read this file too.

   linear address                                       physical
   0xffffffff  +---------------------------+
               | left free: a monitor may  |
               | live here                 |
   0xe0000000  +---------------------------+
               | all of physical memory,   |
               | read and write            |  0 .. memory size, at most 512 MB
   0xc0000000  +---------------------------+
   0xbffff000  | user stack, grows down    |
               |                           |
               | user heap, grows up       |  whatever frame was free
   0x08048000  | user program              |
               +---------------------------+
   0x00000000  | never mapped: a null      |
               | pointer must fault        |
               +---------------------------+

   physical 0x100000 holds the kernel, so its code runs at 0xc0100000 and up. */

#ifndef LAYOUT_H
#define LAYOUT_H

#define KERNEL_BASE        0xc0000000   /* linear = physical + KERNEL_BASE */
#define KERNEL_LOAD        0x00100000   /* physical; below 1 MB a PC has holes */
#define MEMORY_LEAST       0x00380000   /* what boot.S maps holds the kernel and its first tables; some is for programs */
#define DIRECT_MAP_MAX     0x20000000   /* no more than 512 MB are used */

#define USER_FIRST         0x08048000
#define USER_STACK_TOP     0xbffff000
#define USER_STACK_BYTES   0x00100000   /* may grow to 1 MB */
#define USER_LAST          KERNEL_BASE

#define PAGE_BYTES         4096
#define PAGE_SHIFT         12

/* Segment selectors: index in the GDT * 8 + requested privilege level. */
#define KERNEL_CODE        0x08
#define KERNEL_DATA        0x10
#define USER_CODE          0x1b
#define USER_DATA          0x23
#define TASK_STATE         0x28

/* Page-table entry, 32 bits:

    31                          12 11   9 8 7 6 5 4 3 2 1 0
   +------------------------------+------+-+-+-+-+-+-+-+-+-+
   |        frame number          | ours |G|S|D|A|C|T|U|W|P|     Intel SDM volume 3, 4.3
   +------------------------------+------+-+-+-+-+-+-+-+-+-+ */
#define PTE_PRESENT        0x001
#define PTE_WRITE          0x002
#define PTE_USER           0x004
#define PTE_ACCESSED       0x020        /* set by the processor when it uses the entry */
#define PTE_COPY_ON_WRITE  0x200        /* ours: shared, copy at the first store */
#define PTE_FLAGS          0xfff

#define CR0_PROTECTION     0x00000001   /* PE */
#define CR0_MONITOR_FPU    0x00000002   /* MP */
#define CR0_EXTENSION_TYPE 0x00000010   /* ET, always 1 */
#define CR0_WRITE_PROTECT  0x00010000   /* WP: the kernel, too, faults on read-only pages */
#define CR0_PAGING         0x80000000   /* PG */
#define CR0_VALUE          0x80010013   /* all of the above */

#define EFLAGS_RESERVED    0x00000002
#define EFLAGS_IF          0x00000200

#endif
