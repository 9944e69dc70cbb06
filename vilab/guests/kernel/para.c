/* Changes of page-table entries, collected. A native kernel has none of this: a store does it.

   queue   [ physical address of an entry | value ] [ ... ] ...     --one hypercall-->   the monitor

   pte_get looks here first. Whoever needs the changes to count flushes. */

#ifdef PARA

#include "kernel.h"
#include "x86.h"

enum { QUEUE = 64 };

/* Tells a loader what this kernel was built for (ELF 1.2, figure 2-3). */
static const struct { u32 name_bytes, value_bytes, type; char name[8]; u32 version; } note
    __attribute__((used, section(".note.vilab"))) = { 6, 4, 1, "vilab", 1 };

static struct { u32 entry, value; } queue[QUEUE];
static u32 queued;

void pte_flush(void)
{
    u32 count = queued;
    queued = 0;
    if (count && hypercall(HYPERCALL_MMU_UPDATE, (u32)queue, count) != (int)count)
        panic("the monitor has refused a page-table update");
}

void pte_set(u32 *entry, u32 value)
{
    queue[queued].entry = physical_address(entry);
    queue[queued].value = value;
    if (++queued == QUEUE)
        pte_flush();
}

u32 pte_get(const u32 *entry)
{
    for (u32 i = queued; i--; )
        if (queue[i].entry == physical_address(entry))
            return queue[i].value;
    return *entry;
}

#endif
