/* writer-muncher PAGES [EVERY [REPORTS [SEED]]]: stores into all its pages, one after the other, and never rests.

   Every EVERY sweeps it checks a sixteenth of its pages and prints a line. After REPORTS lines it checks all pages and
   ends; 0: never. Faster than any network: what moves it has to stop it. Source: Clark et al. 2005, section 6.5. */

#include "writer.h"

int main(int argc, char **argv)
{
    u32 pages = argument(argc, argv, 1, 256), every = argument(argc, argv, 2, 1000);
    u32 reports = argument(argc, argv, 3, 0), seed = argument(argc, argv, 4, 1);
    struct written w;
    if (!written_start(&w, "writer-muncher", pages, seed))
        return 1;
    if (!every)
        every = 1;
    print("writer-muncher: %u pages filled, seed %u\n", pages, seed);

    for (u32 sweep = 1, report = 0; !reports || report < reports; sweep++) {
        for (u32 page = 0; page < pages; page++)
            write_page(&w, page);
        if (sweep % every == 0) {
            check_slice(&w);
            print("writer-muncher: report %u, %u writes, %s\n", ++report, w.total, verdict(&w));
        }
    }
    return written_end(&w);
}
