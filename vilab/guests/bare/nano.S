/* Nanobenchmarks: ESI chooses an operation, EDI rounds of it, nothing else in the loop. The idea and most of the
   operations are Adams and Agesen's (ASPLOS 2006, section 6.3); "empty" is what the loop itself costs.

   0 empty         a loop                             7 pgfault        a load from where nothing is mapped
   1 empty-user    the same in ring 3                 8 divzero        a division by zero
   2 syscall       int 0x80 from ring 3, and back     9 ptemod         a store of what a page-table entry holds already
   3 in            port 0x80                         10 ptemod-clear   present to not present, one entry after another
   4 mask          cli                               11 ptemod-set     not present to present
   5 tpr           the local APIC's task priority    12 edits          map, touch, unmap, INVLPG, in one address space
   6 call-ret      a call and its return             13 spaces         from one of 16 address spaces to the next, touching

   linear                    page tables
   00000000  4 MB as they are     low       (open to ring 3)
   00c00000  1024 pages           full      all lead to one page, and all have been touched
   01000000  1024 pages           sparse    only the first is present
   01400000  16 pages             window    what edits and spaces map
   fee00000  1 page               apic      */

        .intel_syntax noprefix
#include "../kernel/hypercall.h"

        .set    CODE_0, 0x08
        .set    DATA_0, 0x10
        .set    CODE_3, 0x1b
        .set    DATA_3, 0x23
        .set    TASK,   0x28
        .set    CR0_ON, 0x80010013              /* PG WP ET MP PE */
        .set    PRESENT, 0x003                  /* and writable */
        .set    OPEN,    0x007                  /* and ring 3's */
        .set    UNCACHED, 0x01b
        .set    FULL, 0x00c00000
        .set    SPARSE, 0x01000000
        .set    WINDOW, 0x01400000
        .set    NOTHING, 0x01800000
        .set    TPR, 0xfee00080
        .set    PAGE, 4096
        .set    SPACES, 16
        .set    WINDOW_PAGES, 16
        .set    RETURN_VECTOR, 0x81

        /* What differs between a machine and a monitor that is asked. */
#ifdef PARA
        .macro  ASK number
        mov     eax, \number
        int     HYPERCALL_VECTOR
        .endm
        .macro  RETURN_FROM_TRAP
        push    eax
        ASK     HYPERCALL_IRET
        ud2
        .endm
        .macro  LOAD_CR3                        /* from EBX */
        ASK     HYPERCALL_CR3
        .endm
        .macro  SET_ENTRY                       /* at EDX, to EAX; not ECX, which a call changes to the count */
        mov     [update], edx
        mov     [update + 4], eax
        mov     ebx, offset update
        mov     ecx, 1
        ASK     HYPERCALL_MMU_UPDATE
        .endm
        .macro  FORGET_PAGE                     /* at EBX */
        ASK     HYPERCALL_INVALIDATE
        .endm
        .macro  MASK
        mov     dword ptr [SHARED_FLAGS], 0
        .endm
#else
        .macro  RETURN_FROM_TRAP
        iretd
        .endm
        .macro  LOAD_CR3
        mov     cr3, ebx
        .endm
        .macro  SET_ENTRY
        mov     [edx], eax
        .endm
        .macro  FORGET_PAGE
        invlpg  [ebx]
        .endm
        .macro  MASK
        cli
        .endm
#endif

        .text
        .global entry
entry:  mov     [rounds], edi
        mov     [way_back], esp
        call    tables
        call    paging
        call    touch
        mov     edi, [rounds]
        mov     eax, [operations + esi * 4]
        .align  16
        call    eax
        mov     eax, [rounds]
        ret

        /* The loops. EDI counts. */

        .align  16
empty:  dec     edi
        jnz     empty
        ret

        .align  16
input:  in      al, 0x80
        dec     edi
        jnz     input
        ret

        .align  16
mask:   MASK
        dec     edi
        jnz     mask
        ret

        .align  16
tpr:    mov     [TPR], edx
        dec     edi
        jnz     tpr
        ret

        .align  16
