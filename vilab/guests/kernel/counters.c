/* What the memory of this kernel is used for, in numbers, and the system calls that only it has. */

#ifdef MEMORY

#include "kernel.h"
#include "syscall_numbers.h"
#include "x86.h"

struct memory_counts counts;

static int read_counter(u32 index, struct counter *to)
{
    const struct { const char *name; u32 value; } all[] = {
        { "memory_pages", memory_pages() },             /* as configured */
        { "free_pages", frames_free() },
        { "cached_pages", counts.cached_pages },        /* blocks of files in memory */
        { "balloon_pages", counts.balloon_pages },
        { "balloon_target_pages", counts.balloon_target },
        { "balloon_rate_pages", counts.balloon_rate },  /* most that it takes in a second */
        { "balloon_refusals", counts.balloon_refusals },
        { "balloon_resets", counts.balloon_resets },
        { "balloon_host", counts.balloon_host },        /* 1: there is one */
        { "swap_slots", counts.swap_slots },
        { "swapped_pages", counts.swapped_pages },      /* slots in use */
        { "page_ins", counts.page_ins },
        { "page_outs", counts.page_outs },
        { "page_drops", counts.page_drops },            /* text that went without being written */
        { "cache_hits", counts.cache_hits },
        { "cache_misses", counts.cache_misses },
        { "cache_drops", counts.cache_drops },
        { "cache_wrong", counts.cache_wrong },          /* blocks that did not hold what they should */
        { "ticks", timer_ticks() },
        { "ticks_a_second", timer_hz() },
    };
    if (index >= sizeof all / sizeof *all)
        return -1;
    memcpy(to->name, all[index].name, strlen(all[index].name) + 1);
    to->value = all[index].value;
    return 0;
}

static int do_counter(u32 index, u32 to)
{
    struct counter counter = { 0 };
    if (!space_allows(&current->space, to, sizeof counter, 1) || read_counter(index, &counter) < 0)
        return -1;
    memcpy((void *)to, &counter, sizeof counter);
    return 0;
}

/* The copy may sleep: the program's own page may have to come first. */
static int do_file(u32 block, u32 to)
{
    u32 frame = space_allows(&current->space, to, PAGE_BYTES, 1) ? cache_take(block) : 0;
    if (!frame)
        return -1;
    memcpy((void *)to, physical(frame), PAGE_BYTES);
    frame_release(frame);
    return cache_disk_block(block);
}

int memory_syscall(u32 number, u32 a, u32 b)
{
    switch (number) {
    case SYSCALL_COUNTER: return do_counter(a, b);
    case SYSCALL_FILE: return do_file(a, b);
    case SYSCALL_LOCK: current->space.locked = a; return 0;
    default: return -1;
    }
}

#endif
