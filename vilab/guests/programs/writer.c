/* writer PAGES [HOT [RATE [COLD [EVERY [REPORTS [SEED]]]]]]: a working set that is written at an even pace.

   Every tick it stores into RATE random pages of the first HOT, and into the next COLD of the others in turn. Every
   EVERY ticks it checks a sixteenth of its pages and prints a line. After REPORTS lines it checks all pages and ends;
   0: never. What it holds in the end depends on its arguments only. */

#include "writer.h"

int main(int argc, char **argv)
{
    u32 pages = argument(argc, argv, 1, 256), hot = argument(argc, argv, 2, 32);
    u32 rate = argument(argc, argv, 3, 8), cold = argument(argc, argv, 4, 1);
    u32 every = argument(argc, argv, 5, 100), reports = argument(argc, argv, 6, 0);
    u32 seed = argument(argc, argv, 7, 1);
    struct written w;
    if (!written_start(&w, "writer", pages, seed))
        return 1;
    if (hot > pages)
        hot = pages;
    if (!hot)
        rate = 0;
    if (hot == pages)
        cold = 0;
    if (!every)
        every = 1;
    print("writer: %u pages filled, %u hot, %u and %u writes a tick, seed %u\n", pages, hot, rate, cold, seed);

    u32 state = random_seed(seed), next_cold = 0;
    for (u32 tick = 1, report = 0; !reports || report < reports; tick++) {
        for (u32 i = 0; i < rate; i++)
            write_page(&w, random(&state) % hot);
        for (u32 i = 0; i < cold; i++)
            write_page(&w, hot + next_cold++ % (pages - hot));
        if (tick % every == 0) {
            check_slice(&w);
            print("writer: report %u, %u writes, %s\n", ++report, w.total, verdict(&w));
        }
        sleep(1);
    }
    return written_end(&w);
}
