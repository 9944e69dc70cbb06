/* Echo: whoever is asked sends back what he was sent. Programs ask (icmp_ping), the interrupt answers. */

#ifdef NETWORK

#include "kernel.h"
#include "syscall_numbers.h"
#include "wire.h"
#include "x86.h"

enum { ECHO_REPLY = 0, UNREACHABLE = 3, ECHO_REQUEST = 8, CODE_PORT = 3, QUOTED_BYTES = 8, PINGS = 4 };

/* Questions that wait for their answer. */
static struct ping {
    struct echo *echo;                                  /* NULL: free */
    u32 identifier, came_back;
} pings[PINGS];

/* Byte i of what is sent along: counts up from the sequence number. */
static u8 filling(u32 sequence, u32 i) { return sequence + i; }

static void finish(struct icmp_header *icmp, u32 bytes)
{
    put16(icmp->checksum, 0);
    put16(icmp->checksum, checksum_of(checksum_add(0, (const u8 *)icmp, bytes)));
}

static enum outcome answer(const struct ip_header *ip, const u8 *data, u32 bytes, const u8 *source)
{
    struct icmp_header *reply = (void *)ip_begin();
    if (!reply)
        return NO_ROOM_TO_ANSWER;
    memcpy(reply, data, bytes);
    reply->type = ECHO_REPLY;
    finish(reply, bytes);
    ip_send(source, get32(ip->from), PROTOCOL_ICMP, bytes);
    return ICMP_ANSWERED;
}

static int is_what_was_sent(const struct ping *ping, const struct ip_header *ip, const u8 *data, u32 bytes)
{
    const struct icmp_header *icmp = (const void *)data;
    const struct echo *echo = ping->echo;
    if (!echo || ping->came_back || get32(ip->from) != echo->address || get16(icmp->identifier) != ping->identifier ||
        get16(icmp->sequence) != (echo->sequence & 0xffff) || bytes != sizeof *icmp + echo->bytes)
        return 0;
    for (u32 i = 0; i < echo->bytes; i++)
        if (data[sizeof *icmp + i] != filling(echo->sequence, i))
            return 0;
    return 1;
}

static enum outcome take_reply(const struct ip_header *ip, const u8 *data, u32 bytes)
{
    for (struct ping *ping = pings; ping < pings + PINGS; ping++)
        if (is_what_was_sent(ping, ip, data, bytes)) {
            ping->came_back = 1;
            ping->echo->hops_left = ip->hops_left;
            return PING_CAME_BACK;
        }
    return ICMP_IGNORED;
}

enum outcome icmp_receive(const struct ip_header *ip, const u8 *data, u32 bytes, const u8 *source)
{
    const struct icmp_header *icmp = (const void *)data;
    if (bytes < sizeof *icmp || checksum_of(checksum_add(0, data, bytes)))
        return ICMP_BAD;
    if (icmp->type == ECHO_REQUEST && icmp->code == 0)
        return answer(ip, data, bytes, source);
    if (icmp->type == ECHO_REPLY && icmp->code == 0)
        return take_reply(ip, data, bytes);
    return ICMP_IGNORED;
}

/* The sender of a datagram that nobody wants is told, with the beginning of what he has sent. */
void icmp_no_such_port(const struct ip_header *ip, const u8 *source)
{
    struct icmp_header *icmp = (void *)ip_begin();
    if (!icmp)
        return;
    u32 quoted = (ip->version_words & 15) * 4 + QUOTED_BYTES;
    memset(icmp, 0, sizeof *icmp);
    icmp->type = UNREACHABLE;
    icmp->code = CODE_PORT;
    memcpy(icmp + 1, ip, quoted);
    finish(icmp, sizeof *icmp + quoted);
    ip_send(source, get32(ip->from), PROTOCOL_ICMP, sizeof *icmp + quoted);
}

static int ask(struct ping *ping, const u8 *address)
{
    struct echo *echo = ping->echo;
    struct icmp_header *icmp = (void *)ip_begin_patiently();
    if (!icmp)
        return NET_NO_CARD;
    icmp->type = ECHO_REQUEST;
    icmp->code = 0;
    put16(icmp->identifier, ping->identifier);
    put16(icmp->sequence, echo->sequence);
    for (u32 i = 0; i < echo->bytes; i++)
        ((u8 *)(icmp + 1))[i] = filling(echo->sequence, i);
    finish(icmp, sizeof *icmp + echo->bytes);
    ip_send(address, echo->address, PROTOCOL_ICMP, sizeof *icmp + echo->bytes);
    u32 until = network_until(echo->ticks);
    while (!ping->came_back)
        if (!network_sleep(until))
            return NET_NO_ANSWER;
    return 0;
}

/* echo is the kernel's own, and stays where it is until this returns. */
int icmp_ping(struct echo *echo)
{
    u8 address[ADDRESS_BYTES];
    int result = echo->bytes > ECHO_MOST ? NET_TOO_LONG : ip_way_to(echo->address, address);
    if (result < 0)
        return result;
    result = NET_NO_ROOM;
    u32 flags = critical_enter();
    for (struct ping *ping = pings; ping < pings + PINGS; ping++)
        if (!ping->echo) {
            *ping = (struct ping){ .echo = echo, .identifier = current->pid & 0xffff };
            result = ask(ping, address);
            ping->echo = NULL;
            break;
        }
    critical_leave(flags);
    return result;
}

#endif
