/* filecache READS BLOCKS [SKEW [SEED [WARM]]]: reads blocks of files at random, some much more often than others.

   Block number = BLOCKS * u^SKEW with u random in 0 .. 1: SKEW 1 reads all alike, 2 reads the first quarter as often as
   the other three together, 3 the first eighth. WARM reads come first and do not count. Every word is checked. */

#include "pattern.h"

#define PATTERN_FACTOR 0x9e3779b1u              /* what the disk holds; kernel/cache.c */

static u32 buffer[WORDS] __attribute__((aligned(PAGE_BYTES)));

static u32 counter_named(const char *name)
{
    struct counter each;
    for (u32 i = 0; counter(i, &each) == 0; i++)
        if (streq(each.name, name))
            return each.value;
    return 0;
}

/* In 16 bits after the point. */
static u32 choose(u32 blocks, u32 skew, u32 *state)
{
    u32 u = random(state) >> 16, power = u;
    while (--skew)
        power = power * u >> 16;
    return (u32)((u64)power * blocks >> 16);
}

static int read_block(u32 block)
{
    int disk_block = file(block, buffer);
    if (disk_block < 0)
        return -1;
    u32 expected = (u32)disk_block * WORDS * PATTERN_FACTOR, wrong = 0;
    for (u32 i = 0; i < WORDS; i++, expected += PATTERN_FACTOR)
        wrong |= buffer[i] ^ expected;
    return wrong != 0;
}

/* How many were wrong; -1 if one was refused. */
static int read_many(u32 reads, u32 blocks, u32 skew, u32 *state)
{
    u32 wrong = 0;
    while (reads--) {
        int answer = read_block(choose(blocks, skew, state));
        if (answer < 0)
            return -1;
        wrong += answer;
    }
    return wrong;
}

int main(int argc, char **argv)
{
    u32 reads = argument(argc, argv, 1, 1000), blocks = argument(argc, argv, 2, 100);
    u32 skew = argument(argc, argv, 3, 2), seed = argument(argc, argv, 4, 1), warm = argument(argc, argv, 5, 0);
    u32 state = random_seed(seed);
    if (!skew)
        skew = 1;
    int wrong = read_many(warm, blocks, skew, &state);
    u32 hits = counter_named("cache_hits"), misses = counter_named("cache_misses");
    u32 start = uptime();
    if (wrong >= 0)
        wrong += read_many(reads, blocks, skew, &state);
    u32 ticks = uptime() - start;
    if (wrong < 0) {
        print("filecache: the disk has no %u blocks of files, or there is no memory for them\n", blocks);
        return 1;
    }
    print("filecache: %u reads of %u blocks, %u hits, %u misses, %u wrong\n", reads, blocks,
          counter_named("cache_hits") - hits, counter_named("cache_misses") - misses, wrong);
    print("filecache: %u ticks of %u a second\n", ticks, counter_named("ticks_a_second"));
    return wrong != 0;
}
