/* Into the kernel and out again: every interrupt, exception and system call passes through here.

   The processor has pushed (SS, ESP if the ring changed,) EFLAGS, CS, EIP and for some vectors an error code. Each
   stub adds what is missing so that all frames look like struct trap_frame. */

#include "layout.h"
#include "hypercall.h"

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
#ifdef PARA
        movzx   ecx, word ptr [esp + 32]        /* ES, and DS above it: the program's are as flat as ours, mostly */
        movzx   eax, word ptr [esp + 36]
        cmp     eax, ecx
        jne     1f
        cmp     eax, USER_DATA
        je      2f
        cmp     eax, KERNEL_DATA
        je      2f
1:      mov     ebx, KERNEL_DATA
        mov     ecx, KERNEL_DATA
        mov     eax, HYPERCALL_SEGMENTS
        int     HYPERCALL_VECTOR
2:
#else
        mov     eax, KERNEL_DATA                /* user code may have left anything in them */
        mov     ds, eax
        mov     es, eax
#endif
        cld
        push    esp                             /* struct trap_frame * */
        call    trap
        add     esp, 4

        .global trap_return
trap_return:
#ifdef PARA
        PUSH32  ds                              /* anybody may push them; loading is what needs the monitor */
        pop     ebx
        PUSH32  es
        pop     ecx
        cmp     bx, [esp + 36]
        jne     1f
        cmp     cx, [esp + 32]
        je      2f
1:      movzx   ebx, word ptr [esp + 36]
        movzx   ecx, word ptr [esp + 32]
        mov     eax, HYPERCALL_SEGMENTS
        int     HYPERCALL_VECTOR
2:      popad
        add     esp, 16                         /* ES, DS, vector and error code */
        push    eax
        mov     eax, HYPERCALL_IRET
        int     HYPERCALL_VECTOR
        ud2                                     /* refused: there is nowhere to return to */
#else
        popad
        POP32   es
        POP32   ds
        add     esp, 8                          /* vector and error code */
        iretd
#endif

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
