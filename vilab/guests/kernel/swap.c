/* Pages of programs on the disk.

                      swap_out: the hand's choice
        present entry ----------------------------> entry of a slot, frame free
                      <----------------------------
                      swap_in: the next page fault

   The hand of a clock goes around all pages of all processes. A page that was used since it last passed has its
   Accessed bit set by the processor: the hand clears the bit and goes on. A page that was not used goes.

        process 1      | A . A . . . |        process 3  | . A A |
                             ^ hand                                   then process 1 again

   fork lets two entries mean one slot, as they would mean one frame: slot_users counts them. Each reads it into a frame
   of its own, so copy on write has nothing left to do.

   Never out: pages of a program that has asked for it (SYSCALL_LOCK), and what no entry of a program leads to: the
   kernel, its tables and stacks, blocks of files, the balloon. */

#ifdef MEMORY

#include "kernel.h"
#include "x86.h"

enum { TABLE_BYTES = 1024 * PAGE_BYTES, SLOT_BAD = 0xffff };

static u16 *slot_users;
static u32 next_slot;                           /* where the search for a free one goes on */
static struct { u32 process, address; } hand;

u32 swap_tables(u32 first_free, u32 slots)
{
    counts.swap_slots = slots;
    slot_users = physical(first_free);
    memset(slot_users, 0, slots * sizeof *slot_users);
    return (first_free + slots * sizeof *slot_users + 3) & ~3u;
}

static int has_pages(const struct process *process)
{
    return (process->state == RUNNABLE || process->state == SLEEPING) && process->space.regions;
}

/* The first present entry at or after *address, which moves to its page; NULL if there is none. */
static u32 *next_page(const struct space *space, u32 *address)
{
    const u32 *directory = physical(space->directory);
    while (*address < USER_LAST) {
        u32 table = directory[*address / TABLE_BYTES];
        if (!(table & PTE_PRESENT)) {
            *address = (*address & ~(TABLE_BYTES - 1)) + TABLE_BYTES;
            continue;
        }
        u32 *entry = (u32 *)physical(table & ~PTE_FLAGS) + *address % TABLE_BYTES / PAGE_BYTES;
        if (*entry & PTE_PRESENT)
            return entry;
        *address += PAGE_BYTES;
    }
    return NULL;
}

/* A translation can be cached only of the space that is in CR3: loading CR3 forgets all others. */
static void change_entry(const struct process *process, u32 address, u32 *entry, u32 value)
{
    pte_set(entry, value);
    if (process == current)
        invalidate_page(address);
}

/* Calls visit for each entry that maps the frame, of whatever process; stops when it says no. */
static int each_mapping(u32 frame, int (*visit)(struct process *process, u32 address, u32 *entry, u32 data), u32 data)
{
    for (struct process *p = process_table; p < process_table + PROCESSES; p++) {
        u32 *entry;
        for (u32 address = 0; has_pages(p) && (entry = next_page(&p->space, &address)); address += PAGE_BYTES)
            if ((*entry & ~PTE_FLAGS) == frame && !visit(p, address, entry, data))
                return 0;
    }
    return 1;
}

static int may_go(struct process *process, u32 address, u32 *entry, u32 data)
{
    (void)address, (void)entry, (void)data;
    return !process->space.locked;
}

static int send_to_slot(struct process *process, u32 address, u32 *entry, u32 slot)
{
    change_entry(process, address, entry, slot << PAGE_SHIFT | PTE_SWAPPED);
    slot_users[slot]++;
    return 1;
}

struct page { struct process *process; u32 address, *entry; };

/* Two rounds at most: the first one clears the Accessed bits, and in the second one somebody is without. */
static int choose(struct page *page)
{
    for (u32 passed = 0; passed <= 2 * PROCESSES; ) {
        struct process *process = &process_table[hand.process];
        int looks = has_pages(process) && !process->space.locked;
        u32 *entry = looks ? next_page(&process->space, &hand.address) : NULL;
        if (!entry) {
            hand.process = (hand.process + 1) % PROCESSES;
            hand.address = 0;
            passed++;
            continue;
        }
        u32 address = hand.address;
        hand.address += PAGE_BYTES;
        if (*entry & PTE_ACCESSED) {
            change_entry(process, address, entry, *entry & ~PTE_ACCESSED);
            continue;
        }
        u32 frame = *entry & ~PTE_FLAGS;
        if (frame_users(frame) > 1 && !each_mapping(frame, may_go, 0))
            continue;
        *page = (struct page){ process, address, entry };
        return 1;
    }
    return 0;
}

