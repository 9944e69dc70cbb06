/* fault: stores through a null pointer. The kernel ends it and says so. */

#include "library.h"

int main(void)
{
    print("fault: about to store to address 0\n");
    asm volatile("mov dword ptr [0], 1" : : : "memory");
    print("fault: still here\n");
    return 0;
}
