/* memory [SECONDS]: the kernel's counters, a line each; with SECONDS again and again, after so many. */

#include "library.h"

static u32 print_counters(void)
{
    struct counter each;
    u32 hz = 0;
    for (u32 i = 0; counter(i, &each) == 0; i++) {
        print("%s %u\n", each.name, each.value);
        hz = each.value;                        /* the last one is ticks_a_second */
    }
    return hz;
}

int main(int argc, char **argv)
{
    u32 seconds = argument(argc, argv, 1, 0);
    for (;;) {
        u32 hz = print_counters();
        if (!seconds)
            return 0;
        sleep(seconds * hz);
    }
}
