/* ping ADDRESS [COUNT [BYTES [TICKS]]]: asks for an echo, COUNT times, and waits TICKS at most for each.

   No times are printed: a tick is 10 ms, and an answer takes less. */

#include "network.h"

enum { COUNT = 4, BYTES = 56, TICKS = 100 };

int main(int argc, char **argv)
{
    u32 address = argc > 1 ? address_of(argv[1]) : 0, answers = 0;
    u32 count = argument(argc, argv, 2, COUNT), bytes = argument(argc, argv, 3, BYTES);
    u32 ticks = argument(argc, argv, 4, TICKS);
    for (u32 i = 1; i <= count; i++) {
        struct echo echo = { .address = address, .sequence = i, .bytes = bytes, .ticks = ticks };
        u32 before = uptime();
        int answer = net_ping(&echo);
        if (answer < 0 && answer != NET_NO_ANSWER)
            return report("ping", answer);
        if (answer < 0) {
            print("ping: %u: no answer\n", i);
            continue;
        }
        answers++;
        print("ping: %u: %u bytes from " ADDRESS_FORMAT ", hops left %u\n", i, bytes, ADDRESS_PARTS(address),
              echo.hops_left);
        u32 took = uptime() - before;
        if (i < count && took < ticks)
            sleep(ticks - took);                /* one in TICKS, however fast the answer is */
    }
    print("ping: %u of %u answered\n", answers, count);
    return answers != count;
}
