/* The volume: what the disk says there is (mount), what there will be (sync). tinyfs.h has the picture.

   tinyfs      bitmap, directory and inodes as they will be at the next sync
   committed   the bitmap of the generation on the disk: these blocks must stay as they are until then

               in committed   in tinyfs.bitmap
               no             no                 free
               no             yes                new: may be written, at once and again
               yes            yes                old: a change goes to a new block
               yes            no                 given up, free after the next sync */

#ifdef DISK

#include "kernel.h"
#include "syscall_numbers.h"
#include "tinyfs.h"

struct tinyfs_metadata tinyfs __attribute__((aligned(PAGE_BYTES)));
static u8 committed[PAGE_BYTES];
static struct tinyfs_superblock volume;                 /* of the generation on the disk */
static u32 volume_on;                                   /* SCSI id */
static int mounted, changed;

/* The adapter moves whole sectors, and a superblock is at the beginning of one. */
static union { struct tinyfs_superblock super; u8 bytes[SECTOR_BYTES]; } sector __attribute__((aligned(SECTOR_BYTES)));

static int has(const u8 *bitmap, u32 block) { return bitmap[block / 8] >> block % 8 & 1; }
static void set(u8 *bitmap, u32 block) { bitmap[block / 8] |= 1 << block % 8; }

static u32 checksum(const void *from, u32 bytes)
{
    const u32 *words = from;
    u32 sum = 2166136261u;
    for (u32 i = 0; i < bytes / 4; i++)
        sum = (sum ^ words[i]) * 16777619u;
    return sum;
}

static u32 super_checksum(const struct tinyfs_superblock *super)
{
    return checksum(super, sizeof *super - sizeof super->checksum);
}

int tinyfs_is_mounted(void) { return mounted; }
u32 tinyfs_target(void) { return volume_on; }
int tinyfs_is_ours(u32 block) { return !has(committed, block); }

void tinyfs_touch(struct tinyfs_inode *inode)
{
    inode->generation = volume.generation + 1;
    changed = 1;
}

u32 tinyfs_new_block(void)
{
    for (u32 block = TINYFS_DATA_FIRST; block < volume.blocks; block++)
        if (!has(tinyfs.bitmap, block) && !has(committed, block)) {
            set(tinyfs.bitmap, block);
            return block;
        }
    return 0;
}

void tinyfs_free_block(u32 block)
{
    tinyfs.bitmap[block / 8] &= ~(1 << block % 8);
    buffer_forget(block);
}

/* mount */

static int read_super(u32 target, u32 which, struct tinyfs_superblock *super)
{
    if (!disk_transfer(target, FROM_DISK, which * SECTORS_A_BLOCK, 1, sector.bytes))
        return FILE_DISK_ERROR;
    *super = sector.super;
    static const char magic[] = TINYFS_MAGIC;
    for (u32 i = 0; i < sizeof super->magic; i++)
        if (super->magic[i] != magic[i])
            return FILE_NO_VOLUME;
    int right = super_checksum(super) == super->checksum && super->generation % 2 == which &&
                super->metadata_block == TINYFS_METADATA_FIRST + which * TINYFS_METADATA_BLOCKS &&
                super->blocks >= TINYFS_BLOCKS_LEAST && super->blocks <= TINYFS_BLOCKS_MOST &&
                super->blocks <= disk_sectors(target) / SECTORS_A_BLOCK;
    return right ? 0 : FILE_NO_VOLUME;
}

static u32 blocks_of(const struct tinyfs_inode *inode) { return (inode->size_bytes + PAGE_BYTES - 1) / PAGE_BYTES; }

/* Counts an inode's blocks into a bitmap; false if one is not a data block, or somebody else's, too. */
static int count_blocks(const struct tinyfs_inode *inode, u8 *bitmap)
{
    if (inode->size_bytes > TINYFS_FILE_BLOCKS * PAGE_BYTES)
        return 0;
    for (u32 i = 0; i < blocks_of(inode); i++) {
        u32 block = inode->block[i];
        if (block < TINYFS_DATA_FIRST || block >= volume.blocks || has(bitmap, block))
            return 0;
        set(bitmap, block);
    }
    return 1;
}

/* Nobody has to trust what a disk says: the bitmap must be what the inodes add up to, names must end, and an inode must
   not have two. */
static int is_consistent(void)
{
    u8 named[TINYFS_FILES] = { 0 };
    memset(committed, 0, sizeof committed);
    for (u32 block = 0; block < TINYFS_DATA_FIRST; block++)
        set(committed, block);
    for (u32 i = 1; i < TINYFS_FILES; i++)
        if (tinyfs.inodes[i].used && !count_blocks(&tinyfs.inodes[i], committed))
            return 0;
    for (u32 i = 0; i < TINYFS_FILES; i++) {
        const struct tinyfs_entry *entry = &tinyfs.directory[i];
        if (entry->inode >= TINYFS_FILES || entry->name[TINYFS_NAME_BYTES - 1] ||
            (entry->inode && (!tinyfs.inodes[entry->inode].used || named[entry->inode]++)))
            return 0;
    }
    for (u32 i = 0; i < sizeof committed; i++)
        if (committed[i] != tinyfs.bitmap[i])
            return 0;
    return 1;
}

