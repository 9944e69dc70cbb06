/* Free physical memory, by frames of 4 KB, with a count of users for each: fork shares frames.

   first_free                                                             memory_end
      |  users[] and next[], one entry a frame |  handed out before, maybe in the free list  |  never touched  |
                                                                                             ^ fresh            */

#include "kernel.h"
#include "x86.h"

static u32 fresh, end;          /* physical addresses of frames that nobody has used yet */
static u32 free_list;           /* frame number of the first free frame, 0 = none */
static u32 free_count;
static u16 *users;              /* by frame number */
static u32 *next;

void frames_init(u32 first_free, u32 memory_end)
{
    u32 frames = memory_end >> PAGE_SHIFT;
    next = physical(first_free);
    users = (u16 *)(next + frames);
    memset(users, 0, frames * sizeof *users);
    fresh = (physical_address(users + frames) + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1);
    end = memory_end & ~(PAGE_BYTES - 1);
    free_count = (end - fresh) >> PAGE_SHIFT;
}

u32 frame_allocate(void)
{
    u32 flags = critical_enter();
    u32 frame = 0;
    if (free_list) {
        frame = free_list << PAGE_SHIFT;
        free_list = next[free_list];
    } else if (fresh < end) {
        frame = fresh;
        fresh += PAGE_BYTES;
    }
    if (frame) {
        users[frame >> PAGE_SHIFT] = 1;
        free_count--;
    }
    critical_leave(flags);
    return frame;
}

void frame_share(u32 frame)
{
    u32 flags = critical_enter();
    users[frame >> PAGE_SHIFT]++;
    critical_leave(flags);
}

void frame_release(u32 frame)
{
    u32 number = frame >> PAGE_SHIFT;
    u32 flags = critical_enter();
    if (users[number] == 0)
        panic("frame %x released twice", frame);
    if (--users[number] == 0) {
        next[number] = free_list;
        free_list = number;
        free_count++;
    }
    critical_leave(flags);
}

u32 frame_users(u32 frame) { return users[frame >> PAGE_SHIFT]; }
#ifdef MEMORY
u32 *frame_chain(u32 frame) { return &next[frame >> PAGE_SHIFT]; }
#endif
u32 frames_free(void) { return free_count; }
