/* put NAME TEXT ...: one line into a file, down to the disk, and the kernel says what it does on the way.

   put: which block and sectors    tinyfs: what is written, and why    scsi: the command that does it */

#include "files.h"

enum { SECTORS_A_BLOCK = 8 };

static int find(const char *name, struct file_info *file)
{
    for (u32 i = 0; file_list(i, file) == 0; i++)
        if (streq(file->name, name))
            return 1;
    return 0;
}

static int put(const char *name, const char *text, u32 bytes)
{
    struct file_info file;
    int answer = file_create(name);
    if (answer == 0)
        answer = file_append(name, 0, text, bytes);
    if (answer < 0)
        return answer;
    if (bytes && find(name, &file))
        print("put: %s is inode %u, %u bytes in block %u = sectors %u to %u\n", name, file.inode, file.size_bytes,
              file.block[0], file.block[0] * SECTORS_A_BLOCK, file.block[0] * SECTORS_A_BLOCK + SECTORS_A_BLOCK - 1);
    return file_sync();
}

int main(int argc, char **argv)
{
    static char text[TEXT_BYTES];
    const char *name = argc > 1 ? argv[1] : "";
    int before = disk_trace(1);
    int answer = put(name, text, join(text, argc, argv, 2));
    disk_trace(before);
    if (answer == 0)
        print("put: it is on the disk\n");
    return report("put", name, answer);
}
