/* What the paravirtual kernel (built with -DPARA) says to its monitor, and what the two share.

   A kernel in ring 1 cannot do what only ring 0 may, so it does not try: it asks. Xen's idea (Barham and others, SOSP
   2003), in an interface of our own:

       EAX = number, EBX ECX EDX = arguments        int 0x82        EAX = answer, negative: refused, nothing done

   and one page at SHARED_PAGE, mapped in every address space, which ring 3 does not see:

       offset   name      who writes   what
       0x00     FLAGS     both         bit 9: the kernel takes interrupts; CLI and STI are stores to it
       0x40     PENDING   monitor      not 0: an interrupt waits; whoever sets bit 9 has to call EVENTS then
       0x44     CR2       monitor      address of the last page fault
       0x48     RING      monitor      the ring that the kernel would be in on a machine of its own: 0
       0x4c     CR0       monitor      CR0 as this kernel has set it

   Numbers only: assembly reads this file too. vilab/vmm/hypercalls.py is the other side. */

#ifndef HYPERCALL_H
#define HYPERCALL_H

#define SHARED_PAGE            0xf0000000
#define SHARED_FLAGS           0xf0000000
#define SHARED_PENDING         0xf0000040
#define SHARED_CR2             0xf0000044
#define SHARED_RING            0xf0000048
#define SHARED_CR0             0xf000004c

#define HYPERCALL_VECTOR       0x82

#define HYPERCALL_EVENTS       0        /* () take what waits */
#define HYPERCALL_IRET         1        /* on the stack: EAX, then what IRET wants; comes back only if refused */
#define HYPERCALL_CR0          2        /* (value) */
#define HYPERCALL_CR3          3        /* (page directory, physical) */
#define HYPERCALL_INVALIDATE   4        /* (address) the translation of one page */
#define HYPERCALL_GDT          5        /* (address of limit and base, as for LGDT) */
#define HYPERCALL_IDT          6        /* (address of limit and base, as for LIDT) */
#define HYPERCALL_TASK         7        /* (selector) where the kernel's stack is found on an entry from ring 3 */
#define HYPERCALL_STACK        8        /* (ESP) that stack, from now on */
#define HYPERCALL_SEGMENTS     9        /* (DS, ES) */
#define HYPERCALL_MMU_UPDATE   10       /* (address of {physical address of an entry, value}, count) how many are done */
#define HYPERCALL_HALT         11       /* () until an interrupt */
#define HYPERCALL_ENABLE_HALT  12       /* () the same with interrupts on, in one */
#define HYPERCALL_CONSOLE      13       /* (text, bytes) to the serial line */

#define HYPERCALL_MOST_UPDATES 512
#define HYPERCALL_MOST_BYTES   4096

#endif
