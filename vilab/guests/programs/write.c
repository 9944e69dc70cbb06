/* write NAME TEXT ...: the file holds this line, and nothing else. On the disk it is after the next sync. */

#include "files.h"

int main(int argc, char **argv)
{
    static char text[TEXT_BYTES];
    const char *name = argc > 1 ? argv[1] : "";
    int answer = file_create(name);
    if (answer == 0)
        answer = file_append(name, 0, text, join(text, argc, argv, 2));
    return report("write", name, answer);
}
