/* forkwait N [PAGES]: creates a process, waits for its end; N times (Adams and Agesen, section 4.3).

   With PAGES both sides store into that many pages of data, as processes do that have some: every round the kernel
   takes away the right to write to them, and gives it back page by page, to parent and child. */

#include "library.h"

enum { WORDS = PAGE_BYTES / 4 };

static void store(u32 *memory, u32 pages, u32 value)
{
    for (u32 page = 0; page < pages; page++)
        memory[page * WORDS] = value;
}

int main(int argc, char **argv)
{
    u32 rounds = argument(argc, argv, 1, 40), pages = argument(argc, argv, 2, 0);
    u32 *memory = sbrk(pages * PAGE_BYTES);
    if (memory == NO_MEMORY)
        return 1;
    u32 ended = 0;
    for (u32 i = 0; i < rounds; i++) {
        store(memory, pages, i);
        int pid = fork();
        if (pid == 0) {
            store(memory, pages, ~i);
            exit(0);
        }
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
