/* System calls for the network. What a program says is copied first, as with files. */

#ifdef NETWORK

#include "kernel.h"
#include "syscall_numbers.h"
#include "wire.h"
#include "x86.h"

static int readable(u32 address, u32 bytes) { return space_allows(&current->space, address, bytes, 0); }
static int writable(u32 address, u32 bytes) { return space_allows(&current->space, address, bytes, 1); }

static const char *const outcome_names[OUTCOMES] = {
    [FRAME_BAD] = "frame_bad", [TYPE_UNKNOWN] = "type_unknown",
    [ARP_BAD] = "arp_bad", [ARP_IGNORED] = "arp_ignored", [ARP_LEARNED] = "arp_learned",
    [ARP_ANSWERED] = "arp_answered",
    [IP_BAD] = "ip_bad", [IP_NOT_FOR_US] = "ip_not_for_us", [IP_FRAGMENT] = "ip_fragment",
    [IP_PROTOCOL] = "ip_protocol",
    [ICMP_BAD] = "icmp_bad", [ICMP_IGNORED] = "icmp_ignored", [ICMP_ANSWERED] = "icmp_answered",
    [PING_CAME_BACK] = "ping_came_back",
    [UDP_BAD] = "udp_bad", [UDP_NO_SUCH_PORT] = "udp_no_such_port", [UDP_QUEUE_FULL] = "udp_queue_full",
    [UDP_DELIVERED] = "udp_delivered",
    [NO_ROOM_TO_ANSWER] = "no_room_to_answer",
};

static int read_counter(u32 index, struct counter *to)
{
    const struct { const char *name; u32 value; } first[] = {
        { "sent", net_counts.sent }, { "send_errors", net_counts.send_errors }, { "missed", net_counts.missed },
        { "damaged", net_counts.damaged }, { "restarts", net_counts.restarts },
    };
    const u32 firsts = sizeof first / sizeof *first;
    if (index >= firsts + OUTCOMES)
        return 0;
    const char *name = index < firsts ? first[index].name : outcome_names[index - firsts];
    memcpy(to->name, name, strlen(name) + 1);
    to->value = index < firsts ? first[index].value : net_counts.outcome[index - firsts];
    return 1;
}

static int do_counter(u32 index, u32 to)
{
    struct counter counter = { 0 };
    if (!writable(to, sizeof counter) || !read_counter(index, &counter))
        return NET_REFUSED;
    memcpy((void *)to, &counter, sizeof counter);
    return 0;
}

static int do_info(u32 to)
{
    struct net_info info = { .address = own_ip, .gateway = gateway_ip };
    const u8 *address = pcnet_address();
    if (!address)
        return NET_NO_CARD;
    if (!writable(to, sizeof info))
        return NET_REFUSED;
    memcpy(info.card, address, sizeof info.card);
    memcpy((void *)to, &info, sizeof info);
    return 0;
}

static int do_ping(u32 at)
{
    if (!writable(at, sizeof(struct echo)))
        return NET_REFUSED;
    struct echo echo;
    memcpy(&echo, (const void *)at, sizeof echo);
    int answer = icmp_ping(&echo);
    memcpy((void *)at, &echo, sizeof echo);
    return answer;
}

static int do_send(u32 port, u32 at)
{
    u8 *outgoing = udp_outgoing(port);
    struct datagram datagram;
    if (!outgoing || !readable(at, sizeof datagram))
        return NET_REFUSED;
    memcpy(&datagram, (const void *)at, sizeof datagram);
    if (datagram.bytes > UDP_MOST)
        return NET_TOO_LONG;
    if (!readable(datagram.data, datagram.bytes))
        return NET_REFUSED;
    memcpy(outgoing, (const void *)datagram.data, datagram.bytes);
    return udp_send(port, datagram.address, datagram.port, datagram.bytes);
}

static int do_receive(u32 port, u32 at, u32 ticks)
{
    struct datagram datagram, came;
    if (!udp_outgoing(port) || !writable(at, sizeof datagram))
        return NET_REFUSED;
    memcpy(&datagram, (const void *)at, sizeof datagram);
    if (!writable(datagram.data, datagram.bytes))
        return NET_REFUSED;
    const u8 *data = udp_wait(port, ticks, &came);
    if (!data)
        return NET_NO_ANSWER;
    u32 bytes = came.bytes < datagram.bytes ? came.bytes : datagram.bytes;
    came.data = datagram.data;
    memcpy((void *)datagram.data, data, bytes);
    memcpy((void *)at, &came, sizeof came);
    udp_done(port);
    return bytes;
}

int network_syscall(u32 number, u32 a, u32 b, u32 c)
{
    switch (number) {
    case SYSCALL_NET_INFO: return do_info(a);
    case SYSCALL_NET_COUNTER: return do_counter(a, b);
    case SYSCALL_PING: return do_ping(a);
    case SYSCALL_UDP_OPEN: return udp_open(a);
    case SYSCALL_UDP_CLOSE: return udp_close(a);
    case SYSCALL_UDP_SEND: return do_send(a, b);
    default: return do_receive(a, b, c);
    }
}

#endif
