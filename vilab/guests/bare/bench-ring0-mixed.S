/* Kernel mode, EDI rounds of eleven everyday instructions: loads, stores, arithmetic, a branch taken half the time. */

        .intel_syntax noprefix
        .text
        .global entry
entry:  xor     eax, eax
        mov     ebx, offset buffer
        .align  16
round:  mov     ecx, eax
        and     ecx, 0xfc
        mov     edx, [ebx + ecx]
        add     edx, eax
        mov     [ebx + ecx], edx
        add     eax, 4
        test    eax, 4
        jz      even
        xor     edx, ecx
even:   dec     edi
        jnz     round
        ret

        .bss
        .align  4096
buffer: .skip   256
