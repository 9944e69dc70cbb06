/* zeros PAGES [ROUNDS [SLEEP]]: pages that were touched but never written: all the same. Checks that they stay zero. */

#include "pattern.h"

int main(int argc, char **argv)
{
    u32 pages = argument(argc, argv, 1, 64), rounds = argument(argc, argv, 2, 1), pause = argument(argc, argv, 3, 10);
    const u32 *memory = sbrk(pages * PAGE_BYTES);
    if (memory == NO_MEMORY) {
        print("zeros: no room for %u pages\n", pages);
        return 1;
    }
    u32 bits = 0;
    for (u32 round = 1; !rounds || round <= rounds; round++) {
        for (u32 i = 0; i < pages * WORDS; i++)
            bits |= ((const volatile u32 *)memory)[i];
        print("zeros: %u pages, round %u %s\n", pages, round, bits ? "wrong" : "ok");
        sleep(pause);
    }
    return bits != 0;
}
