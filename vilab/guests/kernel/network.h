/* What the kernel built with -DNETWORK has beyond the one with -DDISK: a PCnet card, and ARP, ICMP and UDP above it.

        ping  udpecho  netsend  netsink  netstat         (programs)
             |  system calls: network_calls.c
        icmp.c    udp.c            echo; ports and their queues
             |      |
             ip.c                  addresses, checksums, the way to a neighbour
          arp.c                    whose address is that?
        ethernet.c                 one frame in, one frame out; network.c: who we are, who waits
             |
        pcnet.c                    rings in memory, the interrupt; pcnet_start.c: the card is woken up
        pci.c                      where it is

   Boot options: ip=A.B.C.D, else 10.0.0.x with the last byte of the card's address as x (0 and 255 are no hosts: 254
   then); gateway=A.B.C.D, else none. The first three numbers of an address are the network, as with a mask of
   255.255.255.0. What is not on it goes to the gateway.

   What arrives is dealt with in the interrupt, down to the answer: nobody has to be awake for a ping to be answered.
   Programs sleep until something has come for them, or the time that they would wait is over.

   Not here: fragments, broadcasts but ARP's, TCP, talking to oneself. Without a card every call is refused. */

#ifndef NETWORK_H
#define NETWORK_H

#include "types.h"

#ifdef NETWORK

/* What has become of a frame that was received. */
enum outcome {
    FRAME_BAD, TYPE_UNKNOWN,
    ARP_BAD, ARP_IGNORED, ARP_LEARNED, ARP_ANSWERED,
    IP_BAD, IP_NOT_FOR_US, IP_FRAGMENT, IP_PROTOCOL,
    ICMP_BAD, ICMP_IGNORED, ICMP_ANSWERED, PING_CAME_BACK,
    UDP_BAD, UDP_NO_SUCH_PORT, UDP_QUEUE_FULL, UDP_DELIVERED,
    NO_ROOM_TO_ANSWER,
    OUTCOMES,
};
struct net_counts {
    u32 sent, send_errors;
    u32 missed;                                         /* the card had no buffer */
    u32 damaged;                                        /* or too long: known by the card */
    u32 restarts;
    u32 outcome[OUTCOMES];                              /* of each of the others */
};
extern struct net_counts net_counts;

/* network.c */
extern u32 own_ip, gateway_ip;                          /* 0: there is no card; no gateway */
void network_start(void);
void network_tick(void);
void network_wake(void);                                /* something has happened that somebody may wait for */
u32 network_until(u32 ticks);                           /* the tick at which so many are over; the most is 248 days */
int network_sleep(u32 until);                           /* with interrupts off; false: that tick is over */
int is_own_net(u32 ip);
int is_host(u32 ip);                                    /* can be somebody else's address */

/* pcnet.c */
int pcnet_find(void);
int pcnet_has_irq(u32 irq);
void pcnet_interrupt(void);
const u8 *pcnet_address(void);                          /* NULL: there is no card */
u8 *pcnet_frame(void);
void pcnet_send(u32 bytes);

/* ethernet.c: from begin to send interrupts are off, and one frame is in the making. */
void ethernet_receive(const u8 *frame, u32 bytes);
u8 *ethernet_begin(void);                               /* where the data goes; NULL: no room now */
void ethernet_send(const u8 *to, u32 type, u32 data_bytes);

/* arp.c */
enum outcome arp_receive(const u8 *data, u32 bytes);
int arp_find(u32 ip, u8 *address);                      /* may sleep; false: nobody says that it is his */

/* ip.c: source is the Ethernet address that the packet came from. */
enum outcome ip_receive(const u8 *data, u32 bytes, const u8 *source);
int ip_way_to(u32 ip, u8 *address);                     /* may sleep; 0, or an error of syscall_numbers.h */
u8 *ip_begin(void);
u8 *ip_begin_patiently(void);                           /* may sleep; NULL: there is no room for a long time */
void ip_send(const u8 *address, u32 to, u32 protocol, u32 data_bytes);

/* icmp.c */
struct ip_header;
struct echo;
enum outcome icmp_receive(const struct ip_header *ip, const u8 *data, u32 bytes, const u8 *source);
void icmp_no_such_port(const struct ip_header *ip, const u8 *source);
int icmp_ping(struct echo *echo);

/* udp.c: a port belongs to the process that has opened it, and is closed when that ends. */
enum outcome udp_receive(const struct ip_header *ip, const u8 *data, u32 bytes, const u8 *source);
struct datagram;
int udp_open(u32 port);
int udp_close(u32 port);
u8 *udp_outgoing(u32 port);                             /* room for UDP_MOST bytes; NULL: not the caller's port */
int udp_send(u32 port, u32 to, u32 to_port, u32 bytes);
const u8 *udp_wait(u32 port, u32 ticks, struct datagram *what);
void udp_done(u32 port);                                /* what udp_wait has found may be forgotten */
void network_process_ends(void);

/* network_calls.c */
int network_syscall(u32 number, u32 a, u32 b, u32 c);

#else

static inline void network_start(void) { }
static inline void network_tick(void) { }
static inline int pcnet_has_irq(u32 irq) { (void)irq; return 0; }
static inline void pcnet_interrupt(void) { }
static inline void network_process_ends(void) { }

#endif
#endif
