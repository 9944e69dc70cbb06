/* isprime N: the function of Adams and Agesen, section 3.1, as a program. */

#include "library.h"

static int isPrime(int a)
{
    for (int i = 2; i < a; i++)
        if (a % i == 0)
            return 0;
    return 1;
}

int main(int argc, char **argv)
{
    u32 n = argument(argc, argv, 1, 49);
    print("isPrime(%u) = %d\n", n, isPrime(n));
    return 0;
}