/* Next fit; counts.swap_slots if all are taken. */
static u32 find_slot(void)
{
    for (u32 i = 0; i < counts.swap_slots; i++) {
        u32 slot = (next_slot + i) % counts.swap_slots;
        if (!slot_users[slot]) {
            next_slot = slot + 1;
            return slot;
        }
    }
    return counts.swap_slots;
}

/* True if it is done: the RAM disk never fails. */
static int swap_transfer(u32 command, u32 slot, u32 frame)
{
    if (swap_disk_used())
        return swap_disk_transfer(command, slot, frame);
    ramdisk_transfer(command, slot, frame);
    return 1;
}

static void back_to_frame(struct process *process, u32 slot, u32 value)
{
    for (u32 i = 0; i < process->space.regions; i++) {
        const struct region *region = &process->space.region[i];
        for (u32 address = region->start & ~(PAGE_BYTES - 1); address < region->end; address += PAGE_BYTES) {
            u32 *entry = paging_entry(process->space.directory, address, 0);
            if (!entry || *entry != (slot << PAGE_SHIFT | PTE_SWAPPED))
                continue;
            change_entry(process, address, entry, value);
            frame_share(value & ~PTE_FLAGS);
        }
    }
}

/* The disk has refused the page: it stays where it is, and the slot is never used again. Meanwhile a fork may have made
   more entries that mean it. */
static void take_back(u32 slot, u32 frame, u32 flags, u32 users)
{
    if (slot_users[slot] > 1 && (flags & PTE_WRITE))
        flags = (flags & ~PTE_WRITE) | PTE_COPY_ON_WRITE;
    for (struct process *p = process_table; p < process_table + PROCESSES; p++)
        if (has_pages(p))
            back_to_frame(p, slot, frame | flags);
    while (users--)
        frame_release(frame);
    slot_users[slot] = SLOT_BAD;
    counts.swapped_pages--;
    counts.page_outs--;
}

/* The entries change before the bytes are written, so nobody can change the bytes meanwhile. Whoever wants the page back
   meanwhile waits for the disk, and finds it written. */
int swap_out(void)
{
    struct page page;
    u32 slot = find_slot();
    if (slot == counts.swap_slots || !choose(&page))
        return 0;
    u32 frame = *page.entry & ~PTE_FLAGS, flags = *page.entry & PTE_FLAGS, users = frame_users(frame);
    if (!(*page.entry & (PTE_WRITE | PTE_COPY_ON_WRITE))) {
        change_entry(page.process, page.address, page.entry, 0);        /* text: fault.c reads it again */
        frame_release(frame);
        counts.page_drops++;
        return 1;
    }
    if (users == 1)
        send_to_slot(page.process, page.address, page.entry, slot);
    else
        each_mapping(frame, send_to_slot, slot);
    counts.swapped_pages++;
    counts.page_outs++;
    if (!swap_transfer(DISK_WRITE, slot, frame)) {
        take_back(slot, frame, flags, users);
        return 0;
    }
    while (users--)
        frame_release(frame);
    return 1;
}

static u32 slot_of(u32 entry) { return entry >> PAGE_SHIFT; }

void swap_share(u32 entry) { slot_users[slot_of(entry)]++; }

void swap_release(u32 entry)
{
    if (--slot_users[slot_of(entry)] == 0)
        counts.swapped_pages--;
}

/* Room for one frame has been made. The entry is the running process's own, so nobody changes it during the sleep. */
int swap_in(const struct region *region, u32 *entry)
{
    u32 swapped = *entry, frame = frame_allocate();
    if (!frame)
        return 0;
    ramdisk_lock();
    if (swap_disk_used() && *entry != swapped) {
        ramdisk_unlock();               /* it could not be written, so it is back already */
        frame_release(frame);
        return 1;
    }
    int done = swap_transfer(DISK_READ, slot_of(swapped), frame);
    ramdisk_unlock();
    if (!done) {
        frame_release(frame);
        return 0;
    }
    pte_set(entry, frame | PTE_PRESENT | PTE_USER | (region->writable ? PTE_WRITE : 0));
    swap_release(swapped);
    counts.page_ins++;
    return 1;
}

#endif
