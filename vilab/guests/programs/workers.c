/* workers N ROUNDS: N children compute at the same time, and the timer shares the processor among them. */

#include "library.h"

enum { MOST = 16 };

static u32 compute(u32 seed, u32 rounds)
{
    u32 value = seed;
    for (u32 i = 0; i < rounds; i++)
        value = value * 1664525 + 1013904223;
    return value;
}

int main(int argc, char **argv)
{
    u32 workers = argument(argc, argv, 1, 3), rounds = argument(argc, argv, 2, 100000);
    if (workers > MOST)
        workers = MOST;
    u32 expected = 0, sum = 0;
    for (u32 i = 0; i < workers; i++) {
        expected += compute(i, rounds) & 0xff;
        if (fork() == 0)
            exit(compute(i, rounds) & 0xff);
    }
    int status;
    while (wait(&status) > 0)
        sum += status;
    print("workers: %u of them, sum %u\n", workers, sum);
    return sum == expected ? 0 : 1;
}
