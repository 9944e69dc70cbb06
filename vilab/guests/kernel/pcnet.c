/* Frames through the card: two rings, and an interrupt.

            taken                 given
              v                     v
     +-----+-----+-----+-----+-----+-----+-----+-----+
     | ours| card| card| card| card| ours| ours| ours|     send ring: the card empties what we give to it
     +-----+-----+-----+-----+-----+-----+-----+-----+
     +-----+-----+-----+-----+-----+-----+-----+-----+
     | card| card| ours| ours| card| card| card| card|     receive ring: the card fills what we give to it
     +-----+-----+-----+-----+-----+-----+-----+-----+
                    ^
                   next: a frame that nobody has looked at

   A frame that is sent takes three accesses of the data register, and one of them makes the card do something:

     pcnet_send        CSR0 <- TDMD       the card reads descriptor and frame, and sends
     pcnet_interrupt   CSR0 ->            why does it interrupt?
                       CSR0 <- causes     they are known: the line falls

   A monitor that carries out the other two itself, and leaves its world only for the first, saves most of the cost of
   an emulated card. (Sugerman, Venkitachalam, Lim, USENIX ATC 2001, section 3) */

#ifdef NETWORK

#include "kernel.h"
#include "pcnet.h"
#include "x86.h"

enum { BUFFER_BYTES = 1536, CHECKSUM_BYTES = 4 };       /* a frame of 1514 bytes, its checksum, and some more */

static struct pcnet card;
static int is_there;
static u32 next;                                        /* of the receive ring */
static u32 given, taken;                                /* frames ever; in the send ring they are % RING */

static struct descriptor receive_ring[RING] __attribute__((aligned(16)));
static struct descriptor send_ring[RING] __attribute__((aligned(16)));
static u8 receive_buffers[RING][BUFFER_BYTES] __attribute__((aligned(16)));
static u8 send_buffers[RING][BUFFER_BYTES] __attribute__((aligned(16)));

const u8 *pcnet_address(void) { return is_there ? card.address : NULL; }
int pcnet_has_irq(u32 irq) { return is_there && irq == card.irq; }

static u32 negative(u32 bytes) { return -bytes & DESCRIPTOR_BYTES_BITS; }

/* Whatever the descriptor says has to be in memory before it is the card's. */
static void give(struct descriptor *descriptor, u32 flags)
{
    asm volatile("" : : : "memory");
    descriptor->flags = DESCRIPTOR_OWN | DESCRIPTOR_ONES | flags;
}

static void give_to_receive(struct descriptor *descriptor)
{
    descriptor->result = 0;
    give(descriptor, negative(BUFFER_BYTES));
}

static int start(void)
{
    next = given = taken = 0;
    for (u32 i = 0; i < RING; i++) {
        receive_ring[i].buffer = physical_address(receive_buffers[i]);
        give_to_receive(&receive_ring[i]);
        send_ring[i].buffer = physical_address(send_buffers[i]);
        send_ring[i].flags = 0;
    }
    return pcnet_go(&card, receive_ring, send_ring);
}

int pcnet_find(void)
{
    if (!pcnet_wake_up(&card) || !start())
        return 0;
    is_there = 1;
    pic_unmask(card.irq);
    kprintf("pcnet: PCI device %u, ports at %x, IRQ %u\n", card.device, card.port, card.irq);
    return 1;
}

/* Room for a frame; NULL: all are on their way. Interrupts stay off from here to pcnet_send. */
u8 *pcnet_frame(void)
{
    return is_there && given - taken < RING ? send_buffers[given % RING] : NULL;
}

void pcnet_send(u32 bytes)
{
    give(&send_ring[given % RING], DESCRIPTOR_START | DESCRIPTOR_END | negative(bytes));
    given++;
    net_counts.sent++;
    csr_write(CSR_STATUS, STATUS_SEND_NOW | STATUS_INTERRUPTS);
}

static void take_back_sent(void)
{
    for (; taken != given && !(send_ring[taken % RING].flags & DESCRIPTOR_OWN); taken++)
        if (send_ring[taken % RING].flags & DESCRIPTOR_ERROR)
            net_counts.send_errors++;
}

/* The chip writes how long the frame is, then gives the descriptor back. An emulated card may write both at once, in
   another thread: seen from here in any order. So the length is 0 until there is one. */
static int is_received(const struct descriptor *descriptor)
{
    u32 flags = descriptor->flags;
    int has_length = (flags & (DESCRIPTOR_END | DESCRIPTOR_ERROR)) == DESCRIPTOR_END;
    return !(flags & DESCRIPTOR_OWN) && (!has_length || descriptor->result & DESCRIPTOR_BYTES_BITS);
}

/* A frame that is longer than a buffer lies in several: no good one is. At most a ring full at a time: for what comes
   meanwhile the card interrupts again. */
static void take_received(void)
{
    for (u32 i = 0; i < RING && is_received(&receive_ring[next]); i++) {
        struct descriptor *descriptor = &receive_ring[next];
        u32 bytes = descriptor->result & DESCRIPTOR_BYTES_BITS;
        u32 whole = DESCRIPTOR_START | DESCRIPTOR_END;
        int is_whole = (descriptor->flags & (whole | DESCRIPTOR_ERROR)) == whole;
        if (is_whole && bytes > CHECKSUM_BYTES && bytes <= BUFFER_BYTES)
            ethernet_receive(receive_buffers[next], bytes - CHECKSUM_BYTES);
        else
            net_counts.damaged++;
        give_to_receive(descriptor);
        next = (next + 1) % RING;
    }
}

/* What was to be sent is lost, as frames may be; what was received is looked at first. */
static void restart(u32 status)
{
    kprintf("pcnet: the card has stopped, status %x; it is started again\n", status);
    net_counts.restarts++;
    is_there = start();
}

/* The line may be another card's, too: then there is no cause, and nothing to do. */
void pcnet_interrupt(void)
{
    u32 status = csr_read(CSR_STATUS);
    u32 causes = status & STATUS_CAUSES;
    if (!causes)
        return;
    csr_write(CSR_STATUS, causes | STATUS_INTERRUPTS);
    if (causes & STATUS_MISSED)
        net_counts.missed++;
    take_back_sent();
    take_received();
    u32 on = STATUS_SENDER_ON | STATUS_RECEIVER_ON;
    if (causes & STATUS_MEMORY_ERROR || (status & on) != on)
        restart(status);
    network_wake();
}

#endif
