/* User mode: the kernel part only builds what ring 3 needs, enters it, and takes the answer back.

   ring 0   entry: GDT, TSS, IDT, IRET -------------+             system_call: RET to whoever called entry
                                                    v                 ^
   ring 3                            EDI rounds of computing -----> int 0x80 */

        .intel_syntax noprefix

        .set    CODE_0, 0x08
        .set    DATA_0, 0x10
        .set    CODE_3, 0x1b
        .set    DATA_3, 0x23
        .set    TASK,   0x28
        .set    GATE_OPEN_TO_RING_3, 0xee00

        .text
        .global entry
entry:  mov     [tss + 4], esp                  /* the stack that the way back from ring 3 takes */
        mov     dword ptr [tss + 8], DATA_0

        mov     eax, offset tss                 /* its address into its descriptor, piece by piece */
        mov     [gdt + TASK + 2], ax
        shr     eax, 16
        mov     [gdt + TASK + 4], al
        mov     [gdt + TASK + 7], ah
        lgdt    [gdt_pointer]
        mov     eax, TASK
        ltr     ax

        mov     eax, offset system_call         /* one gate: int 0x80 */
        mov     [idt + 0x80 * 8], ax
        mov     word ptr [idt + 0x80 * 8 + 2], CODE_0
        mov     word ptr [idt + 0x80 * 8 + 4], GATE_OPEN_TO_RING_3
        shr     eax, 16
        mov     [idt + 0x80 * 8 + 6], ax
        lidt    [idt_pointer]

        mov     eax, DATA_3
        mov     ds, eax
        mov     es, eax
        push    DATA_3                          /* SS, ESP, EFLAGS, CS, EIP: IRET takes them all */
        mov     eax, offset user_stack_top
        push    eax
        push    2
        push    CODE_3
        mov     eax, offset user
        push    eax
        iretd

system_call:
        mov     edx, DATA_0
        mov     ds, edx
        mov     es, edx
        mov     esp, [tss + 4]
        ret

        .align  4096
user:   xor     eax, eax
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
        int     0x80

        .data
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

        .bss
        .align  8
idt:    .skip   2048
tss:    .skip   104
        .align  4096
buffer: .skip   256
        .skip   3840
user_stack_top:
