/* mkfs [BLOCKS]: an empty file system on the first disk, over its first BLOCKS blocks of 4 KB. What was there is gone. */

#include "files.h"

int main(int argc, char **argv)
{
    int blocks = file_make(argument(argc, argv, 1, 0));
    if (blocks == FILE_NO_ROOM) {
        print("mkfs: a file system has 16 to 32768 blocks of 4 KB, and the disk has to have them\n");
        return 1;
    }
    if (blocks < 0)
        return report("mkfs", "", blocks);
    print("mkfs: %u blocks of 4 KB\n", blocks);
    return 0;
}
