/* Who is on the PCI bus: configuration mechanism 1 (PCI local bus specification 2.1, 3.7.4.1).

   port 0xcf8, 32 bits: which register               port 0xcfc, 32 bits: what is in it

      31  30-24   23-16    15-11    10-8      7-2     1 0
    +---+-------+--------+--------+-------+---------+-----+
    | 1 |   0   | bus 0  | device |   0   |  dword  | 0 0 |
    +---+-------+--------+--------+-------+---------+-----+

   Dword 0 is vendor (low half) and device (high half); an empty slot answers all ones. */

#ifdef DISK

#include "kernel.h"
#include "x86.h"

enum { ADDRESS = 0xcf8, DATA = 0xcfc, DEVICE_SHIFT = 11 };
#define ENABLE 0x80000000u

u32 pci_read(u32 device, u32 offset)
{
    out32(ADDRESS, ENABLE | device << DEVICE_SHIFT | offset);
    return in32(DATA);
}

void pci_write(u32 device, u32 offset, u32 value)
{
    out32(ADDRESS, ENABLE | device << DEVICE_SHIFT | offset);
    out32(DATA, value);
}

u32 pci_find(u32 vendor, u32 identity)
{
    u32 device = 0;
    while (device < PCI_NONE && pci_read(device, PCI_IDENTITY) != (identity << 16 | vendor))
        device++;
    return device;
}

#endif