call_ret:
        call    nothing
        dec     edi
        jnz     call_ret
        ret
        .align  16
nothing:
        ret

pgfault:
        mov     ebx, NOTHING
        .align  16
1:      mov     cl, [ebx]                       /* two bytes, which the handler skips */
        dec     edi
        jnz     1b
        ret

divzero:
        xor     ecx, ecx
        .align  16
1:      div     ecx                             /* two bytes */
        dec     edi
        jnz     1b
        ret

ptemod: mov     edx, offset full + 5 * 4
        mov     ebp, [edx]
        .align  16
1:      mov     eax, ebp
        SET_ENTRY
        dec     edi
        jnz     1b
        ret

clear:  mov     edx, offset full
        .align  16
1:      xor     eax, eax
        SET_ENTRY
        add     edx, 4
        dec     edi
        jnz     1b
        ret

set:    mov     edx, offset sparse + 4
        mov     ebp, offset scratch + PRESENT
        .align  16
1:      mov     eax, ebp
        SET_ENTRY
        add     edx, 4
        dec     edi
        jnz     1b
        ret

        .align  16
edits:  mov     esi, WINDOW_PAGES
        mov     edx, offset window
        mov     ebp, WINDOW
1:      mov     eax, offset scratch + PRESENT
        SET_ENTRY
        mov     [ebp], edi
        xor     eax, eax
        SET_ENTRY
        mov     ebx, ebp
        FORGET_PAGE
        add     edx, 4
        add     ebp, PAGE
        dec     esi
        jnz     1b
        dec     edi
        jnz     edits
        ret

        .align  16
spaces: mov     esi, edi
        and     esi, SPACES - 1
        shl     esi, 12
        lea     ebx, [directories + esi]
        LOAD_CR3
        mov     ebp, WINDOW
        mov     ecx, WINDOW_PAGES
1:      mov     [ebp], edi
        add     ebp, PAGE
        dec     ecx
        jnz     1b
        dec     edi
        jnz     spaces
        ret

        /* Ring 3, and the way back. */

empty_user:
        mov     eax, offset user_empty
        jmp     to_user
syscall:
        mov     eax, offset user_syscall
to_user:
        mov     ecx, esp
        mov     [tss + 4], ecx
        push    DATA_3                          /* SS, ESP, EFLAGS, CS, EIP */
        mov     ecx, offset user_stack_top
        push    ecx
        push    2
        push    CODE_3
        push    eax
        RETURN_FROM_TRAP

        .align  16
user_empty:
        dec     edi
        jnz     user_empty
        int     RETURN_VECTOR

        .align  16
user_syscall:
        int     0x80
        dec     edi
        jnz     user_syscall
        int     RETURN_VECTOR

        /* Handlers. */

        .align  16
system_call:
        RETURN_FROM_TRAP
        .align  16
page_fault:
        add     esp, 4                          /* the error code */
        .align  16
division:
        add     dword ptr [esp], 2
        RETURN_FROM_TRAP

from_user:                                      /* back to who has called to_user: its stack is where TSS says */
        mov     esp, [tss + 4]
        ret

        /* Setting up. */

tables: mov     dword ptr [tss + 8], DATA_0
        mov     [tss + 4], esp
        mov     eax, offset tss
        mov     [gdt + TASK + 2], ax
        shr     eax, 16
        mov     [gdt + TASK + 4], al
        mov     [gdt + TASK + 7], ah
        mov     edx, 0x8e00
        mov     eax, offset division
        mov     ebx, offset idt + 0 * 8
        call    gate
        mov     eax, offset page_fault
        mov     ebx, offset idt + 14 * 8
        call    gate
        mov     edx, 0xee00
        mov     eax, offset system_call
        mov     ebx, offset idt + 0x80 * 8
        call    gate
        mov     eax, offset from_user
        mov     ebx, offset idt + RETURN_VECTOR * 8
        call    gate
#ifdef PARA
        mov     ebx, offset gdt_pointer
        ASK     HYPERCALL_GDT
        mov     ebx, offset idt_pointer
        ASK     HYPERCALL_IDT
        mov     ebx, TASK
        ASK     HYPERCALL_TASK
