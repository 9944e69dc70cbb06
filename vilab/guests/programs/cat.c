/* cat NAME: what is in the file. */

#include "files.h"

int main(int argc, char **argv)
{
    static char text[FILE_PIECE];
    const char *name = argc > 1 ? argv[1] : "";
    u32 offset = 0;
    int bytes;
    while ((bytes = file_read(name, offset, text, sizeof text)) > 0) {
        write(text, bytes);
        offset += bytes;
    }
    return report("cat", name, bytes);
}
