/* System calls for files. What a program says is copied before the lock is taken, and what it gets after the lock has
   been given back: following its pointers may put the caller to sleep, or end it. */

#ifdef DISK

#include "kernel.h"
#include "syscall_numbers.h"
#include "tinyfs.h"
#include "x86.h"

static int readable(u32 address, u32 bytes) { return space_allows(&current->space, address, bytes, 0); }
static int writable(u32 address, u32 bytes) { return space_allows(&current->space, address, bytes, 1); }

/* A name out of the program's memory; false if it leaves that. One that is too long is cut, but not to a good one. */
static int copy_name(char *name, u32 from)
{
    for (u32 i = 0; i < TINYFS_NAME_BYTES; i++) {
        if (!readable(from + i, 1))
            return 0;
        name[i] = *(const char *)(from + i);
        if (!name[i])
            return 1;
    }
    name[0] = 0;                                        /* no file has an empty name */
    return 1;
}

static int do_write(const char *name, u32 offset, u32 from)
{
    u8 bytes[FILE_PIECE];
    if (!readable(from, sizeof(struct piece)))
        return FILE_REFUSED;
    struct piece piece = *(const struct piece *)from;
    if (piece.bytes > FILE_PIECE)
        piece.bytes = FILE_PIECE;
    if (!readable(piece.address, piece.bytes))
        return FILE_REFUSED;
    memcpy(bytes, (const void *)piece.address, piece.bytes);
    files_lock();
    int answer = file_write(name, offset, bytes, piece.bytes);
    files_unlock();
    return answer;
}

static int do_read(const char *name, u32 offset, u32 to)
{
    u8 bytes[FILE_PIECE];
    if (!readable(to, sizeof(struct piece)))
        return FILE_REFUSED;
    struct piece piece = *(const struct piece *)to;
    if (piece.bytes > FILE_PIECE)
        piece.bytes = FILE_PIECE;
    if (!writable(piece.address, piece.bytes))
        return FILE_REFUSED;
    files_lock();
    int answer = file_read(name, offset, bytes, piece.bytes);
    files_unlock();
    if (answer > 0)
        memcpy((void *)piece.address, bytes, answer);
    return answer;
}

static int do_list(u32 index, u32 to)
{
    struct file_info info;
    if (!writable(to, sizeof info))
        return FILE_REFUSED;
    files_lock();
    int answer = file_list(index, &info);
    files_unlock();
    if (answer == 0)
        memcpy((void *)to, &info, sizeof info);
    return answer;
}

static int locked(int (*call)(const char *), const char *name)
{
    files_lock();
    int answer = call(name);
    files_unlock();
    return answer;
}

static int do_sync(void)
{
    files_lock();
    int answer = tinyfs_sync();
    files_unlock();
    return answer;
}

static int do_make(u32 blocks)
{
    files_lock();
    int answer = tinyfs_make(blocks);
    files_unlock();
    return answer;
}

static int do_trace(u32 on)
{
    int before = disk_trace;
    disk_trace = on != 0;
    return before;
}

static int named_call(u32 number, const char *name, u32 b, u32 c)
{
    switch (number) {
    case SYSCALL_FILE_CREATE: return locked(file_create, name);
    case SYSCALL_FILE_REMOVE: return locked(file_remove, name);
    case SYSCALL_FILE_WRITE: return do_write(name, b, c);
    default: return do_read(name, b, c);
    }
}

/* The answer of one of these calls; 0 and nothing done for any other number. */
int file_syscall(u32 number, u32 a, u32 b, u32 c)
{
    char name[TINYFS_NAME_BYTES];
    switch (number) {
    case SYSCALL_FILE_CREATE: case SYSCALL_FILE_REMOVE: case SYSCALL_FILE_WRITE: case SYSCALL_FILE_READ:
        return copy_name(name, a) ? named_call(number, name, b, c) : FILE_REFUSED;
    case SYSCALL_FILE_LIST: return do_list(a, b);
    case SYSCALL_FILE_SYNC: return do_sync();
    case SYSCALL_FILE_MAKE: return do_make(a);
    case SYSCALL_DISK_TRACE: return do_trace(a);
    default: return 0;
    }
}

/* Switching off in good order loses nothing. A disk that nobody has used is left alone. */
void files_before_power_off(void)
{
    if (tinyfs_is_mounted() && do_sync() < 0)
        kprintf("kernel: what was not synced is lost\n");
}

#endif
