/* A boot sector that needs no BIOS: it says what it finds on COM1 and switches the machine off.
 *
 * vectors and INT, PIC and PIT, string instructions across segments, both ways between real and protected mode, 16 and
 * 32 bits, a segment that keeps its protected-mode limit ("unreal"), and what SMSW, SGDT, SIDT and PUSHF show. */
        .intel_syntax noprefix
        .code16
        .globl _start
_start: ljmp    0, offset main
main:   cli
        xor     ax, ax
        mov     ds, ax
        mov     es, ax
        mov     ss, ax
        mov     sp, 0x7c00

/* INT n: the handler doubles AX and sets the carry flag that IRET brings back. */
        mov     word ptr [0x40 * 4], offset twice
        mov     [0x40 * 4 + 2], ax
        mov     ax, 0x1234
        int     0x40
        setc    bl
        call    hex
        movzx   ax, bl
        call    hex

/* Three ticks of the PIT, each waking HLT. */
        mov     word ptr [0x20 * 4], offset tick
        mov     word ptr [0x20 * 4 + 2], 0
        mov     si, offset ports
        mov     cx, 9
1:      mov     dl, [si]
        mov     al, [si + 1]
        mov     dh, 0
        out     dx, al
        add     si, 2
        loop    1b
        sti
1:      hlt
        cmp     word ptr [ticks], 3
        jb      1b
        cli
        mov     ax, [ticks]
        call    hex

/* String instructions from one segment to another, over the end of a 64 KB segment of neither. */
        mov     ax, 0x2000
        mov     es, ax
        mov     si, 0x7c00
        mov     di, 0xff80
        mov     cx, 0x40
        rep movsw
        mov     si, 0x7c00
        mov     di, 0xff80
        mov     cx, 0x80
        repe cmpsb
        mov     ax, cx
        call    hex

/* To protected mode: 16 bits, 32 bits, 16 bits, and back, with a limit of 4 GB left in FS. */
        lgdt    [gdtr]
        mov     eax, cr0
        or      al, 1
        mov     cr0, eax
        ljmp    8, offset short_pm
short_pm:
        mov     bx, 0x18
        mov     fs, bx
        mov     ecx, 0x200000
        mov     dword ptr fs:[ecx], 0xcafe
        data32 ljmp 0x10, offset long_pm
        .code32
long_pm:
        mov     ds, ebx
        add     dword ptr [0x200000], 0x10002
        ljmp    8, offset back
        .code16
back:   mov     bx, 0x20
        mov     ds, bx
        mov     eax, cr0
        and     al, 0xfe
        mov     cr0, eax
        ljmp    0, offset again
again:  xor     ax, ax
        mov     ds, ax
        mov     ax, fs:[ecx]
        call    hex
        mov     ax, fs:[ecx + 2]
        call    hex

/* What this processor says of itself. */
        smsw    ax
        and     al, 1
        call    hex
        sgdt    [store]
        mov     ax, [store]
        call    hex
        sidt    [store]
        mov     ax, [store]
        call    hex
        push    0x7202
        popf
        pushf
        pop     ax
        call    hex

        mov     dx, 0x604
        mov     ax, 0x2000
        out     dx, ax
1:      hlt
        jmp     1b

twice:  push    bp
        mov     bp, sp
        or      word ptr [bp + 6], 1
        pop     bp
        add     ax, ax
        iret

tick:   push    ax
        inc     word ptr [ticks]
        mov     al, 0x20
        out     0x20, al
        pop     ax
        iret

/* AX in hexadecimal and a space. */
hex:    pusha
        mov     cx, 4
1:      rol     ax, 4
        push    ax
        and     al, 15
        cmp     al, 10
        sbb     al, 0x69
        das
        mov     dx, 0x3f8
        out     dx, al
        pop     ax
        loop    1b
        mov     al, 32
        mov     dx, 0x3f8
        out     dx, al
        popa
        ret

ports:  .byte   0x20, 0x11, 0x21, 0x20, 0x21, 4, 0x21, 1, 0x21, 0xfe    /* PIC: vectors from 0x20, only IRQ 0 */
        .byte   0x43, 0x34, 0x40, 0, 0x40, 0x10                          /* PIT: every 4096 ticks, 3.4 ms */
        .byte   0x80, 0
ticks:  .word   0
gdtr:   .word   5 * 8 - 1
        .long   gdt
        .balign 8
gdt:    .quad   0
        .quad   0x00009b000000ffff      /* 08: 16-bit code */
        .quad   0x00cf9b000000ffff      /* 10: 32-bit code */
        .quad   0x00cf93000000ffff      /* 18: 4 GB of data */
        .quad   0x000093000000ffff      /* 20: 64 KB of data */
store:  .quad   0
        .org    510
        .word   0xaa55
