/* Kernel mode, EDI pairs of CLI and STI: the pair that guards every critical section. */

        .intel_syntax noprefix
        .text
        .global entry
entry:  mov     al, 0xff                        /* both interrupt controllers: let nothing through */
        out     0x21, al
        out     0xa1, al
        .align  16
pair:   cli
        sti
        dec     edi
        jnz     pair
        cli
        mov     eax, edi
        ret
