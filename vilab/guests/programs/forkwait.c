/* forkwait N: creates a process, waits for its end; N times (Adams and Agesen, section 4.3). */

#include "library.h"

int main(int argc, char **argv)
{
    u32 rounds = argument(argc, argv, 1, 40);
    u32 ended = 0;
    for (u32 i = 0; i < rounds; i++) {
        int pid = fork();
        if (pid == 0)
            exit(0);
        if (pid < 0) {
            print("forkwait: cannot fork\n");
            return 1;
        }
        if (wait(NULL) == pid)
            ended++;
    }
    print("forkwait: %u processes created and ended\n", ended);
    return 0;
}
