/* fill NAME BYTES [SEED]: a file of so many bytes that are known: byte i = the low byte of (i + SEED) * 2654435761 >> 8. */

#include "files.h"

int main(int argc, char **argv)
{
    static u8 bytes[FILE_PIECE];
    const char *name = argc > 1 ? argv[1] : "";
    u32 size = argument(argc, argv, 2, 0), seed = argument(argc, argv, 3, 0);
    int answer = file_create(name);
    for (u32 offset = 0; offset < size && answer == 0; offset += sizeof bytes) {
        u32 count = size - offset < sizeof bytes ? size - offset : sizeof bytes;
        for (u32 i = 0; i < count; i++)
            bytes[i] = (offset + i + seed) * 2654435761u >> 8;
        answer = file_append(name, offset, bytes, count);
    }
    return report("fill", name, answer);
}
