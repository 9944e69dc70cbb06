/* The card is found, reset, and told where its rings are.

     kernel                                             card
     RESET -> anything                 ------------>    stopped, 16 bits wide, all registers as at power on
     BCR20 <- 2                        ------------>    descriptors of 32 bits
     CSR1, CSR2 <- the init block      ------------>
     CSR0 <- INIT                      ------------>    reads it; CSR0 bit IDON
     CSR0 <- IDON, STRT, IENA          ------------>    receives and sends from now on

   Every register takes two accesses: its number goes to RAP, then the data through RDP or BDP. The number is written
   each time, as drivers do, whatever was written before. */

#ifdef NETWORK

#include "kernel.h"
#include "pcnet.h"
#include "x86.h"

enum { VENDOR_AMD = 0x1022, AMD_79C970A = 0x2000 };
enum { SPINS = 50000, PORT_BITS = 0xfffc, IRQ_BITS = 0xff };

static u32 port;
static struct init_block block __attribute__((aligned(4)));

u32 csr_read(u32 number)
{
    out16(port + PORT_RAP, number);
    return in16(port + PORT_RDP);
}

void csr_write(u32 number, u32 value)
{
    out16(port + PORT_RAP, number);
    out16(port + PORT_RDP, value);
}

static void bcr_write(u32 number, u32 value)
{
    out16(port + PORT_RAP, number);
    out16(port + PORT_BDP, value);
}

int pcnet_wake_up(struct pcnet *pcnet)
{
    pcnet->device = pci_find(VENDOR_AMD, AMD_79C970A);
    if (pcnet->device == PCI_NONE)
        return 0;
    pci_write(pcnet->device, PCI_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_MASTER);  /* let it answer, and reach memory */
    pcnet->port = port = pci_read(pcnet->device, PCI_BASE_0) & PORT_BITS;
    pcnet->irq = pci_read(pcnet->device, PCI_INTERRUPT_LINE) & IRQ_BITS;
    in16(port + PORT_RESET);
    for (u32 i = 0; i < sizeof pcnet->address; i++)
        pcnet->address[i] = in8(port + PORT_PROM + i);
    return 1;
}

/* From a reset on: also after an error that has stopped the card. */
int pcnet_go(const struct pcnet *pcnet, const struct descriptor *receive, const struct descriptor *send)
{
    const u8 *address = pcnet->address;
    block = (struct init_block){
        .mode = (u32)RING_LOG << TLEN_SHIFT | RING_LOG << RLEN_SHIFT,    /* nothing special: own frames, broadcasts */
        .address_low = (u32)address[3] << 24 | address[2] << 16 | address[1] << 8 | address[0],
        .address_high = address[5] << 8 | address[4],
        .receive_ring = physical_address(receive), .send_ring = physical_address(send),
    };
    in16(port + PORT_RESET);
    bcr_write(BCR_STYLE, STYLE_32_BITS);
    csr_write(CSR_INIT_LOW, physical_address(&block) & 0xffff);
    csr_write(CSR_INIT_HIGH, physical_address(&block) >> 16);
    csr_write(CSR_STATUS, STATUS_INIT);
    for (u32 spins = 0; spins < SPINS; spins++)
        if (csr_read(CSR_STATUS) & STATUS_INIT_DONE) {
            csr_write(CSR_STATUS, STATUS_INIT_DONE | STATUS_START | STATUS_INTERRUPTS);
            return 1;
        }
    kprintf("pcnet: the card does not start, status %x\n", csr_read(CSR_STATUS));
    return 0;
}

#endif
