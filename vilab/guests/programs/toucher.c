/* toucher PAGES ROUNDS [HOT]: stores into PAGES pages once, then ROUNDS times into the first HOT of them.

   PAGES is the memory it has, HOT its working set, and every round makes HOT pages dirty. */

#include "library.h"

enum { WORDS = PAGE_BYTES / 4 };

int main(int argc, char **argv)
{
    u32 pages = argument(argc, argv, 1, 64), rounds = argument(argc, argv, 2, 4);
    u32 hot = argument(argc, argv, 3, pages);
    if (hot > pages)
        hot = pages;
    u32 *memory = sbrk(pages * PAGE_BYTES);
    if (memory == NO_MEMORY) {
        print("toucher: no room for %u pages\n", pages);
        return 1;
    }
    for (u32 page = 0; page < pages; page++)
        memory[page * WORDS] = page;
    for (u32 round = 0; round < rounds; round++)
        for (u32 page = 0; page < hot; page++)
            memory[page * WORDS + round % WORDS] += page * 31 + round;

    u32 sum = 0;
    for (u32 page = 0; page < pages; page++)
        for (u32 word = 0; word < WORDS; word++)
            sum = sum * 31 + memory[page * WORDS + word];
    print("toucher: %u pages, %u rounds over %u, checksum %x\n", pages, rounds, hot, sum);
    return 0;
}
