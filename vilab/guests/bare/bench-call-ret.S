/* Kernel mode, EDI pairs of CALL and RET. EAX counts the calls. */

        .intel_syntax noprefix
        .text
        .global entry
entry:  xor     eax, eax
        .align  16
pair:   call    count
        dec     edi
        jnz     pair
        ret

        .align  16
count:  inc     eax
        ret
