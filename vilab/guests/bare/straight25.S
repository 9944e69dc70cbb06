/* 25 instructions in a straight line, the return included: units of 12, 12 and 1. EAX = 300 = 1 + 2 + ... + 24. */

        .intel_syntax noprefix
        .text
        .global entry
entry:  mov     eax, 1
        .set    i, 2
        .rept   23
        add     eax, i
        .set    i, i + 1
        .endr
        ret
