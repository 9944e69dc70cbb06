/* Swap on a SCSI disk instead of the RAM disk. Boot options:

     swapon=1              all of the disk with SCSI id 1
     swapon=0:2048+512     of disk 0, blocks 2048 to 2559: a block is 4 KB, 8 sectors, one page

   Blocks that a file system has are not taken. No more than FACTOR times the memory: each slot costs two bytes of it. */

#if defined(DISK) && defined(MEMORY)

#include "kernel.h"

enum { FACTOR = 4 };

static u32 target = NO_DISK, first, count;

static u32 read_number(const char **text)
{
    u32 value = 0;
    while (**text >= '0' && **text <= '9')
        value = value * 10 + (*(*text)++ - '0');
    return value;
}

static u32 number_after(const char **text, char sign, u32 otherwise)
{
    if (**text != sign)
        return otherwise;
    ++*text;
    return read_number(text);
}

static int is_good(u32 on, u32 from, u32 blocks)
{
    u32 there = disk_sectors(on) / SECTORS_A_BLOCK, in_use = there ? tinyfs_blocks_on(on) : 0;
    if (!there)
        kprintf("swap: there is no disk scsi %u\n", on);
    else if (!blocks || from >= there || blocks > there - from)
        kprintf("swap: scsi %u has %u blocks of 4 KB, and no %u from %u on\n", on, there, blocks, from);
    else if (in_use == ~0u)
        kprintf("swap: scsi %u cannot be read\n", on);
    else if (from < in_use)
        kprintf("swap: a file system has block %u of scsi %u\n", from, on);
    else
        return 1;
    return 0;
}

u32 swap_disk_find(void)
{
    u32 length;
    const char *text = boot_option("swapon", &length);
    if (!length)
        return 0;
    u32 on = read_number(&text), from = number_after(&text, ':', 0);
    u32 there = disk_sectors(on) / SECTORS_A_BLOCK;
    u32 blocks = number_after(&text, '+', there > from ? there - from : 0);
    if (!is_good(on, from, blocks))
        return 0;
    target = on, first = from, count = blocks;
    if (count > FACTOR * memory_pages())
        count = FACTOR * memory_pages();
    kprintf("swap: scsi %u, %u blocks from %u on\n", target, count, first);
    return count;
}

int swap_disk_used(void) { return target != NO_DISK; }

u32 swap_disk_leaves(u32 on, u32 blocks) { return on == target && first < blocks ? first : blocks; }

/* True if it is done. */
int swap_disk_transfer(u32 command, u32 block, u32 frame)
{
    return disk_transfer(target, command == DISK_READ ? FROM_DISK : TO_DISK, (first + block) * SECTORS_A_BLOCK,
                         SECTORS_A_BLOCK, physical(frame));
}

#endif
