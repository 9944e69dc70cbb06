/* together PROGRAM ARGUMENTS + PROGRAM ARGUMENTS ...: runs them at the same time and ends with the first one. */

#include "library.h"

enum { WORDS = 16 };

/* Starts the program whose words begin at argv[from]; where the next one begins. *pid is what fork said. */
static int start(int argc, char **argv, int from, int *pid)
{
    char *words[WORDS + 1];
    int count = 0, at = from;
    for (; at < argc && !streq(argv[at], "+"); at++)
        if (count < WORDS)
            words[count++] = argv[at];
    words[count] = NULL;
    *pid = fork();
    if (*pid == 0) {
        exec(words);
        print("together: no program named %s\n", count ? words[0] : "");
        exit(127);
    }
    return at + 1;
}

int main(int argc, char **argv)
{
    int first = 0, pid, status = 1;
    for (int at = 1; at < argc; ) {
        at = start(argc, argv, at, &pid);
        if (!first)
            first = pid;
    }
    while (first > 0 && (pid = wait(&status)) != first)
        if (pid < 0)
            return 1;
    return status;
}
