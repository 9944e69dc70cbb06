/* What a program can call. */

#ifndef LIBRARY_H
#define LIBRARY_H

#include "../kernel/layout.h"
#include "../kernel/syscall_numbers.h"
#include "../kernel/types.h"

static inline int syscall(u32 number, u32 a, u32 b, u32 c)
{
    int answer;
    asm volatile("int 0x80" : "=a"(answer) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory");
    return answer;
}

static inline int null_call(void) { return syscall(SYSCALL_NULL, 0, 0, 0); }
static inline int fork(void) { return syscall(SYSCALL_FORK, 0, 0, 0); }
static inline int exec(char **argv) { return syscall(SYSCALL_EXEC, (u32)argv, 0, 0); }
static inline int wait(int *status) { return syscall(SYSCALL_WAIT, (u32)status, 0, 0); }
static inline int write(const char *text, u32 bytes) { return syscall(SYSCALL_WRITE, (u32)text, bytes, 0); }
static inline int read(char *to, u32 bytes) { return syscall(SYSCALL_READ, (u32)to, bytes, 0); }
static inline int getpid(void) { return syscall(SYSCALL_GETPID, 0, 0, 0); }
static inline void *sbrk(int bytes) { return (void *)syscall(SYSCALL_SBRK, bytes, 0, 0); }
static inline void yield(void) { syscall(SYSCALL_YIELD, 0, 0, 0); }
static inline void sleep(u32 ticks) { syscall(SYSCALL_SLEEP, ticks, 0, 0); }
static inline u32 uptime(void) { return syscall(SYSCALL_UPTIME, 0, 0, 0); }
static inline int program(u32 index, char *to, u32 bytes) { return syscall(SYSCALL_PROGRAM, index, (u32)to, bytes); }
static inline void poweroff(void) { syscall(SYSCALL_POWEROFF, 0, 0, 0); }

/* The kernel built with -DMEMORY only; refused by the others. */
static inline int counter(u32 index, struct counter *to) { return syscall(SYSCALL_COUNTER, index, (u32)to, 0); }
static inline int file(u32 block, u32 *to) { return syscall(SYSCALL_FILE, block, (u32)to, 0); }
static inline int lock(int on) { return syscall(SYSCALL_LOCK, on, 0, 0); }

static inline void exit(int status)
{
    for (;;)
        syscall(SYSCALL_EXIT, status, 0, 0);
}

#define NO_MEMORY ((void *)-1)

u32 strlen(const char *text);
int streq(const char *a, const char *b);
u32 number(const char *text);                           /* decimal; stops at the first other character */
u32 argument(int argc, char **argv, int index, u32 otherwise);
void print(const char *format, ...);                    /* %d %u %x %s; one write call */

#endif
