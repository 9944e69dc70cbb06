/* ls: each file, its size, its inode, and the blocks of the disk that it lies in. */

#include "files.h"

static void print_blocks(const struct file_info *file)
{
    u32 count = (file->size_bytes + PAGE_BYTES - 1) / PAGE_BYTES;
    for (u32 i = 0; i < count; ) {
        u32 first = i;
        while (i + 1 < count && file->block[i + 1] == file->block[i] + 1)
            i++;
        if (i == first)
            print(" %u", file->block[i]);
        else
            print(" %u-%u", file->block[first], file->block[i]);
        i++;
    }
}

int main(void)
{
    struct file_info file;
    int answer;
    for (u32 i = 0; (answer = file_list(i, &file)) == 0; i++) {
        print("%s: %u bytes, inode %u, blocks", file.name, file.size_bytes, file.inode);
        print_blocks(&file);
        print("\n");
    }
    return answer == FILE_NOT_FOUND ? 0 : report("ls", "", answer);
}
