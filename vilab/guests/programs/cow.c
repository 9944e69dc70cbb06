/* cow: parent and child share every page until one of them stores. */

#include "library.h"

enum { PAGES = 16, WORDS = PAGE_BYTES / 4 };

static u32 memory[PAGES * WORDS];

static u32 sum(void)
{
    u32 total = 0;
    for (u32 page = 0; page < PAGES; page++)
        total += memory[page * WORDS];
    return total;
}

static void fill(u32 value)
{
    for (u32 page = 0; page < PAGES; page++)
        memory[page * WORDS] = value;
}

int main(void)
{
    fill(1);
    if (fork() == 0) {
        u32 before = sum();
        fill(100);
        print("cow: child saw %u, then stored %u\n", before, sum());
        exit(7);
    }
    int status = 0;                     /* the kernel stores here: into a shared page */
    wait(&status);
    print("cow: parent still has %u; the child's status was %d\n", sum(), status);
    return sum() == PAGES && status == 7 ? 0 : 1;
}
