/* What the random 16-bit programs of real_mode_programs.py stand in: handlers, and ways to protected mode and back.
 * It stands at 0000:0600 and begins with the handlers' offsets. */
        .intel_syntax noprefix
        .code16
        .globl _start
_start:
        .word   next, just_return, change, excursion_0, excursion_1, excursion_2, excursion_3, trapped, timer
/* A fault: go on with the next slot. */
next:   push    bp
        mov     bp, sp
        and     word ptr [bp + 2], 0xfff0
        add     word ptr [bp + 2], 16
        pop     bp
just_return:
        iret
/* An INT: the flags that come back are others. */
change: push    bp
        mov     bp, sp
        xor     word ptr [bp + 6], 0x4d5
        rol     ax, 3
        pop     bp
        iret
trapped: inc    word ptr cs:[traps]
        iret
timer:  push    ax
        mov     al, 0x20
        out     0x20, al
        pop     ax
        iret

/* There and back by 16-bit code. FS keeps 4 GB, GS a base that is not 16 times its selector. */
excursion_0:
        pushad
        lgdt    cs:[gdtr]
        mov     eax, cr0
        or      al, 1
        mov     cr0, eax
        ljmp    0x08, offset 1f
1:      mov     bx, 0x18
        mov     fs, bx
        mov     bx, 0x28
        mov     gs, bx
        pushf
        pop     dx
        str     cx
        sldt    di
        lar     edi, ebx
        lsl     esi, ebx
        verw    bx
        mov     ebx, 0x150000
        add     fs:[ebx], eax
        sgdt    fs:[ebx + 16]
        mov     eax, cr0
        and     al, 0xfe
        mov     cr0, eax
        ljmp    0, offset 2f
2:      mov     gs:[0x20], dx
        popad
        iret

/* By 32-bit code, with another data segment; DS keeps what it had there. */
excursion_1:
        pushad
        lgdt    cs:[gdtr]
        mov     eax, cr0
        or      al, 1
        lmsw    ax
        data32 ljmp 0x10, offset 3f
        .code32
3:      mov     edx, 0x28
        mov     ds, edx
        inc     dword ptr [0x40]
        mov     es, [selector]
        pushfd
        pop     ecx
        ljmp    0x08, offset 4f
        .code16
4:      mov     eax, cr0
        dec     ax
        mov     cr0, eax
        ljmp    0, offset 5f
5:      popad
        iret

/* Real mode with 32-bit code for a moment: PE is cleared before CS is loaded. */
excursion_2:
        pushad
        lgdt    cs:[gdtr]
        mov     eax, cr0
        or      al, 1
        mov     cr0, eax
        data32 ljmp 0x10, offset 6f
        .code32
6:      mov     eax, cr0
        and     al, 0xfe
        mov     cr0, eax
        mov     edx, 0x12345678
        mov     ecx, cs
        push    ds
        pop     es
        ljmp    0, offset 7f
7:      mov     eax, cr0
        or      al, 1
        mov     cr0, eax
        ljmp    0x08, offset 8f
        .code16
8:      and     al, 0xfe
        mov     cr0, eax
        ljmp    0, offset 9f
9:      popad
        iret

/* A fault on the way: the table is empty. Whatever happens there, nothing is left of it. */
excursion_3:
        smsw    ax
        sidt    cs:[scratch]
        sgdt    cs:[scratch + 8]
        iret

        .balign 8
gdt:    .quad   0
        .quad   0x00009b000000ffff
        .quad   0x00cf9b000000ffff
        .quad   0x00cf93000000ffff
        .quad   0x000093000000ffff
        .quad   0x000093056780ffff      /* 28: base 0x56780 */
gdtr:   .word   6 * 8 - 1
        .long   gdt
selector: .long 0x20
traps:  .word   0
scratch: .fill  16
