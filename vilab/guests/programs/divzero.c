/* divzero: divides by zero. The processor faults, the kernel ends the program. */

#include "library.h"

int main(void)
{
    print("divzero: about to divide by 0\n");
    asm volatile("xor edx, edx\n mov eax, 1\n xor ecx, ecx\n div ecx" : : : "eax", "ecx", "edx");
    print("divzero: still here\n");
    return 0;
}
