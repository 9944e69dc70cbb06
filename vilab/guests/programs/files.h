/* Calls for files, of the kernel built with -DDISK; refused by the others. */

#ifndef FILES_H
#define FILES_H

#include "library.h"

static inline int file_create(const char *name) { return syscall(SYSCALL_FILE_CREATE, (u32)name, 0, 0); }
static inline int file_remove(const char *name) { return syscall(SYSCALL_FILE_REMOVE, (u32)name, 0, 0); }
static inline int file_list(u32 index, struct file_info *to) { return syscall(SYSCALL_FILE_LIST, index, (u32)to, 0); }
static inline int file_sync(void) { return syscall(SYSCALL_FILE_SYNC, 0, 0, 0); }
static inline int file_make(u32 blocks) { return syscall(SYSCALL_FILE_MAKE, blocks, 0, 0); }
static inline int disk_trace(int on) { return syscall(SYSCALL_DISK_TRACE, on, 0, 0); }

static inline int file_read(const char *name, u32 offset, void *to, u32 bytes)
{
    struct piece piece = { (u32)to, bytes };
    return syscall(SYSCALL_FILE_READ, (u32)name, offset, (u32)&piece);
}

/* All of it, piece by piece; 0, or why not. */
static inline int file_append(const char *name, u32 offset, const void *from, u32 bytes)
{
    while (bytes) {
        struct piece piece = { (u32)from, bytes };
        int done = syscall(SYSCALL_FILE_WRITE, (u32)name, offset, (u32)&piece);
        if (done < 0)
            return done;
        from = (const u8 *)from + done;
        offset += done;
        bytes -= done;
    }
    return 0;
}

/* Says what is wrong, if something is; the program's status. */
static inline int report(const char *program, const char *name, int answer)
{
    static const char *const reasons[] = {
        [1] = "refused", [2] = "there is no disk", [3] = "the disk has no file system; mkfs makes one",
        [4] = "no such file", [5] = "no room", [6] = "a name has 1 to 27 characters", [7] = "a file has 112 KB at most",
        [8] = "the disk refuses", [9] = "the file system is damaged",
    };
    if (answer >= 0)
        return 0;
    u32 number = -answer;
    print("%s: %s%s%s\n", program, name, *name ? ": " : "", number < sizeof reasons / sizeof *reasons ? reasons[number] : "?");
    return 1;
}

enum { TEXT_BYTES = 512 };

/* The words from argv[first] on, with spaces between them and a line end; how many bytes. */
static inline u32 join(char *text, int argc, char **argv, int first)
{
    u32 length = 0;
    for (int i = first; i < argc; i++)
        for (const char *at = argv[i]; ; at++) {
            if (length < TEXT_BYTES)
                text[length++] = *at ? *at : i + 1 < argc ? ' ' : '\n';
            if (!*at)
                break;
        }
    return length;
}

#endif
