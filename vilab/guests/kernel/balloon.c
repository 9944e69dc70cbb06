/* The balloon: pages that the kernel takes for itself so that the host can have the machine memory behind them.

   The kernel chooses which pages it can spare, and with what it pays: free frames, then the file cache, then pages of
   programs. The host only says how many. (Waldspurger 2002, section 3.2)

      guest memory   | programs | cache | free |          target 0
                     | programs | cache | oooo |          the host wants 4: free frames go first
                     | programs |c| oooooooooo |          10: the cache shrinks
                     |programs| oooooooooooooo |          14: programs are paged out

   The channel: IN EAX, DX from port 0x5670 with a magic number in EAX. Where nobody is, all ones come back.

      ECX   command        EBX                      answer: EAX = status, EBX = target
      0     START          capabilities wanted      EAX = 0 or 0x03000000
      1     GET_TARGET     pages that there are
      2     LOCK           page number: now in the balloon
      3     UNLOCK         page number: out again
      4     GUEST_ID       what kind of guest: 0 = none that you know

   Status 7, RESET: the host has forgotten the balloon (or a page of it was touched: it popped). The pages are the
   guest's again; it starts anew. */

#ifdef MEMORY

#include "kernel.h"
#include "x86.h"

enum { MAGIC = 0x456c6d6f, PORT = 0x5670 };
enum { START, GET_TARGET, LOCK, UNLOCK, GUEST_ID };
enum { OK = 0, NOT_NEEDED = 6, RESET = 7, BUSY = 8, STARTED = 0x03000000 };
enum { CAPABILITY_BASIC = 1 << 1, GUEST_UNKNOWN = 0 };

/* Pages a second. It doubles after a round that cost nothing and halves after one that hurt. */
enum { RATE_FIRST = 256, RATE_LEAST = 16, RATE_MOST = 2048, DEFLATE_MOST = 8192 };
enum { KEPT_FREE = 32, REFUSALS_MOST = 16 };

static u32 inside, aside;                       /* chains of frames: in the balloon, refused in this round */
static int started;

static u32 command(u32 number, u32 argument)
{
    u32 status = MAGIC, ecx = number, edx = PORT, ebx = argument, esi = 0, edi = 0;
    asm volatile("in eax, dx" : "+a"(status), "+b"(ebx), "+c"(ecx), "+d"(edx), "+S"(esi), "+D"(edi) : : "memory");
    if (status == OK && number != START && number != GUEST_ID)
        counts.balloon_target = ebx;
    if (status == RESET && started) {
        started = 0;                            /* for the next round to see */
        counts.balloon_resets++;
    }
    return status;
}

static void push(u32 *chain, u32 frame)
{
    *frame_chain(frame) = *chain;
    *chain = frame;
}

static u32 pop(u32 *chain)
{
    u32 frame = *chain;
    *chain = *frame_chain(frame);
    return frame;
}

static int start(void)
{
    u32 status = command(START, CAPABILITY_BASIC);
    started = status == OK || status == STARTED;
    if (started)
        command(GUEST_ID, GUEST_UNKNOWN);
    return started;
}

/* No page of it is the host's any more, and it need not hear of them. */
static void pop_balloon(void)
{
    while (inside)
        frame_release(pop(&inside));
    counts.balloon_pages = 0;
}

static void slower(void)
{
    counts.balloon_rate /= 2;
    if (counts.balloon_rate < RATE_LEAST)
        counts.balloon_rate = RATE_LEAST;
}

static void faster(void)
{
    counts.balloon_rate *= 2;
    if (counts.balloon_rate > RATE_MOST)
        counts.balloon_rate = RATE_MOST;
}

/* One page. False: enough for this round. */
static int take_page(u32 *refusals)
{
    u32 frame = room_make(KEPT_FREE + 1) ? frame_allocate() : 0;
    if (!frame) {
        slower();                               /* there is no more to give */
        return 0;
    }
    switch (command(LOCK, frame >> PAGE_SHIFT)) {
    case OK:
        push(&inside, frame);
        counts.balloon_pages++;
        return 1;
    case NOT_NEEDED: case RESET: case BUSY:
        frame_release(frame);
        return 0;
    default:                                    /* the host cannot use this one; another one, perhaps */
        push(&aside, frame);                    /* aside, or it would be the next one again */
        counts.balloon_refusals++;
        if (++*refusals < REFUSALS_MOST)
            return 1;
        slower();
        return 0;
    }
}

static void inflate(void)
{
    u32 outs = counts.page_outs, refusals = 0, pages = counts.balloon_rate;
    int more = 1;
    while (more && pages-- && counts.balloon_pages < counts.balloon_target)
        more = take_page(&refusals);
    while (aside)
        frame_release(pop(&aside));
    if (counts.page_outs != outs)
        slower();                               /* programs had to pay */
    else if (more)
        faster();
}

static void deflate(void)
{
    for (u32 pages = DEFLATE_MOST; pages && counts.balloon_pages > counts.balloon_target; pages--) {
        u32 frame = inside;
        if (command(UNLOCK, frame >> PAGE_SHIFT) != OK)
            return;                             /* stays inside; after a reset all go */
        frame_release(pop(&inside));
        counts.balloon_pages--;
    }
}

static void balloon_round(void)
{
    if (!started) {
        pop_balloon();
        if (!start())
            return;
    }
    if (command(GET_TARGET, memory_pages()) != OK)
        return;
    if (counts.balloon_pages < counts.balloon_target)
        inflate();
    else
        deflate();
}

static void run(void)
{
    interrupts_on();
    for (;;) {
        timer_sleep(timer_hz());
        balloon_round();
    }
}

void balloon_start(void)
{
    if (!start())
        return;                                 /* no host: no balloon */
    counts.balloon_host = 1;
    counts.balloon_rate = RATE_FIRST;
    process_start_thread("balloon", run);
}

#endif
