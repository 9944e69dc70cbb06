/* The PCnet-PCI II, AMD's Am79C970A: registers behind an index, rings of descriptors in memory.

   I/O ports at the first base address, 16 bits wide:

   0x00 .. 0x05   the card's address, six bytes of a PROM
   0x10  RDP      data: the control and status register (CSR) whose number is in RAP
   0x12  RAP      the number; it has to be written first
   0x14  RESET    reading it resets the card
   0x16  BDP      data: the bus configuration register (BCR) whose number is in RAP

   CSR0, status and control:

     15   14   13   12   11   10    9    8    7    6    5    4    3    2    1    0
   +----+----+----+----+----+----+----+----+----+----+----+----+----+----+----+----+
   |ERR |BABL|CERR|MISS|MERR|RINT|TINT|IDON|INTR|IENA|RXON|TXON|TDMD|STOP|STRT|INIT|
   +----+----+----+----+----+----+----+----+----+----+----+----+----+----+----+----+
          \_____ why it interrupts: writing 1 clears ___/    ^         ^
                                                  interrupts allowed   look for frames to send now

   CSR1, CSR2: address of the initialization block, low half and high half. BCR20: software style; 2 is 32 bits wide.

   The initialization block says where the rings are, a ring is descriptors of 16 bytes, a descriptor names a buffer:

      init block                     ring                                     buffer
     +----+--+----+--+------+       +------+ +0  address of the buffer ----> +-------------------+
     |TLEN| 0|RLEN| 0| mode |  +--> |  0   | +4  flags, 31 OWN ... 11..0     | frame             |
     +----+--+----+--+------+  |    +------+ +8  received: how many bytes    +-------------------+
     |  address, 48 bits    |  |    |  1   | +12 ours, or nobody's
     |  multicast, 64 bits  |  |    +------+
     |  receive ring      --+--+    | ...  |       TLEN, RLEN: the ring has 2 to that many descriptors
     |  transmit ring     --+---->  +------+
     +----------------------+

   Flags of a descriptor:

     31    30   29-26   25   24   23-16   15-12   11-0
   +-----+-----+-------+----+----+-------+-------+------+     OWN 1: the card's, 0: ours
   | OWN | ERR |  ...  |STP |ENP |   0   | 1 1 1 1|-bytes|     STP, ENP: the frame begins, ends in this buffer
   +-----+-----+-------+----+----+-------+-------+------+     -bytes: the buffer's length, negative

   (Am79C970A data sheet: I/O Resources, Control and Status Registers, Initialization Block, Descriptors) */

#ifndef PCNET_H
#define PCNET_H

#include "types.h"

enum { PORT_PROM = 0x00, PORT_RDP = 0x10, PORT_RAP = 0x12, PORT_RESET = 0x14, PORT_BDP = 0x16 };
enum { CSR_STATUS = 0, CSR_INIT_LOW = 1, CSR_INIT_HIGH = 2, BCR_STYLE = 20, STYLE_32_BITS = 2 };

enum {
    STATUS_INIT = 1 << 0, STATUS_START = 1 << 1, STATUS_STOP = 1 << 2, STATUS_SEND_NOW = 1 << 3,
    STATUS_SENDER_ON = 1 << 4, STATUS_RECEIVER_ON = 1 << 5, STATUS_INTERRUPTS = 1 << 6,
    STATUS_INIT_DONE = 1 << 8, STATUS_SENT = 1 << 9, STATUS_RECEIVED = 1 << 10, STATUS_MEMORY_ERROR = 1 << 11,
    STATUS_MISSED = 1 << 12, STATUS_CAUSES = 0x7f00,
};

#define DESCRIPTOR_OWN      0x80000000u
#define DESCRIPTOR_ERROR    0x40000000u
#define DESCRIPTOR_START    0x02000000u
#define DESCRIPTOR_END      0x01000000u
#define DESCRIPTOR_ONES     0x0000f000u
enum { DESCRIPTOR_BYTES_BITS = 0xfff };

struct descriptor {
    u32 buffer;
    volatile u32 flags;                                 /* the card changes it behind the compiler's back */
    volatile u32 result;                                /* received: bytes of the frame and its checksum, 11 .. 0 */
    u32 unused;
};

enum { RING_LOG = 3, RING = 1 << RING_LOG, RLEN_SHIFT = 20, TLEN_SHIFT = 28 };
struct init_block {
    u32 mode;
    u32 address_low, address_high;
    u32 multicast[2];
    u32 receive_ring, send_ring;
};

/* pcnet_start.c */
struct pcnet {
    u32 device, port, irq;                              /* irq is PCI's line: an input of the PIC */
    u8 address[6];
};
u32 csr_read(u32 number);
void csr_write(u32 number, u32 value);
int pcnet_wake_up(struct pcnet *pcnet);                 /* true if there is one; it is stopped then */
int pcnet_go(const struct pcnet *pcnet, const struct descriptor *receive, const struct descriptor *send);

#endif