static int read_metadata(u32 target, const struct tinyfs_superblock *super)
{
    if (!disk_transfer(target, FROM_DISK, super->metadata_block * SECTORS_A_BLOCK, sizeof tinyfs / SECTOR_BYTES, &tinyfs))
        return FILE_DISK_ERROR;
    volume = *super;
    return checksum(&tinyfs, sizeof tinyfs) == super->metadata_checksum && is_consistent() ? 0 : FILE_DAMAGED;
}

/* The newer generation; the other one if that is not whole. */
static int read_volume(u32 target)
{
    struct tinyfs_superblock super[2];
    int found[2], answer = FILE_NO_VOLUME;
    for (u32 i = 0; i < 2; i++) {
        found[i] = read_super(target, i, &super[i]);
        if (found[i] == FILE_DISK_ERROR)
            return FILE_DISK_ERROR;
    }
    u32 newer = !found[1] && (found[0] || super[1].generation > super[0].generation);
    for (u32 i = 0; i < 2 && answer != 0; i++) {
        u32 which = i ? !newer : newer;
        if (found[which])
            continue;
        answer = read_metadata(target, &super[which]);
        if (answer == FILE_DISK_ERROR)
            return answer;
        if (answer == FILE_DAMAGED)
            kprintf("tinyfs: generation %u on scsi %u is damaged\n", super[which].generation, target);
    }
    return answer;
}

int tinyfs_mount(void)
{
    if (mounted)
        return 0;
    volume_on = disks_first();
    if (volume_on == NO_DISK)
        return FILE_NO_DISK;
    int answer = read_volume(volume_on);
    mounted = answer == 0;
    changed = 0;
    return answer;
}

u32 tinyfs_blocks_on(u32 target)
{
    struct tinyfs_superblock super;
    u32 blocks = 0;
    for (u32 i = 0; i < 2; i++) {
        int found = read_super(target, i, &super);
        if (found == FILE_DISK_ERROR)
            return ~0u;
        if (found == 0)
            blocks = super.blocks;
    }
    return blocks;
}

/* sync */

static int write_super(u32 which)
{
    return disk_transfer(volume_on, TO_DISK, which * SECTORS_A_BLOCK, 1, sector.bytes);
}

static int write_metadata(u32 block)
{
    if (disk_trace)
        kprintf("tinyfs: metadata, blocks %u to %u = sectors %u to %u\n", block, block + TINYFS_METADATA_BLOCKS - 1,
                block * SECTORS_A_BLOCK, (block + TINYFS_METADATA_BLOCKS) * SECTORS_A_BLOCK - 1);
    return disk_transfer(volume_on, TO_DISK, block * SECTORS_A_BLOCK, sizeof tinyfs / SECTOR_BYTES, &tinyfs);
}

/* The next generation, in the order that tinyfs.h explains. */
static int write_generation(struct tinyfs_superblock next)
{
    u32 which = next.generation % 2;
    next.metadata_block = TINYFS_METADATA_FIRST + which * TINYFS_METADATA_BLOCKS;
    next.metadata_checksum = checksum(&tinyfs, sizeof tinyfs);
    next.checksum = super_checksum(&next);
    if (!buffers_write(volume_on) || !disk_flush(volume_on) || !write_metadata(next.metadata_block) ||
        !disk_flush(volume_on))
        return 0;
    for (u32 i = 0; i < sizeof committed; i++)
        committed[i] |= tinyfs.bitmap[i];               /* until the disk has answered, either may be true */
    memset(sector.bytes, 0, sizeof sector);
    sector.super = next;
    if (disk_trace)
        kprintf("tinyfs: superblock %u, generation %u, sector %u\n", which, next.generation, which * SECTORS_A_BLOCK);
    if (!write_super(which) || !disk_flush(volume_on))
        return 0;
    memcpy(committed, tinyfs.bitmap, sizeof committed);
    volume = next;
    changed = 0;
    return 1;
}

int tinyfs_sync(void)
{
    int answer = tinyfs_mount();
    if (answer < 0 || !changed)
        return answer;
    struct tinyfs_superblock next = volume;
    next.generation++;
    return write_generation(next) ? 0 : FILE_DISK_ERROR;
}

/* An empty volume over the disk's first blocks, all of them for 0. What was there is given up first, both superblocks of
   it, or the older one could win. Answers how many blocks it has. */
int tinyfs_make(u32 blocks)
{
    u32 target = disks_first();
    if (target == NO_DISK)
        return FILE_NO_DISK;
    u32 most = swap_disk_leaves(target, disk_sectors(target) / SECTORS_A_BLOCK);
    if (most > TINYFS_BLOCKS_MOST)
        most = TINYFS_BLOCKS_MOST;
    if (!blocks)
        blocks = most;
    if (blocks > most || blocks < TINYFS_BLOCKS_LEAST)
        return FILE_NO_ROOM;
    mounted = 0;
    volume_on = target;
    buffers_forget();
    memset(sector.bytes, 0, sizeof sector);
    if (!write_super(0) || !write_super(1) || !disk_flush(target))
        return FILE_DISK_ERROR;
    memset(&tinyfs, 0, sizeof tinyfs);
    for (u32 block = 0; block < TINYFS_DATA_FIRST; block++)
        set(tinyfs.bitmap, block);
    struct tinyfs_superblock first = { .magic = TINYFS_MAGIC, .blocks = blocks, .generation = 1 };
    mounted = write_generation(first);
    return mounted ? (int)blocks : FILE_DISK_ERROR;
}

#endif
