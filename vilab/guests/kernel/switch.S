/* From one kernel stack to another: void switch_stacks(u32 *save_esp, u32 load_esp).

   C expects EBX, ESI, EDI and EBP back; everything else it has saved itself. */

        .intel_syntax noprefix
        .text
        .global switch_stacks, first_run
switch_stacks:
        mov     eax, [esp + 4]
        mov     edx, [esp + 8]
        push    ebp
        push    ebx
        push    esi
        push    edi
        mov     [eax], esp
        mov     esp, edx
        pop     edi
        pop     esi
        pop     ebx
        pop     ebp
        ret

/* A new process has a stack that looks as if it had called switch_stacks from here. */
first_run:
        call    process_begin
        jmp     trap_return
