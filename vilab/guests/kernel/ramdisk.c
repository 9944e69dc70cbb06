/* The driver of the RAM disk (vilab/devices/ramdisk.py): 4 KB blocks, moved by the device itself.

   port     read              write
   0x5690   "RDSK"
   0x5694   number of blocks
   0x5698   block             block
   0x569c   address           physical address of a frame
   0x56a0   status            command: 1 = read the block, 2 = write it
   0x56a4                     acknowledge: the interrupt has been seen

   One transfer at a time: whoever wants one locks the disk, sleeps while it works, unlocks it. */

#ifdef MEMORY

#include "kernel.h"
#include "x86.h"

enum {
    ID = 0x5690, BLOCKS = 0x5694, BLOCK = 0x5698, ADDRESS = 0x569c, COMMAND = 0x56a0, STATUS = 0x56a0,
    ACKNOWLEDGE = 0x56a4,
    IDENTITY = 0x4b534452,
    STATUS_DONE = 0x2, STATUS_REFUSED = 0x4,
};

static volatile int in_use, working;

/* Where there is no device, a port reads as all ones. */
u32 ramdisk_find(void) { return in32(ID) == IDENTITY ? in32(BLOCKS) : 0; }

void ramdisk_interrupt(void)
{
    if (!(in32(STATUS) & STATUS_DONE))
        return;
    out32(ACKNOWLEDGE, 0);
    working = 0;
    wake_up((const void *)&working);
}

void ramdisk_lock(void)
{
    u32 flags = critical_enter();
    while (in_use)
        sleep_on((const void *)&in_use);
    in_use = 1;
    critical_leave(flags);
}

void ramdisk_unlock(void)
{
    u32 flags = critical_enter();
    in_use = 0;
    wake_up((const void *)&in_use);
    critical_leave(flags);
}

void ramdisk_transfer(u32 command, u32 block, u32 frame)
{
    u32 flags = critical_enter();
    working = 1;
    out32(BLOCK, block);
    out32(ADDRESS, frame);
    out32(COMMAND, command);
    if (in32(STATUS) & STATUS_REFUSED)
        panic("the disk refuses command %u, block %u, frame %x", command, block, frame);
    while (working)
        sleep_on((const void *)&working);
    critical_leave(flags);
}

#endif
