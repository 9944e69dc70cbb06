/* checksum PAGES [ROUNDS [TOUCHES [SLEEP [SEED [SWEEP [LOCK]]]]]]: fills memory with what it knows, and checks.

   Each round checks TOUCHES random pages word by word, gives every other one of them new contents, and sleeps SLEEP
   ticks. Every SWEEP rounds, and after the last one, all pages are checked. ROUNDS 0: never ends. SWEEP 0: no sweeps.
   LOCK 1: its pages may not go to the disk.

   Two guests with one SEED hold the same pages until the first round; with another SEED, others. */

#include "pattern.h"

static u32 *memory, *generation;
static u32 seed;

static struct content content_of(u32 page) { return (struct content){ seed, page, generation[page] }; }

static u32 check(u32 page)
{
    u32 wrong = page_wrong(memory + page * WORDS, content_of(page));
    if (wrong)
        print("checksum: page %u has %u wrong words\n", page, wrong);
    return wrong != 0;
}

static u32 check_all(u32 pages)
{
    u32 wrong = 0;
    for (u32 page = 0; page < pages; page++)
        wrong += check(page);
    return wrong;
}

static u32 touch(u32 pages, u32 touches, u32 *state)
{
    u32 wrong = 0;
    for (u32 i = 0; i < touches; i++) {
        u32 page = random(state) % pages;
        wrong += check(page);
        if (i % 2) {
            generation[page]++;
            page_fill(memory + page * WORDS, content_of(page));
        }
    }
    return wrong;
}

int main(int argc, char **argv)
{
    u32 pages = argument(argc, argv, 1, 64), rounds = argument(argc, argv, 2, 4);
    u32 touches = argument(argc, argv, 3, 16), pause = argument(argc, argv, 4, 10);
    seed = argument(argc, argv, 5, 1);
    u32 sweep = argument(argc, argv, 6, 1);
    memory = sbrk(pages * PAGE_BYTES);
    generation = sbrk(pages * sizeof *generation);
    lock(argument(argc, argv, 7, 0));
    if (!pages || memory == NO_MEMORY || generation == NO_MEMORY) {
        print("checksum: no room for %u pages\n", pages);
        return 1;
    }
    for (u32 page = 0; page < pages; page++)
        page_fill(memory + page * WORDS, content_of(page));
    print("checksum: %u pages filled, seed %u\n", pages, seed);

    u32 state = random_seed(seed), wrong = 0;
    for (u32 round = 1; !rounds || round <= rounds; round++) {
        wrong += touch(pages, touches, &state);
        if ((sweep && round % sweep == 0) || round == rounds)
            wrong += check_all(pages);
        print("checksum: round %u %s\n", round, wrong ? "wrong" : "ok");
        sleep(pause);
    }
    return wrong != 0;
}
