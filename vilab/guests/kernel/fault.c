/* Page faults that the kernel can cure.

                        page not present             present, store, copy on write
   what belongs there   program text or data         the same page as before
   cure                 take a frame, fill it        last user: allow writing; else copy it

   With -DMEMORY a page that is not present may be on the disk: then it is read from there (swap.c).

   Error code (Intel SDM volume 3, 4.7): bit 0 = the page was present, bit 1 = a store, bit 2 = from ring 3. Thanks to
   CR0.WP a store by the kernel faults like any other, so system calls may write into shared pages. */

#include "kernel.h"
#include "x86.h"

enum { PRESENT = 1, STORE = 2, FRAMES_MOST = 2 };       /* a page and its table */

static void fill(u8 *frame, const struct region *region, u32 page)
{
    u32 first = page < region->start ? region->start - page : 0;        /* a region may begin inside a page */
    u32 done = page + first - region->start;
    u32 bytes = region->contents_bytes > done ? region->contents_bytes - done : 0;
    if (bytes > PAGE_BYTES - first)
        bytes = PAGE_BYTES - first;
    memset(frame, 0, PAGE_BYTES);
    if (bytes)
        memcpy(frame + first, region->contents + done, bytes);
}

static int demand(struct region *region, u32 page, u32 *entry)
{
    u32 frame = frame_allocate();
    if (!frame)
        return 0;
    fill(physical(frame), region, page);
    pte_set(entry, frame | PTE_PRESENT | PTE_USER | (region->writable ? PTE_WRITE : 0));
    pte_flush();
    return 1;
}

static int copy_on_write(u32 page, u32 *entry)
{
    u32 shared = *entry & ~PTE_FLAGS, frame = shared;
    if (frame_users(shared) > 1) {
        frame = frame_allocate();
        if (!frame)
            return 0;
        memcpy(physical(frame), physical(shared), PAGE_BYTES);
        frame_release(shared);
    }
    pte_set(entry, frame | PTE_PRESENT | PTE_USER | PTE_WRITE);
    pte_flush();
    invalidate_page(page);
    return 1;
}

/* True if the instruction may be tried again. */
int fault_resolve(struct space *space, u32 address, u32 error)
{
    struct region *region = space_find(space, address);
    if (!region || ((error & STORE) && !region->writable))
        return 0;
    if (!room_make(FRAMES_MOST))
        return 0;                       /* making room may have taken this very page away: look at its entry now */
    u32 page = address & ~(PAGE_BYTES - 1);
    u32 *entry = paging_entry(space->directory, page, 1);
    if (!entry)
        return 0;
    if (swap_holds(*entry))
        return swap_in(region, entry);
    if (!(error & PRESENT))
        return demand(region, page, entry);
    if ((error & STORE) && (*entry & PTE_COPY_ON_WRITE))
        return copy_on_write(page, entry);
    return 0;
}
