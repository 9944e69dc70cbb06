/* sync: everything that was written, removed or created is on the disk when this ends. */

#include "files.h"

int main(void) { return report("sync", "", file_sync()); }
