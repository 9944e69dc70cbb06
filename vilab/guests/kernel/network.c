/* Who we are on the network, and who waits for something from it.

   All that wait sleep on the same event: there are few. Each looks again whether it was his. */

#ifdef NETWORK

#include "kernel.h"
#include "wire.h"
#include "x86.h"

#define NET_MASK 0xffffff00u

enum { OWN_NET = 10 << 24, LAST_BITS = 0xff, INSTEAD = 254, FIRST_GROUP = 224, LOOP = 127, MOST_TICKS = 0x7fffffff };

u32 own_ip, gateway_ip;
struct net_counts net_counts;
static u32 waiting;

int is_own_net(u32 ip) { return ((ip ^ own_ip) & NET_MASK) == 0; }

int is_host(u32 ip)
{
    u32 first = ip >> 24, last = ip & LAST_BITS;
    return first != 0 && first != LOOP && first < FIRST_GROUP && ip != own_ip &&
           !(is_own_net(ip) && (last == 0 || last == LAST_BITS));
}

/* The value of "name=A.B.C.D"; 0 if there is none. */
static u32 boot_address(const char *name)
{
    u32 length, ip = 0, part = 0, parts = 1;
    const char *text = boot_option(name, &length);
    for (; length && ((*text >= '0' && *text <= '9') || *text == '.'); length--, text++)
        if (*text == '.') {
            ip = ip << 8 | part;
            part = 0;
            parts++;
        } else {
            part = (part * 10 + (*text - '0')) & LAST_BITS;
        }
    return parts == 4 ? ip << 8 | part : 0;
}

void network_start(void)
{
    if (!pcnet_find())
        return;
    const u8 *address = pcnet_address();
    u32 last = address[ADDRESS_BYTES - 1];
    own_ip = boot_address("ip");
    if (!own_ip)
        own_ip = OWN_NET | (last == 0 || last == LAST_BITS ? INSTEAD : last);
    gateway_ip = boot_address("gateway");
    kprintf("network: %u.%u.%u.%u, card ", own_ip >> 24, own_ip >> 16 & 0xff, own_ip >> 8 & 0xff, own_ip & 0xff);
    for (u32 i = 0; i < ADDRESS_BYTES; i++)
        kprintf("%s%c%c", i ? ":" : "", "0123456789abcdef"[address[i] >> 4], "0123456789abcdef"[address[i] & 15]);
    kprintf("\n");
}

void network_wake(void) { wake_up(&waiting); }

u32 network_until(u32 ticks) { return timer_ticks() + (ticks < MOST_TICKS ? ticks : MOST_TICKS); }

int network_sleep(u32 until)
{
    if ((int)(timer_ticks() - until) >= 0)
        return 0;
    current->wake_at = until;
    waiting++;
    sleep_on(&waiting);
    waiting--;
    return 1;
}

/* Each tick of the timer: whose time is over? */
void network_tick(void)
{
    if (!waiting)
        return;
    for (struct process *p = process_table; p < process_table + PROCESSES; p++)
        if (p->state == SLEEPING && p->waits_for == &waiting && (int)(timer_ticks() - p->wake_at) >= 0)
            p->state = RUNNABLE;
}

#endif
