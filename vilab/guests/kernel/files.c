/* Files by name: the directory says which inode, the inode which blocks, in their order.

     directory            inodes                       blocks of the disk
     [ 3 | "greeting" ]   [3] size 5000, 14, 17 ---->  14: bytes 0 .. 4095     17: bytes 4096 .. 4999, the rest is 0

   A name that is given up and a block that is given up are free in memory at once; on the disk they are still what they
   were until the next sync. Two programs do not disturb each other: one call at a time (files_lock). */

#ifdef DISK

#include "kernel.h"
#include "syscall_numbers.h"
#include "tinyfs.h"
#include "x86.h"

static volatile int in_use;

void files_lock(void)
{
    u32 flags = critical_enter();
    while (in_use)
        sleep_on((const void *)&in_use);
    in_use = 1;
    critical_leave(flags);
}

void files_unlock(void)
{
    u32 flags = critical_enter();
    in_use = 0;
    wake_up((const void *)&in_use);
    critical_leave(flags);
}

static struct tinyfs_entry *find_entry(const char *name)
{
    for (u32 i = 0; i < TINYFS_FILES; i++)
        if (tinyfs.directory[i].inode && streq(tinyfs.directory[i].name, name))
            return &tinyfs.directory[i];
    return NULL;
}

/* The inode of a file that there is; NULL, and *error says why not. */
static struct tinyfs_inode *find(const char *name, int *error)
{
    *error = tinyfs_mount();
    if (*error < 0)
        return NULL;
    struct tinyfs_entry *entry = find_entry(name);
    if (!entry)
        *error = FILE_NOT_FOUND;
    return entry ? &tinyfs.inodes[entry->inode] : NULL;
}

static void make_empty(struct tinyfs_inode *inode)
{
    for (u32 i = 0; i < TINYFS_FILE_BLOCKS; i++) {
        if (inode->block[i])
            tinyfs_free_block(inode->block[i]);
        inode->block[i] = 0;
    }
    inode->size_bytes = 0;
    tinyfs_touch(inode);
}

static u32 free_inode(void)
{
    for (u32 i = 1; i < TINYFS_FILES; i++)
        if (!tinyfs.inodes[i].used)
            return i;
    return 0;
}

static struct tinyfs_entry *free_entry(void)
{
    for (u32 i = 0; i < TINYFS_FILES; i++)
        if (!tinyfs.directory[i].inode)
            return &tinyfs.directory[i];
    return NULL;
}

int file_create(const char *name)
{
    int error;
    if (!*name || strlen(name) >= TINYFS_NAME_BYTES)
        return FILE_BAD_NAME;
    struct tinyfs_inode *inode = find(name, &error);
    if (inode) {
        make_empty(inode);
        return 0;
    }
    if (error != FILE_NOT_FOUND)
        return error;
    u32 number = free_inode();
    struct tinyfs_entry *entry = free_entry();
    if (!number || !entry)
        return FILE_NO_ROOM;
    memset(entry, 0, sizeof *entry);
    memcpy(entry->name, name, strlen(name));
    entry->inode = number;
    inode = &tinyfs.inodes[number];
    memset(inode, 0, sizeof *inode);
    inode->used = 1;
    tinyfs_touch(inode);
    return 0;
}

int file_remove(const char *name)
{
    int error;
    struct tinyfs_inode *inode = find(name, &error);
    if (!inode)
        return error;
    make_empty(inode);
    memset(inode, 0, sizeof *inode);
    memset(find_entry(name), 0, sizeof(struct tinyfs_entry));
    return 0;
}

/* The buffer of the file's i-th block, in a place that may be written: a new one, if the disk's generation has the old. */
static u8 *block_to_change(struct tinyfs_inode *inode, u32 i, int *error)
{
    u32 old = inode->block[i];
    *error = FILE_DISK_ERROR;
    if (old && tinyfs_is_ours(old))
        return buffer_read(tinyfs_target(), old);
    u32 new = tinyfs_new_block();
    if (!new) {
        *error = FILE_NO_ROOM;
        return NULL;
    }
    static u8 kept[PAGE_BYTES];
    const u8 *before = old ? buffer_read(tinyfs_target(), old) : NULL;
    if (before)
        memcpy(kept, before, PAGE_BYTES);
    u8 *after = old && !before ? NULL : buffer_new(tinyfs_target(), new);
    if (!after) {
        tinyfs_free_block(new);
        return NULL;
    }
    if (before)
        memcpy(after, kept, PAGE_BYTES);
    if (old)
        tinyfs_free_block(old);
    inode->block[i] = new;
    return after;
}

/* As much of it as goes into one block; how much that was. */
static int write_part(struct tinyfs_inode *inode, u32 offset, const u8 *from, u32 bytes)
{
    u32 i = offset / PAGE_BYTES, at = offset % PAGE_BYTES;
    int error;
    if (i >= TINYFS_FILE_BLOCKS)
        return FILE_TOO_LARGE;
    if (bytes > PAGE_BYTES - at)
        bytes = PAGE_BYTES - at;
    u8 *block = block_to_change(inode, i, &error);
    if (!block)
        return error;
    memcpy(block + at, from, bytes);
    buffer_changed(inode->block[i]);
    if (offset + bytes > inode->size_bytes)
        inode->size_bytes = offset + bytes;
    tinyfs_touch(inode);
    return bytes;
}

int file_write(const char *name, u32 offset, const void *from, u32 bytes)
{
    int error;
    struct tinyfs_inode *inode = find(name, &error);
    if (!inode)
        return error;
    if (offset > inode->size_bytes)
        return FILE_REFUSED;
    for (u32 done = 0; done < bytes; ) {
        int part = write_part(inode, offset + done, (const u8 *)from + done, bytes - done);
        if (part < 0)
            return part;
        done += part;
    }
    return bytes;
}

int file_read(const char *name, u32 offset, void *to, u32 bytes)
{
    int error;
    struct tinyfs_inode *inode = find(name, &error);
    if (!inode)
        return error;
    if (offset >= inode->size_bytes)
        return 0;
    if (bytes > inode->size_bytes - offset)
        bytes = inode->size_bytes - offset;
    for (u32 done = 0; done < bytes; ) {
        u32 i = (offset + done) / PAGE_BYTES, at = (offset + done) % PAGE_BYTES;
        u32 part = bytes - done < PAGE_BYTES - at ? bytes - done : PAGE_BYTES - at;
        const u8 *block = buffer_read(tinyfs_target(), inode->block[i]);
        if (!block)
            return FILE_DISK_ERROR;
        memcpy((u8 *)to + done, block + at, part);
        done += part;
    }
    return bytes;
}

/* The index-th file of the directory. */
int file_list(u32 index, struct file_info *to)
{
    int error = tinyfs_mount();
    if (error < 0)
        return error;
    for (u32 i = 0; i < TINYFS_FILES; i++) {
        const struct tinyfs_entry *entry = &tinyfs.directory[i];
        if (!entry->inode || index--)
            continue;
        const struct tinyfs_inode *inode = &tinyfs.inodes[entry->inode];
        memcpy(to->name, entry->name, sizeof to->name);
        to->inode = entry->inode;
        to->size_bytes = inode->size_bytes;
        memcpy(to->block, inode->block, sizeof to->block);
        return 0;
    }
    return FILE_NOT_FOUND;
}

#endif
