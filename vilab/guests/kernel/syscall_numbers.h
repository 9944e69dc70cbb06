/* System calls: int 0x80 with the number in EAX, arguments in EBX, ECX, EDX, the answer in EAX (negative: refused).
   Kernel and programs both read this file. */

#ifndef SYSCALL_NUMBERS_H
#define SYSCALL_NUMBERS_H

#include "types.h"

enum {
    SYSCALL_NULL,               /* () 0; to time the way in and out */
    SYSCALL_EXIT,               /* (status) does not return */
    SYSCALL_FORK,               /* () pid of the child, 0 in the child */
    SYSCALL_EXEC,               /* (argv) returns only if refused */
    SYSCALL_WAIT,               /* (int *status) pid of a child that has ended */
    SYSCALL_WRITE,              /* (text, bytes) bytes, in one piece */
    SYSCALL_READ,               /* (to, bytes) bytes, at least one */
    SYSCALL_GETPID,             /* () */
    SYSCALL_SBRK,               /* (bytes) the heap's old end */
    SYSCALL_YIELD,              /* () */
    SYSCALL_SLEEP,              /* (ticks) */
    SYSCALL_UPTIME,             /* () ticks */
    SYSCALL_PROGRAM,            /* (index, to, bytes) length of the name of a program */
    SYSCALL_POWEROFF,           /* () */
    SYSCALLS,
};

enum {                          /* only in the kernel that was built with -DMEMORY */
    SYSCALL_COUNTER = 32,       /* (index, struct counter *to) 0 */
    SYSCALL_FILE,               /* (block, to) the disk block that is now in the page at to */
    SYSCALL_LOCK,               /* (on) 0; 1: the program's pages stay in memory from now on */
};

struct counter { char name[28]; u32 value; };

#endif
