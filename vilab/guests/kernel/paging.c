/* Page tables: two levels, 4 KB pages.

   linear address    31        22 21        12 11         0
                    +------------+------------+------------+
                    |  directory |   table    |   offset   |
                    +------------+------------+------------+
                          |            |
   CR3 -> directory [1024 entries] -> table [1024 entries] -> frame

   Entries 768 and up of every directory are the kernel's and are the same tables in all of them, so the kernel is
   mapped whoever runs. */

#include "kernel.h"
#include "x86.h"

enum { ENTRIES = 1024, KERNEL_FIRST = KERNEL_BASE >> 22 };

extern const u8 kernel_text[], kernel_text_end[];
static u32 kernel_directory;

/* Takes one zeroed page off the memory that frames.c will manage later. */
static u32 *early_page(u32 *first_free)
{
    u32 *page = physical(*first_free);
    *first_free += PAGE_BYTES;
    memset(page, 0, PAGE_BYTES);
    return page;
}

/* Maps physical 0 .. memory_end at KERNEL_BASE; the kernel's own text and constants read-only. Drops the mapping at
   0 that boot.S needed. The new tables lie in the first 4 MB, which is all that boot.S has mapped. */
void paging_init(u32 memory_end, u32 *first_free)
{
    u32 *directory = early_page(first_free);
    u32 text = physical_address(kernel_text), text_end = physical_address(kernel_text_end);
    for (u32 address = 0; address < memory_end; ) {
        u32 *table = early_page(first_free);
        directory[KERNEL_FIRST + (address >> 22)] = physical_address(table) | PTE_PRESENT | PTE_WRITE;
        for (u32 i = 0; i < ENTRIES && address < memory_end; i++, address += PAGE_BYTES) {
            int read_only = address >= text && address < text_end;
            table[i] = address | PTE_PRESENT | (read_only ? 0 : PTE_WRITE);
        }
    }
    kernel_directory = physical_address(directory);
    write_cr3(kernel_directory);
}

u32 paging_kernel_directory(void) { return kernel_directory; }

/* A directory with the kernel's half filled in; 0 if memory is out. */
u32 paging_new_directory(void)
{
    u32 frame = frame_allocate();
    if (!frame)
        return 0;
    u32 *directory = physical(frame), *kernel = physical(kernel_directory);
    memset(directory, 0, KERNEL_FIRST * sizeof *directory);
    memcpy(directory + KERNEL_FIRST, kernel + KERNEL_FIRST, (ENTRIES - KERNEL_FIRST) * sizeof *directory);
    return frame;
}

/* The entry for a user address: where the walk ends. With create, a missing table is added; NULL if there is none. */
u32 *paging_entry(u32 directory, u32 address, int create)
{
    u32 *entry = (u32 *)physical(directory) + (address >> 22);
    if (!(*entry & PTE_PRESENT)) {
        u32 frame = create ? frame_allocate() : 0;
        if (!frame)
            return NULL;
        memset(physical(frame), 0, PAGE_BYTES);
        pte_set(entry, frame | PTE_PRESENT | PTE_WRITE | PTE_USER);
        pte_flush();
    }
    u32 *table = physical(*entry & ~PTE_FLAGS);
    return table + (address >> PAGE_SHIFT) % ENTRIES;
}
