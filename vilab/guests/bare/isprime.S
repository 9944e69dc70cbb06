/* isPrime as Adams and Agesen translate it (ASPLOS 2006, section 3.1): EDI = a, EAX = 1 if a is prime.

       int isPrime(int a) {
           for (int i = 2; i < a; i++)
               if (a % i == 0) return 0;
           return 1;
       }

   Five blocks, 16 instructions. isPrime(49) runs 51 instructions and never reaches the block "prime". */

        .intel_syntax noprefix
        .text
        .global entry
entry:  mov     ecx, edi                        /* a */
        mov     esi, 2                          /* i */
        cmp     esi, ecx
        jge     prime

nexti:  mov     eax, ecx
        cdq
        idiv    esi
        test    edx, edx                        /* a % i */
        jz      notPrime

        inc     esi
        cmp     esi, ecx
        jl      nexti

prime:  mov     eax, 1
        ret

notPrime:
        xor     eax, eax
        ret
