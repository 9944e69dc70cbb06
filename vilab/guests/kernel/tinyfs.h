/* tinyfs: a file system whose every sync is one sector. What is on the disk, in blocks of 4 KB:

   block  0        1        2 .. 7        8 .. 13       14 ...
        +--------+--------+-------------+-------------+--------------------------+
        | super- | super- | metadata,   | metadata,   | data: blocks of files    |
        | block 0| block 1| copy 0      | copy 1      |                          |
        +--------+--------+-------------+-------------+--------------------------+

   metadata   block +0        bitmap: bit b % 8 of byte b / 8 is 1: block b is in use (blocks 0 .. 13 always are)
                    +1        directory: 128 entries of 32 bytes, inode number (0: empty) and name (27 bytes and a 0)
                    +2 .. +5  128 inodes of 128 bytes: used, size, generation of the last change, 28 block numbers

   superblock in the first sector of its block: magic, blocks, generation g, first block of the metadata, checksum of
              the metadata, checksum of the superblock itself. Numbers are little-endian.

   Generation g is described by superblock g % 2 and metadata copy g % 2. The volume is what the superblock with the
   highest g says whose two checksums are right. sync makes the next generation:

       1. blocks of files        into blocks that are free in generation g     | flush the disk's cache
       2. metadata               copy (g + 1) % 2                              | flush
       3. superblock, one sector number (g + 1) % 2                            | flush: now it is g + 1

   A crash before the end of 3 leaves generation g, untouched: nothing of it was ever written over. What a file loses
   by that is what was not synced. A changed block therefore gets a new place, and the old one is free only after the
   next sync.

   checksum(words): c = 2166136261; for each word of 32 bits: c = (c ^ word) * 16777619      (FNV-1a, by words)

   Limits: 32768 blocks (128 MB; the rest of a larger disk is not used), 127 files, 28 blocks (112 KB) a file.
   vilab/guests/tinyfs.py reads it, too. */

#ifndef TINYFS_H
#define TINYFS_H

#include "layout.h"
#include "types.h"

#define TINYFS_MAGIC "tinyfs1"            /* 8 bytes with its 0 */

enum {
    TINYFS_METADATA_FIRST = 2, TINYFS_METADATA_BLOCKS = 6,
    TINYFS_DATA_FIRST = TINYFS_METADATA_FIRST + 2 * TINYFS_METADATA_BLOCKS,
    TINYFS_BLOCKS_LEAST = TINYFS_DATA_FIRST + 2, TINYFS_BLOCKS_MOST = 8 * PAGE_BYTES,
    TINYFS_FILES = 128, TINYFS_NAME_BYTES = 28, TINYFS_FILE_BLOCKS = 28,
};

struct tinyfs_superblock {
    char magic[8];
    u32 blocks, generation, metadata_block, metadata_checksum;
    u32 checksum;                               /* of the words before it */
};

struct tinyfs_entry {
    u32 inode;                                  /* 1 .. 127; 0: no entry */
    char name[TINYFS_NAME_BYTES];
};

struct tinyfs_inode {
    u32 used;                                   /* 0 or 1 */
    u32 size_bytes;
    u32 generation;                             /* the first one that has it as it is now */
    u32 reserved;
    u32 block[TINYFS_FILE_BLOCKS];              /* as many as size_bytes needs; the others are 0 */
};

struct tinyfs_metadata {
    u8 bitmap[PAGE_BYTES];
    struct tinyfs_entry directory[TINYFS_FILES];
    struct tinyfs_inode inodes[TINYFS_FILES];   /* number 0 is never used */
};

/* tinyfs.c to files.c */
extern struct tinyfs_metadata tinyfs;           /* of the volume, as it will be at the next sync */
u32 tinyfs_target(void);
void tinyfs_touch(struct tinyfs_inode *inode);
u32 tinyfs_new_block(void);                     /* 0: none is free */
void tinyfs_free_block(u32 block);
int tinyfs_is_ours(u32 block);                  /* taken since the last sync: may be written where it is */

#endif
