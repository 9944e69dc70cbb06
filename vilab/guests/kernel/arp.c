/* Whose card has that IP address? Whoever wants to know asks all, and the one that it is answers him (RFC 826).

     10.0.0.1                                                      10.0.0.2
        |  to all: request, I am 10.0.0.1 at 00:..:01, who is 10.0.0.2?  |
        |---------------------------------------------------------------->   learns who 10.0.0.1 is: he will need it
        |<----------------------------------------------------------------|
        |  to 00:..:01: reply, I am 10.0.0.2 at 00:..:02                  |

   Anybody can say anything. So what is learnt is only: the answer to a question that was asked, who asks for us, and
   that somebody whom we know has another card now. */

#ifdef NETWORK

#include "kernel.h"
#include "wire.h"
#include "x86.h"

enum { NEIGHBOURS = 8, TRIES = 3, TRY_TICKS = 100, GOOD_FOR_TICKS = 6000 };
enum { HARDWARE_ETHERNET = 1, REQUEST = 1, REPLY = 2, GROUP_BIT = 1 };
enum neighbour_state { FREE, ASKED, KNOWN };

static struct neighbour {
    enum neighbour_state state;
    u32 ip, since;                                      /* tick */
    u8 address[ADDRESS_BYTES];
} neighbours[NEIGHBOURS];

static const u8 everybody[ADDRESS_BYTES] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
static const u8 nobody[ADDRESS_BYTES];

static struct neighbour *find(u32 ip)
{
    for (struct neighbour *n = neighbours; n < neighbours + NEIGHBOURS; n++)
        if (n->state != FREE && n->ip == ip)
            return n;
    return NULL;
}

/* A place for a new one: the oldest of the known goes. NULL: all are being asked for. */
static struct neighbour *place(u32 ip)
{
    struct neighbour *found = NULL;
    for (struct neighbour *n = neighbours; n < neighbours + NEIGHBOURS; n++) {
        if (n->state == FREE) {
            found = n;
            break;
        }
        if (n->state == KNOWN && (!found || timer_ticks() - n->since > timer_ticks() - found->since))
            found = n;
    }
    if (found) {
        found->state = ASKED;
        found->ip = ip;
    }
    return found;
}

static void learn(struct neighbour *neighbour, const u8 *address)
{
    neighbour->state = KNOWN;
    neighbour->since = timer_ticks();
    memcpy(neighbour->address, address, ADDRESS_BYTES);
}

static int send(u32 operation, const u8 *to, const u8 *target, u32 target_ip)
{
    struct arp_packet *packet = (void *)ethernet_begin();
    if (!packet)
        return 0;
    put16(packet->hardware, HARDWARE_ETHERNET);
    put16(packet->protocol, TYPE_IP);
    packet->hardware_bytes = ADDRESS_BYTES;
    packet->protocol_bytes = sizeof packet->sender_ip;
    put16(packet->operation, operation);
    memcpy(packet->sender, pcnet_address(), ADDRESS_BYTES);
    put32(packet->sender_ip, own_ip);
    memcpy(packet->target, target, ADDRESS_BYTES);
    put32(packet->target_ip, target_ip);
    ethernet_send(to, TYPE_ARP, sizeof *packet);
    return 1;
}

static int is_good(const struct arp_packet *packet)
{
    u32 operation = get16(packet->operation), all = 0;
    for (u32 i = 0; i < ADDRESS_BYTES; i++)
        all |= packet->sender[i];
    return get16(packet->hardware) == HARDWARE_ETHERNET && get16(packet->protocol) == TYPE_IP &&
           packet->hardware_bytes == ADDRESS_BYTES && packet->protocol_bytes == sizeof packet->sender_ip &&
           (operation == REQUEST || operation == REPLY) && all && !(packet->sender[0] & GROUP_BIT);
}

/* A sender without an IP address asks whether ours is taken: answered, but there is nothing to be learnt. */
enum outcome arp_receive(const u8 *data, u32 bytes)
{
    const struct arp_packet *packet = (const void *)data;
    if (bytes < sizeof *packet || !is_good(packet))
        return ARP_BAD;
    u32 sender = get32(packet->sender_ip);
    int for_us = get32(packet->target_ip) == own_ip, asks = get16(packet->operation) == REQUEST;
    int is_neighbour = is_own_net(sender) && is_host(sender);
    if (!is_neighbour && !(sender == 0 && for_us && asks))
        return ARP_IGNORED;

    struct neighbour *neighbour = is_neighbour ? find(sender) : NULL;
    if (is_neighbour && !neighbour && for_us && asks)
        neighbour = place(sender);
    if (neighbour)
        learn(neighbour, packet->sender);
    if (for_us && asks)
        return send(REPLY, packet->sender, packet->sender, sender) ? ARP_ANSWERED : NO_ROOM_TO_ANSWER;
    return neighbour ? ARP_LEARNED : ARP_IGNORED;
}

/* True if it is known by then. A question that finds no room to be sent is asked at the next try. */
static int ask(u32 ip)
{
    for (u32 try = 0; try < TRIES; try++) {
        struct neighbour *neighbour = find(ip);
        if (!neighbour)
            neighbour = place(ip);
        if (!neighbour)
            return 0;
        send(REQUEST, everybody, nobody, ip);
        u32 until = network_until(TRY_TICKS);
        do {
            neighbour = find(ip);
            if (neighbour && neighbour->state == KNOWN)
                return 1;
        } while (network_sleep(until));
    }
    return 0;
}

static void forget(u32 ip)
{
    struct neighbour *neighbour = find(ip);
    if (neighbour && neighbour->state == ASKED)
        neighbour->state = FREE;
}

int arp_find(u32 ip, u8 *address)
{
    u32 flags = critical_enter();
    struct neighbour *neighbour = find(ip);
    if (neighbour && neighbour->state == KNOWN && timer_ticks() - neighbour->since >= GOOD_FOR_TICKS)
        neighbour->state = ASKED;                       /* he may have gone, and somebody else be there */
    int known = (neighbour && neighbour->state == KNOWN) || ask(ip);
    if (known)
        memcpy(address, find(ip)->address, ADDRESS_BYTES);
    else
        forget(ip);
    critical_leave(flags);
    return known;
}

#endif
