/* Datagrams between ports: a port has an owner and a queue of what has come and nobody has read.

   socket    port, owner
             queue     [ datagram | datagram |   |   |   |   |   |   ]   arrived % QUEUE: the next place
                         ^ taken % QUEUE: the next to be read              arrived - taken = QUEUE: full, it is lost
             outgoing  [ data of the datagram that the owner is about to send ]

   One process, one call at a time: the owner's buffers need no lock. What it sends is copied here first: following its
   pointers may put it to sleep, and from the copy to the card is one critical section.

   The checksum is also over a header that is never sent: both IP addresses, the protocol, the length. */

#ifdef NETWORK

#include "kernel.h"
#include "syscall_numbers.h"
#include "wire.h"
#include "x86.h"

enum { SOCKETS = 4, QUEUE = 8, FIRST_FREE_PORT = 49152, LAST_PORT = 65535, NO_CHECKSUM = 0xffff };

static struct socket {
    u32 port;                                           /* 0: unused */
    u32 owner;
    u32 arrived, taken;
    struct { u32 from, port, bytes; u8 data[UDP_MOST]; } queue[QUEUE];
    u8 outgoing[UDP_MOST];
} sockets[SOCKETS];

static struct socket *find(u32 port)
{
    for (struct socket *s = sockets; s < sockets + SOCKETS; s++)
        if (port && s->port == port)
            return s;
    return NULL;
}

static struct socket *own(u32 port)
{
    struct socket *s = find(port);
    return s && s->owner == current->pid ? s : NULL;
}

/* 0 if datagram and checksum belong together. */
static u32 checksum(const struct ip_header *ip, const u8 *data, u32 bytes)
{
    u32 sum = checksum_add(PROTOCOL_UDP + bytes, ip->from, sizeof ip->from + sizeof ip->to);
    return checksum_of(checksum_add(sum, data, bytes));
}

enum outcome udp_receive(const struct ip_header *ip, const u8 *data, u32 bytes, const u8 *source)
{
    const struct udp_header *udp = (const void *)data;
    if (bytes < sizeof *udp)
        return UDP_BAD;
    u32 length = get16(udp->length);
    if (length < sizeof *udp || length > bytes || (get16(udp->checksum) && checksum(ip, data, length)))
        return UDP_BAD;
    struct socket *s = find(get16(udp->to));
    if (!s) {
        icmp_no_such_port(ip, source);
        return UDP_NO_SUCH_PORT;
    }
    if (s->arrived - s->taken == QUEUE)
        return UDP_QUEUE_FULL;
    u32 at = s->arrived % QUEUE;
    s->queue[at].from = get32(ip->from);
    s->queue[at].port = get16(udp->from);
    s->queue[at].bytes = length - sizeof *udp;
    memcpy(s->queue[at].data, data + sizeof *udp, s->queue[at].bytes);
    s->arrived++;
    return UDP_DELIVERED;
}

static u32 free_port(void)
{
    u32 port = FIRST_FREE_PORT;
    while (find(port))
        port++;
    return port;
}

/* port 0: any that is free. The port. */
int udp_open(u32 port)
{
    if (!pcnet_address())
        return NET_NO_CARD;
    if (port > LAST_PORT)
        return NET_REFUSED;
    if (find(port))
        return NET_IN_USE;
    int chosen = NET_NO_ROOM;
    u32 flags = critical_enter();                       /* the interrupt finds it when it is complete */
    for (struct socket *s = sockets; s < sockets + SOCKETS && chosen < 0; s++)
        if (!s->port) {
            chosen = port ? port : free_port();
            s->port = chosen;
            s->owner = current->pid;
            s->arrived = s->taken = 0;
        }
    critical_leave(flags);
    return chosen;
}

int udp_close(u32 port)
{
    struct socket *s = own(port);
    if (!s)
        return NET_REFUSED;
    s->port = 0;
    return 0;
}

u8 *udp_outgoing(u32 port)
{
    struct socket *s = own(port);
    return s ? s->outgoing : NULL;
}

/* What is in udp_outgoing. */
int udp_send(u32 port, u32 to, u32 to_port, u32 bytes)
{
    u8 address[ADDRESS_BYTES];
    struct socket *s = own(port);
    if (!s || !to_port || to_port > LAST_PORT)
        return NET_REFUSED;
    if (bytes > UDP_MOST)
        return NET_TOO_LONG;
    int answer = ip_way_to(to, address);
    if (answer < 0)
        return answer;

    u32 flags = critical_enter();
    struct udp_header *udp = (void *)ip_begin_patiently();
    if (udp) {
        u32 length = sizeof *udp + bytes;
        struct ip_header ip;
        put32(ip.from, own_ip);
        put32(ip.to, to);
        put16(udp->from, port);
        put16(udp->to, to_port);
        put16(udp->length, length);
        put16(udp->checksum, 0);
        memcpy(udp + 1, s->outgoing, bytes);
        u32 sum = checksum(&ip, (const u8 *)udp, length);
        put16(udp->checksum, sum ? sum : NO_CHECKSUM);  /* 0 would say that there is none; ffff adds up to the same */
        ip_send(address, to, PROTOCOL_UDP, length);
    }
    critical_leave(flags);
    return udp ? (int)bytes : NET_NO_CARD;
}

/* The oldest datagram that has come, from whom and how long it is; NULL: none in all that time. */
const u8 *udp_wait(u32 port, u32 ticks, struct datagram *what)
{
    struct socket *s = own(port);
    u32 until = network_until(ticks);
    u32 flags = critical_enter();
    while (s->arrived == s->taken)
        if (!network_sleep(until))
            break;
    int came = s->arrived != s->taken;
    critical_leave(flags);
    if (!came)
        return NULL;
    u32 at = s->taken % QUEUE;
    what->address = s->queue[at].from;
    what->port = s->queue[at].port;
    what->bytes = s->queue[at].bytes;
    return s->queue[at].data;
}

void udp_done(u32 port)
{
    struct socket *s = own(port);
    s->taken++;
}

void network_process_ends(void)
{
    for (struct socket *s = sockets; s < sockets + SOCKETS; s++)
        if (s->port && s->owner == current->pid)
            s->port = 0;
}

#endif
