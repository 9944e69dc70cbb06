/* From the boot loader to C, and from an interrupt to C.

   vector   20 local APIC's timer   22 PIT   24 COM1   30 sent to itself   ff spurious
            entry_n: push n, save what C may change, call interrupt(n), IRET */

#define MULTIBOOT_MAGIC 0x1badb002
#define MULTIBOOT_FLAGS 0x00000003

        .intel_syntax noprefix

        .section .boot, "ax"
        .align 4
        .long MULTIBOOT_MAGIC
        .long MULTIBOOT_FLAGS
        .long -(MULTIBOOT_MAGIC + MULTIBOOT_FLAGS)

        .global boot
boot:   mov     esp, offset stack_top
        lgdt    [gdt_pointer]
        mov     eax, 0x10
        mov     ds, eax
        mov     es, eax
        mov     ss, eax
        push    8
        mov     eax, offset flat
        push    eax
        retf
flat:   call    main
dead:   cli
        hlt
        jmp     dead

        .macro ENTRY vector
entry_\vector:
        push    0x\vector
        jmp     common
        .endm

        ENTRY   20
        ENTRY   22
        ENTRY   24
        ENTRY   30
        ENTRY   ff
common: push    eax
        push    ecx
        push    edx
        mov     eax, [esp + 12]
        push    eax
        call    interrupt
        add     esp, 4
        pop     edx
        pop     ecx
        pop     eax
        add     esp, 4
        iretd

        .section .rodata
        .align  8
gdt:    .quad   0
        .quad   0x00cf9b000000ffff              /* code, ring 0, flat */
        .quad   0x00cf93000000ffff              /* data, ring 0, flat */
gdt_pointer:
        .short  gdt_pointer - gdt - 1
        .long   gdt

        .global entries
entries:                                        /* vector, entry */
        .long   0x20, entry_20, 0x22, entry_22, 0x24, entry_24, 0x30, entry_30, 0xff, entry_ff, 0, 0

        .bss
        .align  16
        .skip   8192
stack_top:
