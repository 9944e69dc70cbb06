/* The adapter is found and woken up: reset, then three messages through the doorbell, word by word.

     kernel                                             adapter
     doorbell <- handshake, n dwords  --------------->  status bit 0
     doorbell <- dword, n times       --------------->  understands, answers: status bit 0
     doorbell -> 16 bits, status <- 0 <---------------  the next 16 bits: status bit 0      ... as long as the reply says
     status <- 0                      <---------------  through: status bit 0

   reset -> READY     IOCFacts: what can you do?     IOCInit: this is how I talk  -> OPERATIONAL     PortEnable

   Later messages are frames in memory (lsi.c). */

#ifdef DISK

#include "kernel.h"
#include "lsi.h"
#include "x86.h"

enum { VENDOR_LSI = 0x1000, LSI_53C1030 = 0x0030, LSI_SAS1068 = 0x0054 };       /* another bus, the same messages */
enum { SPINS = 50000, MOST_HALVES = 2 * sizeof(struct ioc_facts) / 4, TARGETS_MOST = 16 };
enum { PORT_BITS = 0xfffc, IRQ_BITS = 0xff };

static u32 port;

static int doorbell_rang(void)
{
    for (u32 spins = 0; spins < SPINS; spins++)
        if (in32(port + INT_STATUS) & INT_DOORBELL)
            return 1;
    return 0;
}

static void doorbell_acknowledge(void) { out32(port + INT_STATUS, 0); }

static int doorbell_idle(void)
{
    for (u32 spins = 0; spins < SPINS; spins++)
        if (!(in32(port + INT_STATUS) & INT_DOORBELL_BUSY))
            return 1;
    return 0;
}

static int send(const void *message, u32 dwords)
{
    out32(port + INT_STATUS, 0);
    out32(port + DOORBELL, (u32)FUNCTION_HANDSHAKE << FUNCTION_SHIFT | dwords << DWORDS_SHIFT);
    if (!doorbell_rang())
        return 0;
    doorbell_acknowledge();
    for (u32 i = 0; i < dwords; i++) {
        if (!doorbell_idle())
            return 0;
        out32(port + DOORBELL, ((const u32 *)message)[i]);
    }
    return 1;
}

/* The second half word of a reply says how long it is. What there is no room for is read all the same. */
static int receive(u16 *reply)
{
    u32 halves = 2;
    for (u32 i = 0; i < halves; i++) {
        if (!doorbell_rang())
            return 0;
        u16 half = in32(port + DOORBELL) & DATA_BITS;
        doorbell_acknowledge();
        if (i < MOST_HALVES)
            reply[i] = half;
        if (i == 1)
            halves = 2 * (half & 0xff);
    }
    if (!doorbell_rang())
        return 0;
    doorbell_acknowledge();
    return 1;
}

/* Sends one message; true if it was answered, and well. */
static int ask(const char *name, const void *message, u32 bytes, struct ioc_facts *reply)
{
    memset(reply, 0, sizeof *reply);
    if (!send(message, bytes / 4) || !receive((u16 *)reply)) {
        kprintf("lsi: no answer to %s\n", name);
        return 0;
    }
    if (reply->head.status & IOC_STATUS_BITS) {
        kprintf("lsi: %s refused, status %x\n", name, reply->head.status);
        return 0;
    }
    return 1;
}

static int reaches_state(u32 state)
{
    for (u32 spins = 0; spins < SPINS; spins++)
        if (in32(port + DOORBELL) >> STATE_SHIFT == state)
            return 1;
    kprintf("lsi: the adapter is in state %u, not %u\n", in32(port + DOORBELL) >> STATE_SHIFT, state);
    return 0;
}

static int initialize(struct lsi *lsi, struct ioc_facts *reply)
{
    struct message facts = { .function = IOC_FACTS }, enable = { .function = PORT_ENABLE };
    if (!ask("IOCFacts", &facts, sizeof facts, reply))
        return 0;
    lsi->credits = reply->credits;
    lsi->frame_bytes = reply->frame_dwords * 4;
    lsi->firmware = reply->firmware;
    lsi->targets = reply->targets && reply->targets < TARGETS_MOST ? reply->targets : TARGETS_MOST;     /* 0 is 256 */

    struct ioc_init init = {
        .who = WHO_HOST_DRIVER, .function = IOC_INIT, .targets = reply->targets, .buses = 1, .reply_bytes = FRAME_BYTES,
    };
    return ask("IOCInit", &init, sizeof init, reply) && reaches_state(STATE_OPERATIONAL) &&
           ask("PortEnable", &enable, sizeof enable, reply);
}

int lsi_wake_up(struct lsi *lsi)
{
    struct ioc_facts reply;
    lsi->device = pci_find(VENDOR_LSI, LSI_53C1030);
    if (lsi->device == PCI_NONE)
        lsi->device = pci_find(VENDOR_LSI, LSI_SAS1068);
    if (lsi->device == PCI_NONE)
        return 0;
    pci_write(lsi->device, PCI_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_MASTER);   /* let it answer, and reach memory */
    lsi->port = port = pci_read(lsi->device, PCI_BASE_0) & PORT_BITS;
    lsi->irq = pci_read(lsi->device, PCI_INTERRUPT_LINE) & IRQ_BITS;

    out32(port + DOORBELL, (u32)FUNCTION_RESET << FUNCTION_SHIFT);
    out32(port + INT_MASK, INT_DOORBELL | INT_REPLY);
    return reaches_state(STATE_READY) && initialize(lsi, &reply);
}

#endif
