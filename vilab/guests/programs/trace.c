/* trace PROGRAM ARGUMENTS: runs it, and the kernel prints every command for a disk meanwhile. */

#include "files.h"

int main(int argc, char **argv)
{
    int before = disk_trace(1), status = 1;
    if (before < 0)
        return report("trace", "", before);
    int pid = fork();
    if (pid == 0) {
        exec(argv + 1);
        print("trace: no program named %s\n", argc > 1 ? argv[1] : "");
        exit(127);
    }
    while (pid > 0 && wait(&status) != pid)
        ;
    disk_trace(before);
    return status;
}
