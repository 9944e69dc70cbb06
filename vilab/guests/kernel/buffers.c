/* A few blocks of files in memory, so that a byte more does not cost a turn of the disk.

   buffer   0      1      2      ...  7
   block    15     -      22          40
   changed  yes           no          yes      changed: newer than the disk
   used     7             9           3        when last: the one with the smallest number makes place for another

   A changed block goes to the disk when it makes place, or all of them in buffers_write, lowest block first. tinyfs.c
   never changes a block that the volume on the disk knows of, so the moment does not matter. */

#ifdef DISK

#include "kernel.h"

enum { BUFFERS = 8 };

static struct { u32 block, used; int valid, changed; } buffers[BUFFERS];
static u8 contents[BUFFERS][PAGE_BYTES] __attribute__((aligned(PAGE_BYTES)));
static u32 uses;

static u32 find(u32 block)
{
    u32 i = 0;
    while (i < BUFFERS && !(buffers[i].valid && buffers[i].block == block))
        i++;
    return i;
}

static int write_out(u32 target, u32 i)
{
    if (disk_trace)
        kprintf("tinyfs: data, block %u = sectors %u to %u\n", buffers[i].block, buffers[i].block * SECTORS_A_BLOCK,
                buffers[i].block * SECTORS_A_BLOCK + SECTORS_A_BLOCK - 1);
    if (!disk_transfer(target, TO_DISK, buffers[i].block * SECTORS_A_BLOCK, SECTORS_A_BLOCK, contents[i]))
        return 0;
    buffers[i].changed = 0;
    return 1;
}

/* A buffer for the block, with whatever is in it; BUFFERS if the one that has to go cannot be written. */
static u32 take(u32 target, u32 block)
{
    u32 oldest = 0;
    for (u32 i = 0; i < BUFFERS; i++)
        if (!buffers[i].valid) {
            oldest = i;
            break;
        } else if (buffers[i].used < buffers[oldest].used) {
            oldest = i;
        }
    if (buffers[oldest].valid && buffers[oldest].changed && !write_out(target, oldest))
        return BUFFERS;
    buffers[oldest].block = block;
    buffers[oldest].valid = buffers[oldest].changed = 0;
    return oldest;
}

static u8 *use(u32 i)
{
    buffers[i].valid = 1;
    buffers[i].used = ++uses;
    return contents[i];
}

u8 *buffer_read(u32 target, u32 block)
{
    u32 i = find(block);
    if (i == BUFFERS) {
        i = take(target, block);
        if (i == BUFFERS || !disk_transfer(target, FROM_DISK, block * SECTORS_A_BLOCK, SECTORS_A_BLOCK, contents[i]))
            return NULL;
    }
    return use(i);
}

u8 *buffer_new(u32 target, u32 block)
{
    u32 i = find(block);
    if (i == BUFFERS)
        i = take(target, block);
    if (i == BUFFERS)
        return NULL;
    memset(contents[i], 0, PAGE_BYTES);
    return use(i);
}

void buffer_changed(u32 block)
{
    u32 i = find(block);
    if (i < BUFFERS)
        buffers[i].changed = 1;
}

/* The block is free: what is in it is of no interest any more. */
void buffer_forget(u32 block)
{
    u32 i = find(block);
    if (i < BUFFERS)
        buffers[i].valid = buffers[i].changed = 0;
}

void buffers_forget(void)
{
    for (u32 i = 0; i < BUFFERS; i++)
        buffers[i].valid = buffers[i].changed = 0;
}

static u32 lowest_changed(void)
{
    u32 lowest = BUFFERS;
    for (u32 i = 0; i < BUFFERS; i++)
        if (buffers[i].valid && buffers[i].changed && (lowest == BUFFERS || buffers[i].block < buffers[lowest].block))
            lowest = i;
    return lowest;
}

int buffers_write(u32 target)
{
    for (u32 i; (i = lowest_changed()) < BUFFERS; )
        if (!write_out(target, i))
            return 0;
    return 1;
}

#endif
