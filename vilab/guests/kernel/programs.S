/* The programs, as ELF files inside the kernel: a file system would only be in the way. */

        .macro  PROGRAM name
        .section .rodata.programs, "a"
        .align  4
1:      .incbin "\name\().elf"
2:
        .section .rodata.names, "a"
3:      .asciz  "\name"
        .section .rodata.table, "a"
        .long   3b, 1b, 2b - 1b                 /* struct program of exec.c */
        .endm

        .section .rodata.table, "a"
        .align  4
        .global programs
programs:
        PROGRAM shell
        PROGRAM isprime
        PROGRAM forkwait
        PROGRAM syscall-loop
        PROGRAM toucher
        PROGRAM cow
        PROGRAM workers
        PROGRAM calls
        PROGRAM fault
        PROGRAM divzero
#ifdef MEMORY
        PROGRAM memory
        PROGRAM checksum
        PROGRAM filecache
        PROGRAM family
        PROGRAM zeros
        PROGRAM together
#endif
#ifdef DISK
        PROGRAM mkfs
        PROGRAM ls
        PROGRAM cat
        PROGRAM write
        PROGRAM rm
        PROGRAM sync
        PROGRAM put
        PROGRAM fill
        PROGRAM trace
#endif
#ifdef NETWORK
        PROGRAM ping
        PROGRAM udpecho
        PROGRAM netsend
        PROGRAM netsink
        PROGRAM netstat
#endif
#ifdef WRITER
        PROGRAM writer
        PROGRAM writer-muncher
#endif
        .section .rodata.table, "a"
        .long   0, 0, 0
