/* rm NAME: there is no such file any more. Its blocks are free after the next sync. */

#include "files.h"

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    return report("rm", name, file_remove(name));
}
