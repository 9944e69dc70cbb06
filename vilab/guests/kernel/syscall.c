/* System calls: check what the program says, then do it.

   A pointer from a program is followed only if the program could follow it itself (space_allows). */

#include "kernel.h"
#include "syscall_numbers.h"
#include "x86.h"

static int readable(u32 address, u32 bytes) { return space_allows(&current->space, address, bytes, 0); }
static int writable(u32 address, u32 bytes) { return space_allows(&current->space, address, bytes, 1); }

/* Length of a text in user memory; -1 if it leaves what the program may read. */
static int text_length(u32 address)
{
    for (u32 length = 0; length < ARGUMENT_BYTES; length++) {
        if (!readable(address + length, 1))
            return -1;
        if (!*(const char *)(address + length))
            return length;
    }
    return -1;
}

static int do_exec(u32 argv)
{
    struct arguments arguments = { 0 };
    for (;; argv += 4) {
        if (!readable(argv, 4))
            return -1;
        u32 text = *(const u32 *)argv;
        if (!text)
            return exec(&arguments);
        int length = text_length(text);
        if (length < 0 || !arguments_add(&arguments, (const char *)text, length))
            return -1;
    }
}

static int do_wait(u32 to)
{
    int status = 0;
    if (to && !writable(to, 4))
        return -1;
    int pid = process_wait(&status);
    if (to && pid > 0)
        *(int *)to = status;
    return pid;
}

#ifdef MEMORY
/* Reading the text may sleep until its page is there, and a line is written without a pause: so it is copied first. */
static void write_text(u32 from, u32 bytes)
{
    char piece[256];
    for (u32 at = 0; at < bytes; at += sizeof piece) {
        u32 length = bytes - at < sizeof piece ? bytes - at : sizeof piece;
        memcpy(piece, (const void *)(from + at), length);
        console_write(piece, length);
    }
}
#else
static void write_text(u32 from, u32 bytes) { console_write((const char *)from, bytes); }
#endif

static int do_write(u32 from, u32 bytes)
{
    if (!readable(from, bytes))
        return -1;
    write_text(from, bytes);
    return bytes;
}

static int do_read(u32 to, u32 bytes)
{
    char piece[64];
    if (bytes > sizeof piece)
        bytes = sizeof piece;
    if (!writable(to, bytes))
        return -1;
    bytes = uart_read(piece, bytes);
    memcpy((void *)to, piece, bytes);
    return bytes;
}

/* Only moves the region's end: pages come by page fault. Pages above a lowered end stay until the program ends. */
static int do_sbrk(int bytes)
{
    struct region *heap = &current->space.region[current->space.heap];
    u32 old = heap->end, new = old + bytes;
    int wrapped = bytes > 0 ? new < old : new > old;
    if (wrapped || new < heap->start || new > USER_STACK_TOP - USER_STACK_BYTES)
        return -1;
    heap->end = new;
    return old;
}

static int do_program(u32 index, u32 to, u32 bytes)
{
    const char *name = program_name(index);
    if (!name || strlen(name) >= bytes || !writable(to, bytes))
        return -1;
    memcpy((void *)to, name, strlen(name) + 1);
    return strlen(name);
}

static void do_yield(void)
{
    u32 flags = critical_enter();
    schedule();
    critical_leave(flags);
}

void syscall(struct trap_frame *frame)
{
    u32 a = frame->ebx, b = frame->ecx, c = frame->edx;
    int answer = 0;
    switch (frame->eax) {
    case SYSCALL_NULL: break;
    case SYSCALL_EXIT: process_exit(a);
    case SYSCALL_FORK: answer = process_fork(); break;
    case SYSCALL_EXEC:
        if (do_exec(a) == 0)
            return;                     /* the frame is the new program's */
        answer = -1;
        break;
    case SYSCALL_WAIT: answer = do_wait(a); break;
    case SYSCALL_WRITE: answer = do_write(a, b); break;
    case SYSCALL_READ: answer = do_read(a, b); break;
    case SYSCALL_GETPID: answer = current->pid; break;
    case SYSCALL_SBRK: answer = do_sbrk(a); break;
    case SYSCALL_YIELD: do_yield(); break;
    case SYSCALL_SLEEP: timer_sleep(a); break;
    case SYSCALL_UPTIME: answer = timer_ticks(); break;
    case SYSCALL_PROGRAM: answer = do_program(a, b, c); break;
    case SYSCALL_POWEROFF:
        files_before_power_off();
        power_off();
#ifdef DISK
    case SYSCALL_FILE_CREATE ... SYSCALLS_OF_DISK - 1: answer = file_syscall(frame->eax, a, b, c); break;
#endif
#ifdef NETWORK
    case SYSCALL_NET_INFO ... SYSCALLS_OF_NETWORK - 1: answer = network_syscall(frame->eax, a, b, c); break;
#endif
    default: answer = memory_syscall(frame->eax, a, b);
    }
    frame->eax = answer;
}
