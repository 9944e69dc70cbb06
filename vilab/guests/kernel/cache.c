/* Blocks of files, kept in frames that nobody else needs.

   The files are the upper part of the disk, a block each, read only. What the disk holds there is known: word i of disk
   block b is (1024 b + i) * 0x9e3779b1, so a block that arrives is checked.

   bucket[]        -->  frame --> frame --> 0          by block, to find it
   newest <--> frame <--> frame <--> ... <--> oldest   by use, to drop it

   A frame's node is in nodes[], by its number: 16 bytes for every page of configured memory, whether a host has left
   the page there or not. */

#ifdef MEMORY

#include "kernel.h"
#include "x86.h"

enum { LEFT_FREE = 16, PAGES_A_BUCKET = 2, WORDS = PAGE_BYTES / 4 };
#define PATTERN_FACTOR 0x9e3779b1u

struct node { u32 block, next_in_bucket, newer, older; };       /* frame numbers, 0 = none */

static struct node *nodes;
static u32 *bucket, buckets;
static u32 newest, oldest;
static u32 first_block, blocks;

u32 cache_tables(u32 first_free, u32 frames, u32 first, u32 count)
{
    first_block = first;
    blocks = count;
    buckets = frames / PAGES_A_BUCKET;
    nodes = physical(first_free);
    bucket = (u32 *)(nodes + frames);
    memset(nodes, 0, frames * sizeof *nodes + buckets * sizeof *bucket);
    return physical_address(bucket + buckets);
}

u32 cache_disk_block(u32 block) { return first_block + block; }

static u32 find(u32 block)
{
    u32 frame = bucket[block % buckets];
    while (frame && nodes[frame].block != block)
        frame = nodes[frame].next_in_bucket;
    return frame;
}

static void put_newest(u32 frame)
{
    nodes[frame].newer = 0;
    nodes[frame].older = newest;
    if (newest)
        nodes[newest].newer = frame;
    else
        oldest = frame;
    newest = frame;
}

static void take_from_order(u32 frame)
{
    struct node *node = &nodes[frame];
    if (node->newer)
        nodes[node->newer].older = node->older;
    else
        newest = node->older;
    if (node->older)
        nodes[node->older].newer = node->newer;
    else
        oldest = node->newer;
}

static void insert(u32 frame, u32 block)
{
    u32 *head = &bucket[block % buckets];
    nodes[frame].block = block;
    nodes[frame].next_in_bucket = *head;
    *head = frame;
    put_newest(frame);
    counts.cached_pages++;
}

static void take_out(u32 frame)
{
    u32 *link = &bucket[nodes[frame].block % buckets];
    while (*link != frame)
        link = &nodes[*link].next_in_bucket;
    *link = nodes[frame].next_in_bucket;
    take_from_order(frame);
    counts.cached_pages--;
    frame_release(frame << PAGE_SHIFT);
}

int cache_drop(void)
{
    if (!oldest)
        return 0;
    take_out(oldest);
    counts.cache_drops++;
    return 1;
}

static void check(const u32 *words, u32 block)
{
    u32 expected = cache_disk_block(block) * WORDS * PATTERN_FACTOR;
    for (u32 i = 0; i < WORDS; i++, expected += PATTERN_FACTOR)
        if (words[i] != expected) {
            counts.cache_wrong++;
            return;
        }
}

/* The block's frame number from the disk; 0 if there is no memory for it. Somebody else may have been faster. */
static u32 fetch(u32 block)
{
    if (frames_free() <= LEFT_FREE)
        cache_drop();                   /* the cache has grown as far as it may: the oldest block makes place */
    u32 frame = room_make(1) ? frame_allocate() : 0;
    if (!frame)
        return 0;
    ramdisk_lock();
    u32 found = find(block);
    if (found) {
        frame_release(frame);
    } else {
        ramdisk_transfer(DISK_READ, cache_disk_block(block), frame);
        check(physical(frame), block);
        found = frame >> PAGE_SHIFT;
        insert(found, block);
    }
    ramdisk_unlock();
    return found;
}

u32 cache_take(u32 block)
{
    if (block >= blocks)
        return 0;
    u32 frame = find(block);
    if (frame) {
        counts.cache_hits++;
        take_from_order(frame);
        put_newest(frame);
    } else {
        counts.cache_misses++;
        frame = fetch(block);
        if (!frame)
            return 0;
    }
    frame_share(frame << PAGE_SHIFT);   /* the caller's: dropped from the cache or not, it stays until released */
    return frame << PAGE_SHIFT;
}

#endif
