/* An address space: the regions that a program may use, and the page tables filled so far.

   Regions say what is allowed and what belongs there; pages appear when they are touched (fault.c). fork copies
   regions and tables but no page: both sides keep the frame, without the right to write. */

#include "kernel.h"
#include "x86.h"

enum { TABLE_BYTES = 1024 * PAGE_BYTES };

int space_create(struct space *space)
{
    memset(space, 0, sizeof *space);
    space->directory = paging_new_directory();
    return space->directory != 0;
}

void space_add(struct space *space, u32 start, u32 end, int writable, const u8 *contents, u32 contents_bytes)
{
    struct region *region = &space->region[space->regions++];
    *region = (struct region){ start, end, writable, contents, contents_bytes };
}

struct region *space_find(struct space *space, u32 address)
{
    for (u32 i = 0; i < space->regions; i++)
        if (address >= space->region[i].start && address < space->region[i].end)
            return &space->region[i];
    return NULL;
}

/* May the program itself use all of these bytes? Asked before the kernel follows a pointer that a program gave it. */
int space_allows(struct space *space, u32 address, u32 bytes, int write)
{
    if (address + bytes < address)
        return 0;
    for (u32 end = address + bytes; address < end; ) {
        struct region *region = space_find(space, address);
        if (!region || (write && !region->writable))
            return 0;
        address = region->end;
    }
    return 1;
}

/* Calls visit for each user entry that leads to a page, in memory or swapped out. */
static int each_page(struct space *space, int (*visit)(void *data, u32 address, u32 *entry), void *data)
{
    u32 *directory = physical(space->directory);
    for (u32 base = 0; base < USER_LAST; base += TABLE_BYTES) {
        if (!(directory[base / TABLE_BYTES] & PTE_PRESENT))
            continue;
        u32 *table = physical(directory[base / TABLE_BYTES] & ~PTE_FLAGS);
        for (u32 i = 0; i < 1024; i++)
            if (pte_in_use(table[i]))
                if (!visit(data, base + i * PAGE_BYTES, &table[i]))
                    return 0;
    }
    return 1;
}

static int share_page(void *child, u32 address, u32 *entry)
{
    u32 *copy = paging_entry(((struct space *)child)->directory, address, 1);
    if (!copy)
        return 0;
    if (swap_holds(*entry)) {
        swap_share(*entry);
        pte_set(copy, *entry);
        return 1;
    }
    if (*entry & PTE_WRITE)
        pte_set(entry, (*entry & ~PTE_WRITE) | PTE_COPY_ON_WRITE);
    frame_share(*entry & ~PTE_FLAGS);
    pte_set(copy, pte_get(entry));
    return 1;
}

int space_copy(struct space *to, struct space *from)
{
    *to = *from;
    to->directory = paging_new_directory();
    if (!to->directory)
        return 0;
    int done = each_page(from, share_page, to);
    pte_flush();
    write_cr3(from->directory);         /* its writable pages are read-only now: forget what is cached */
    if (!done)
        space_destroy(to);
    return done;
}

static int release_page(void *data, u32 address, u32 *entry)
{
    (void)data, (void)address;
    if (swap_holds(*entry)) {
        swap_release(*entry);
        return 1;
    }
    frame_release(*entry & ~PTE_FLAGS);
    return 1;
}

/* Gives back pages, tables and directory. The space must not be the one in CR3. */
void space_destroy(struct space *space)
{
    u32 *directory = physical(space->directory);
    each_page(space, release_page, NULL);
    for (u32 i = 0; i < USER_LAST / TABLE_BYTES; i++)
        if (directory[i] & PTE_PRESENT)
            frame_release(directory[i] & ~PTE_FLAGS);
    frame_release(space->directory);
    space->directory = 0;
}
