/* What the kernel built with -DMEMORY has beyond the others: more memory than there is, and a host that wants some back.

                       frames.c: free frames
                      ^                     |
       room.c makes room                    v
         1. cache.c drops file blocks    programs, tables, stacks
         2. swap.c writes pages out      cache.c: blocks of files
                      |                  balloon.c: pages that the host has taken
                      v
                  ramdisk.c

   Without -DMEMORY the functions below that the rest of the kernel calls do nothing. */

#ifndef MEMORY_H
#define MEMORY_H

#include "types.h"

struct space;
struct region;

#ifdef MEMORY

/* Entry of a page that is on the disk: not present, so the processor does not care about the other bits.

    31                          12 11           1 0
   +------------------------------+---+-+--------+-+
   |             slot             | 0 |1|   0    |0|
   +------------------------------+---+-+--------+-+ */
#define PTE_SWAPPED 0x400

/* room.c: frame_allocate never sleeps, room_make does; so it is called first, where a sleep is harmless. */
u32 memory_tables(u32 first_free, u32 memory_end);      /* takes what they need; where memory is free behind them */
void memory_start(void);
int room_make(u32 frames);                              /* true if so many are free now */
int room_for_fork(void);
u32 memory_pages(void);                                 /* as configured, whoever has them */

/* ramdisk.c */
enum { IRQ_RAMDISK = 5, DISK_READ = 1, DISK_WRITE = 2 };
u32 ramdisk_find(void);                                 /* how many blocks it has, 0: there is none */
void ramdisk_interrupt(void);
void ramdisk_lock(void);                                /* one user at a time; sleeps */
void ramdisk_unlock(void);
void ramdisk_transfer(u32 command, u32 block, u32 frame);       /* sleeps until it is done */

/* swap.c */
u32 swap_tables(u32 first_free, u32 slots);
int swap_out(void);                                     /* with the disk locked; true if a page has gone */
int swap_in(const struct region *region, u32 *entry);
static inline int swap_holds(u32 entry) { return (entry & PTE_SWAPPED) != 0; }
void swap_share(u32 entry);                             /* one more entry means the same slot */
void swap_release(u32 entry);
static inline int pte_in_use(u32 entry) { return entry != 0; }

/* cache.c */
u32 cache_tables(u32 first_free, u32 frames, u32 first_block, u32 blocks);
u32 cache_take(u32 block);                              /* its frame, for the caller to release; 0: no such block */
int cache_drop(void);                                   /* true if a block has gone */
u32 cache_disk_block(u32 block);

/* balloon.c */
void balloon_start(void);

/* rtc.c */
enum { IRQ_RTC = 8 };
u32 rtc_start(u32 hz);                                  /* the rate that it can do */
void rtc_acknowledge(void);

/* counters.c */
struct memory_counts {
    u32 swap_slots, swapped_pages, page_ins, page_outs, page_drops;
    u32 cached_pages, cache_hits, cache_misses, cache_drops, cache_wrong;
    u32 balloon_host, balloon_pages, balloon_target, balloon_rate, balloon_refusals, balloon_resets;
};
extern struct memory_counts counts;
int memory_syscall(u32 number, u32 a, u32 b);

/* frames.c, timer.c, process.c, main.c */
u32 *frame_chain(u32 frame);                            /* a word for whoever has allocated the frame */
u32 timer_hz(void);
void process_start_thread(const char *name, void (*run)(void));
u32 boot_number(const char *name, u32 otherwise);

#else

static inline u32 memory_tables(u32 first_free, u32 memory_end) { (void)memory_end; return first_free; }
static inline void memory_start(void) { }
static inline int room_make(u32 frames) { (void)frames; return 1; }
static inline int room_for_fork(void) { return 1; }
static inline int swap_in(const struct region *region, u32 *entry) { (void)region, (void)entry; return 0; }
static inline int swap_holds(u32 entry) { (void)entry; return 0; }
static inline void swap_share(u32 entry) { (void)entry; }
static inline void swap_release(u32 entry) { (void)entry; }
static inline int pte_in_use(u32 entry) { return entry & 1; }
static inline int memory_syscall(u32 number, u32 a, u32 b) { (void)number, (void)a, (void)b; return -1; }

#endif
#endif
