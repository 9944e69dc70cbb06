/* Into the kernel and out again: every interrupt, exception and system call passes through here.

   The processor has pushed (SS, ESP if the ring changed,) EFLAGS, CS, EIP and for some vectors an error code. Each
   stub adds what is missing so that all frames look like struct trap_frame. */

#include "layout.h"

        .intel_syntax noprefix
        .text

        /* The assembler takes "push ds" in Intel syntax for a 16-bit push; AT&T syntax names the size. */
        .macro  PUSH32 segment
        .att_syntax prefix
        pushl   %\segment
        .intel_syntax noprefix
        .endm
        .macro  POP32 segment
        .att_syntax prefix
        popl    %\segment
        .intel_syntax noprefix
        .endm

        .macro  STUB vector
        .align  4
stub\vector:
        .if     (\vector == 8) || ((\vector >= 10) && (\vector <= 14)) || (\vector == 17)
        .else
        push    0                               /* where others have their error code */
        .endif
        push    \vector
        jmp     trap_common
        .endm

        .altmacro
        .macro  STUB_NUMBER n
        STUB    \n
        .endm
        .set    i, 0
        .rept   48
        STUB_NUMBER %i
        .set    i, i + 1
        .endr
        STUB    128

trap_common:
        PUSH32  ds
        PUSH32  es
        pushad
        mov     eax, KERNEL_DATA                /* user code may have left anything in them */
        mov     ds, eax
        mov     es, eax
        cld
        push    esp                             /* struct trap_frame * */
        call    trap
        add     esp, 4

        .global trap_return
trap_return:
        popad
        POP32   es
        POP32   ds
        add     esp, 8                          /* vector and error code */
        iretd

        .section .rodata
        .align  4
        .macro  STUB_ADDRESS n
        .long   stub\n
        .endm
        .global trap_stubs, trap_stub_syscall
trap_stubs:
        .set    i, 0
        .rept   48
        STUB_ADDRESS %i
        .set    i, i + 1
        .endr
trap_stub_syscall:
        .long   stub128
