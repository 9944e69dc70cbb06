/* Calls for the network, of the kernel built with -DNETWORK; refused by the others. */

#ifndef PROGRAMS_NETWORK_H
#define PROGRAMS_NETWORK_H

#include "library.h"

static inline int net_counter(u32 index, struct counter *to) { return syscall(SYSCALL_NET_COUNTER, index, (u32)to, 0); }
static inline int net_info(struct net_info *to) { return syscall(SYSCALL_NET_INFO, (u32)to, 0, 0); }
static inline int net_ping(struct echo *echo) { return syscall(SYSCALL_PING, (u32)echo, 0, 0); }
static inline int udp_open(u32 port) { return syscall(SYSCALL_UDP_OPEN, port, 0, 0); }
static inline int udp_close(u32 port) { return syscall(SYSCALL_UDP_CLOSE, port, 0, 0); }
static inline int udp_send(u32 port, const struct datagram *to) { return syscall(SYSCALL_UDP_SEND, port, (u32)to, 0); }

static inline int udp_receive(u32 port, struct datagram *from, u32 ticks)
{
    return syscall(SYSCALL_UDP_RECEIVE, port, (u32)from, ticks);
}

enum { WAIT_LONG = 0x7fffffff };

/* A.B.C.D as a number; 0 if it is none. */
static inline u32 address_of(const char *text)
{
    u32 address = 0, parts = 1, part = 0;
    for (; (*text >= '0' && *text <= '9') || *text == '.'; text++)
        if (*text == '.') {
            address = address << 8 | part;
            part = 0;
            parts++;
        } else {
            part = part * 10 + (*text - '0');
            if (part > 255)
                return 0;
        }
    return parts == 4 && !*text ? address << 8 | part : 0;
}

#define ADDRESS_FORMAT "%u.%u.%u.%u"
#define ADDRESS_PARTS(address) (address) >> 24, (address) >> 16 & 0xff, (address) >> 8 & 0xff, (address) & 0xff

/* Says what is wrong, if something is; the program's status. */
static inline int report(const char *program, int answer)
{
    static const char *const reasons[] = {
        [1] = "refused", [2] = "there is no network card", [3] = "no answer", [4] = "nobody there has this address",
        [5] = "no way there: another network, and no gateway", [6] = "no room", [7] = "longer than a frame",
        [8] = "the port is in use",
    };
    if (answer >= 0)
        return 0;
    u32 number = -answer;
    print("%s: %s\n", program, number < sizeof reasons / sizeof *reasons ? reasons[number] : "?");
    return 1;
}

#endif
