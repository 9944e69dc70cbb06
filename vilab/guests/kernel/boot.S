/* From the boot loader to C: find out the ring, turn on paging, move to the high addresses.

   A Multiboot loader enters here in 32-bit protected mode with flat segments, paging off, interrupts off,
   EAX = 0x2badb002 and EBX = physical address of the Multiboot information (Multiboot 0.6.96, section 3.2).
   This file's code is linked at physical addresses, since it runs before paging. */

#include "layout.h"
#include "hypercall.h"

#define MULTIBOOT_MAGIC 0x1badb002
#define MULTIBOOT_FLAGS 0x00000003      /* modules on page boundaries; tell us the memory size */

#define COM1_DATA       0x3f8
#define COM1_LINE       0x3fd
#define LINE_TX_EMPTY   0x20

        .intel_syntax noprefix

        .section .boot, "ax"
        .align 4
        .long MULTIBOOT_MAGIC
        .long MULTIBOOT_FLAGS
        .long -(MULTIBOOT_MAGIC + MULTIBOOT_FLAGS)

        .global boot
boot:   mov     esp, offset boot_stack_top - KERNEL_BASE
        mov     edi, eax                        /* the loader's magic number */
        mov     ebp, ebx                        /* the information it left */

        /* What any ring may do, though only ring 0 gets what it wants: clear all flags, and ask for the ring. */
#ifdef PARA
        mov     dword ptr [SHARED_FLAGS], 0
        cld
        mov     ebx, [SHARED_RING]
#else
        push    EFLAGS_RESERVED
        popfd
        mov     ebx, cs
        and     ebx, 3
#endif

        /* Say it, before the first privileged instruction. */
        mov     esi, offset message
        call    boot_print
        lea     eax, [ebx + '0']
        call    boot_put
        mov     al, 13
        call    boot_put
        mov     al, 10
        call    boot_put

        /* One page table maps the first 4 MB of physical memory; the directory shows it twice: at 0, where EIP
           still is, and at KERNEL_BASE, where it is going. */
        mov     ebx, offset boot_table - KERNEL_BASE
        mov     eax, PTE_PRESENT | PTE_WRITE
        mov     ecx, 1024
1:      mov     [ebx], eax
        add     ebx, 4
        add     eax, PAGE_BYTES
        dec     ecx
        jnz     1b

        mov     ebx, offset boot_directory - KERNEL_BASE
        mov     eax, offset boot_table - KERNEL_BASE + (PTE_PRESENT | PTE_WRITE)
        mov     [ebx], eax
        mov     [ebx + (KERNEL_BASE >> 22) * 4], eax

#ifdef PARA
        mov     eax, HYPERCALL_CR3
        int     HYPERCALL_VECTOR
        mov     ebx, CR0_VALUE
        mov     eax, HYPERCALL_CR0
        int     HYPERCALL_VECTOR
#else
        mov     cr3, ebx
        mov     eax, CR0_VALUE
        mov     cr0, eax
#endif

        mov     eax, offset high
        jmp     eax

boot_print:                                     /* zero-terminated text at ESI */
        lodsb
        test    al, al
        jz      1f
        call    boot_put
        jmp     boot_print
1:      ret

boot_put:                                       /* AL, when the line is free */
        mov     ah, al
        mov     edx, COM1_LINE
1:      in      al, dx
        test    al, LINE_TX_EMPTY
        jz      1b
        mov     al, ah
        mov     edx, COM1_DATA
        out     dx, al
        ret

message:
        .asciz  "boot: ring "

        .text
high:   mov     esp, offset boot_stack_top
        push    ebp
        push    edi
        xor     ebp, ebp                        /* the outermost frame */
        call    kernel_main
#ifdef PARA
1:      mov     dword ptr [SHARED_FLAGS], 0
        mov     eax, HYPERCALL_HALT
        int     HYPERCALL_VECTOR
#else
1:      cli
        hlt
#endif
        jmp     1b

        .bss
        .align  PAGE_BYTES
boot_directory:
        .skip   PAGE_BYTES
boot_table:
        .skip   PAGE_BYTES
        .global boot_stack_top, boot_stack
boot_stack:
        .skip   PAGE_BYTES
boot_stack_top:
