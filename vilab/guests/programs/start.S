/* Where the kernel enters a program: argc and argv are on the stack. */

        .intel_syntax noprefix
        .text
        .global _start
_start: pop     eax
        mov     ecx, [esp]
        push    ecx
        push    eax
        call    main
        mov     ebx, eax
        mov     eax, 1                          /* SYSCALL_EXIT */
        int     0x80