#else
        lgdt    [gdt_pointer]
        lidt    [idt_pointer]
        mov     eax, TASK
        ltr     ax
#endif
        ret

gate:   mov     [ebx], ax                       /* at EBX: handler EAX, attributes EDX */
        mov     word ptr [ebx + 2], CODE_0
        mov     [ebx + 4], dx
        shr     eax, 16
        mov     [ebx + 6], ax
        ret

        /* fill: ECX entries at EBX, the first EAX, each EDX more than the one before */
fill:   mov     [ebx], eax
        add     eax, edx
        add     ebx, 4
        dec     ecx
        jnz     fill
        ret

paging: mov     eax, OPEN
        mov     ebx, offset low
        mov     ecx, 1024
        mov     edx, PAGE
        call    fill
        mov     eax, offset scratch + PRESENT
        mov     ebx, offset full
        mov     ecx, 1024
        xor     edx, edx
        call    fill
        mov     dword ptr [sparse], offset scratch + PRESENT
        mov     dword ptr [apic + 0x200 * 4], 0xfee00000 + UNCACHED
        mov     ebx, offset directory
        mov     eax, offset window + PRESENT
        call    directory_at
        xor     ebp, ebp                        /* the 16 spaces: a window of its own each, 16 pages to one */
1:      lea     eax, [windows + ebp + PRESENT]
        lea     ebx, [directories + ebp]
        call    directory_at
        mov     eax, offset scratch + PRESENT
        lea     ebx, [windows + ebp]
        mov     ecx, WINDOW_PAGES
        xor     edx, edx
        call    fill
        add     ebp, PAGE
        cmp     ebp, SPACES * PAGE
        jne     1b
        mov     ebx, offset directory
        LOAD_CR3
#ifdef PARA
        mov     ebx, CR0_ON
        ASK     HYPERCALL_CR0
#else
        mov     eax, CR0_ON
        mov     cr0, eax
#endif
        ret

directory_at:                                   /* at EBX, with the window EAX */
        mov     dword ptr [ebx], offset low + OPEN
        mov     dword ptr [ebx + (FULL >> 22) * 4], offset full + PRESENT
        mov     dword ptr [ebx + (SPARSE >> 22) * 4], offset sparse + PRESENT
        mov     [ebx + (WINDOW >> 22) * 4], eax
        mov     dword ptr [ebx + (TPR >> 22) * 4], offset apic + PRESENT
        ret

touch:  mov     ebx, FULL                       /* and the first of sparse, which comes next */
        mov     ecx, 1025
1:      mov     [ebx], ecx
        add     ebx, PAGE
        dec     ecx
        jnz     1b
        ret

        .data
operations:
        .long   empty, empty_user, syscall, input, mask, tpr, call_ret, pgfault, divzero, ptemod, clear, set
        .long   edits, spaces
        .align  8
gdt:    .quad   0
        .quad   0x00cf9b000000ffff              /* code, ring 0, flat */
        .quad   0x00cf93000000ffff              /* data, ring 0, flat */
        .quad   0x00cffb000000ffff              /* code, ring 3, flat */
        .quad   0x00cff3000000ffff              /* data, ring 3, flat */
        .quad   0x0000890000000067              /* TSS; base filled in above */
gdt_pointer:
        .short  gdt_pointer - gdt - 1
        .long   gdt
idt_pointer:
        .short  2047
        .long   idt

#ifdef PARA
        .section .note.vilab, "a"
        .align  4
        .long   6, 4, 1                         /* ELF 1.2, figure 2-3 */
        .asciz  "vilab"
        .align  4
        .long   1
#endif

        .bss
        .align  8
rounds: .skip   4
way_back:
        .skip   4
update: .skip   8
idt:    .skip   2048
tss:    .skip   104
        .align  4096
scratch:
        .skip   4096
directory:
        .skip   4096
low:    .skip   4096
full:   .skip   4096
sparse: .skip   4096
window: .skip   4096
apic:   .skip   4096
directories:
        .skip   SPACES * PAGE
windows:
        .skip   SPACES * PAGE
        .skip   4096
user_stack_top:
