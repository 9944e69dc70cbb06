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

enum {                          /* only in the kernel that was built with -DDISK */
    SYSCALL_FILE_CREATE = 48,   /* (name) 0; a file that is there already is empty then */
    SYSCALL_FILE_WRITE,         /* (name, offset, struct piece *) bytes, FILE_PIECE at most; offset: up to its size */
    SYSCALL_FILE_READ,          /* (name, offset, struct piece *) bytes, FILE_PIECE at most; 0: the end */
    SYSCALL_FILE_REMOVE,        /* (name) 0 */
    SYSCALL_FILE_LIST,          /* (index, struct file_info *) 0; index counts from 0 until FILE_NOT_FOUND */
    SYSCALL_FILE_SYNC,          /* () 0: everything that was written is on the disk */
    SYSCALL_FILE_MAKE,          /* (blocks) blocks of the new, empty volume; 0 asks for as many as there can be */
    SYSCALL_DISK_TRACE,         /* (on) what it was; 1: the kernel prints every command for a disk */
    SYSCALLS_OF_DISK,
};

enum { FILE_PIECE = 512, FILE_BLOCKS = 28 };
struct piece { u32 address, bytes; };
struct file_info { char name[28]; u32 inode, size_bytes, block[FILE_BLOCKS]; };

enum {                          /* why a file call is refused */
    FILE_REFUSED = -1,          /* a pointer or a number that cannot be */
    FILE_NO_DISK = -2, FILE_NO_VOLUME = -3, FILE_NOT_FOUND = -4, FILE_NO_ROOM = -5, FILE_BAD_NAME = -6,
    FILE_TOO_LARGE = -7, FILE_DISK_ERROR = -8, FILE_DAMAGED = -9,
};

enum {                          /* only in the kernel that was built with -DNETWORK */
    SYSCALL_NET_INFO = 64,      /* (struct net_info *) 0 */
    SYSCALL_NET_COUNTER,        /* (index, struct counter *to) 0; index counts from 0 until NET_REFUSED */
    SYSCALL_PING,               /* (struct echo *) 0: the answer has come */
    SYSCALL_UDP_OPEN,           /* (port) the port; 0 asks for any that is free */
    SYSCALL_UDP_CLOSE,          /* (port) 0 */
    SYSCALL_UDP_SEND,           /* (port, struct datagram *to) bytes */
    SYSCALL_UDP_RECEIVE,        /* (port, struct datagram *, ticks) bytes; what there is no room for is lost */
    SYSCALLS_OF_NETWORK,
};

enum { UDP_MOST = 1472, ECHO_MOST = 1472 };             /* what a frame holds */
struct net_info { u32 address, gateway; u8 card[6]; };  /* IP addresses: A.B.C.D is A << 24 | B << 16 | C << 8 | D */
struct echo { u32 address, sequence, bytes, ticks, hops_left; };        /* hops_left: of the answer */
struct datagram { u32 address, port, data, bytes; };    /* the other side's; received: bytes is how long it was */

enum {                          /* why a call for the network is refused */
    NET_REFUSED = -1,           /* a pointer or a number that cannot be */
    NET_NO_CARD = -2,
    NET_NO_ANSWER = -3,         /* in all that time */
    NET_NOBODY = -4,            /* nobody says that the address is his */
    NET_NO_WAY = -5,            /* it is on another network, and there is no gateway */
    NET_NO_ROOM = -6, NET_TOO_LONG = -7, NET_IN_USE = -8,
};

#endif
