/* What the kernel built with -DDISK has beyond the others: disks behind an LSI SCSI adapter, and files on the first one.

        mkfs  ls  cat  write  rm  sync  put          (programs)
             |  system calls: file_calls.c
        files.c       names and bytes                       swap_disk.c  pages (if built with -DMEMORY, too)
        tinyfs.c      the volume: what is where, sync            |
        buffers.c     a few blocks of 4 KB in memory             |
             |                                                   |
        disks.c       sectors of 512 bytes: command descriptor blocks; sense.c: what a disk says when it refuses
        lsi.c         requests and replies in memory; lsi_start.c: the adapter is woken up
        pci.c         where it is

   Without -DDISK the functions below that the rest of the kernel calls do nothing. Without an adapter there is no disk,
   and every call for a file is refused. */

#ifndef DISK_H
#define DISK_H

#include "types.h"

#ifdef DISK

/* pci.c: device is bus 0's, 0 .. 31; function 0. */
enum { PCI_NONE = 32, PCI_IDENTITY = 0x00, PCI_COMMAND = 0x04, PCI_BASE_0 = 0x10, PCI_INTERRUPT_LINE = 0x3c };
enum { PCI_COMMAND_IO = 1 << 0, PCI_COMMAND_MASTER = 1 << 2 };
u32 pci_find(u32 vendor, u32 identity);                 /* PCI_NONE: there is none */
u32 pci_read(u32 device, u32 offset);
void pci_write(u32 device, u32 offset, u32 value);

/* lsi_start.c */
struct lsi {
    u32 device, port, irq;                              /* irq is PCI's line: an input of the PIC */
    u32 targets;                                        /* SCSI ids that it can address: 0 .. targets - 1 */
    u32 credits, frame_bytes, firmware;                 /* requests at a time, the size of one, a version */
};
int lsi_wake_up(struct lsi *lsi);                       /* true if there is one and it is operational now */

/* lsi.c */
enum { SENSE_BYTES = 32, CDB_BYTES = 16 };
enum data_direction { NO_DATA = 0, TO_DISK = 1, FROM_DISK = 2 };
enum { ANSWERED = 0, NOBODY_THERE, ADAPTER_REFUSED, ADAPTER_GONE };
struct scsi_command {
    u32 target;
    u8 cdb[CDB_BYTES];
    u32 cdb_bytes;
    enum data_direction direction;
    u32 data, data_bytes;                               /* physical address, in one piece */
    u32 failure;                                        /* ANSWERED: status and sense are the disk's answer */
    u32 adapter_status;                                 /* the adapter's own word for what went wrong */
    u32 status, moved_bytes, sense_bytes;
    u8 sense[SENSE_BYTES];
};
int lsi_find(void);
void lsi_start(void);                                   /* from now on commands sleep, before they poll */
u32 lsi_targets(void);
int lsi_has_irq(u32 irq);
void lsi_interrupt(void);
void lsi_tick(void);
void lsi_command(struct scsi_command *command);         /* returns when it is over, well or not */

/* sense.c */
struct sense { u32 key, code, qualifier; };
struct sense sense_of(const struct scsi_command *command);
const char *sense_key_name(u32 key);
const char *sense_name(u32 code, u32 qualifier);        /* "" for the many that this kernel has no words for */

/* disks.c */
enum { SECTOR_BYTES = 512, SECTORS_A_BLOCK = 8, NO_DISK = ~0u };
extern u32 disk_trace;                                  /* 1: every command is printed */
void disks_find(void);
void disks_start(void);
u32 disks_first(void);                                  /* SCSI id, or NO_DISK */
u32 disk_sectors(u32 target);                           /* 0: no such disk */
int disk_transfer(u32 target, enum data_direction direction, u32 sector, u32 sectors, const void *memory);
int disk_flush(u32 target);                             /* what was written is on the medium; true if so */

/* buffers.c: a pointer is good until the next call. */
u8 *buffer_read(u32 target, u32 block);                 /* NULL: the disk has refused */
u8 *buffer_new(u32 target, u32 block);                  /* zeros; what was there does not matter */
void buffer_changed(u32 block);
void buffer_forget(u32 block);
void buffers_forget(void);
int buffers_write(u32 target);

/* tinyfs.c, files.c: answers below 0 are errors of syscall_numbers.h. */
struct tinyfs_inode;
struct file_info;
u32 tinyfs_blocks_on(u32 target);                       /* blocks of the volume there; 0: none, ~0: cannot be read */
int tinyfs_make(u32 blocks);
int tinyfs_mount(void);
int tinyfs_is_mounted(void);
int tinyfs_sync(void);
void files_lock(void);
void files_unlock(void);
int file_create(const char *name);
int file_write(const char *name, u32 offset, const void *from, u32 bytes);
int file_read(const char *name, u32 offset, void *to, u32 bytes);
int file_remove(const char *name);
int file_list(u32 index, struct file_info *to);

/* file_calls.c */
int file_syscall(u32 number, u32 a, u32 b, u32 c);
void files_before_power_off(void);

/* swap_disk.c */
#ifdef MEMORY
u32 swap_disk_find(void);                               /* blocks for swap on a SCSI disk; 0: swap is not there */
int swap_disk_used(void);
int swap_disk_transfer(u32 command, u32 block, u32 frame);
u32 swap_disk_leaves(u32 target, u32 blocks);           /* how many of the disk's first blocks are not for swap */
#else
static inline u32 swap_disk_leaves(u32 target, u32 blocks) { (void)target; return blocks; }
#endif

#else

static inline void disks_find(void) { }
static inline void disks_start(void) { }
static inline int lsi_has_irq(u32 irq) { (void)irq; return 0; }
static inline void lsi_interrupt(void) { }
static inline void lsi_tick(void) { }
static inline void files_before_power_off(void) { }
static inline u32 swap_disk_find(void) { return 0; }
static inline int swap_disk_used(void) { return 0; }
static inline int swap_disk_transfer(u32 command, u32 block, u32 frame) { (void)command, (void)block, (void)frame; return 1; }

#endif
#endif
