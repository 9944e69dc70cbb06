/* Making room: what goes first when frames are short.

     1. a block of a file: it is on the disk anyway, so its frame is free at once
     2. a page of a program: text can be had again from its file, data has to be written to the disk first

   Whoever needs frames says how many before it takes them. A sleep (somebody else runs, and may take or lose pages)
   can then only be in room_make, never between looking at a page-table entry and changing it. */

#ifdef MEMORY

#include "kernel.h"
#include "x86.h"

static u32 pages;

u32 memory_pages(void) { return pages; }

/* Boot option swap=N: blocks of the disk for pages of programs; the others are files. */
u32 memory_tables(u32 first_free, u32 memory_end)
{
    pages = memory_end >> PAGE_SHIFT;
    u32 blocks = ramdisk_find();
    u32 slots_on_scsi = swap_disk_find();
    u32 slots = slots_on_scsi ? 0 : boot_number("swap", blocks / 2);
    if (slots > blocks)
        slots = blocks;
    if (blocks)
        kprintf("ramdisk: %u blocks, %u for swap, %u for files\n", blocks, slots, blocks - slots);
    first_free = swap_tables(first_free, slots_on_scsi ? slots_on_scsi : slots);
    return cache_tables(first_free, pages, slots, blocks - slots);
}

void memory_start(void)
{
    pic_unmask(IRQ_RAMDISK);
    balloon_start();
}

int room_make(u32 frames)
{
    while (frames_free() < frames) {
        if (cache_drop())
            continue;
        ramdisk_lock();
        int done = frames_free() >= frames || swap_out();
        if (!done && swap_disk_used())
            done = swap_out();                  /* a disk may have a bad sector; the next slot is another one */
        ramdisk_unlock();
        if (!done)
            return 0;
    }
    return 1;
}

/* A kernel stack, a directory, and as many tables as the parent has. */
int room_for_fork(void)
{
    const u32 *directory = physical(current->space.directory);
    u32 frames = 2;
    for (u32 i = 0; i < KERNEL_BASE >> 22; i++)
        if (directory[i] & PTE_PRESENT)
            frames++;
    return room_make(frames);
}

#endif
