/* syscall-loop N: the way into the kernel and out again, N times. */

#include "library.h"

int main(int argc, char **argv)
{
    u32 rounds = argument(argc, argv, 1, 10000);
    for (u32 i = 0; i < rounds; i++)
        null_call();
    print("syscall-loop: %u system calls\n", rounds);
    return 0;
}
