/* What each file of the kernel offers to the others, in reading order:

   boot.S       from the boot loader to C
   main.c       the order in which the kernel comes up
   check.c      does this processor behave?
   uart.c       the serial line           print.c   formatted output on it
   gdt.c        segments and the TSS      trap.S, trap.c   into the kernel and out again
   pic.c        the interrupt controller  timer.c   100 ticks a second
   frames.c     free physical memory      paging.c  page tables
   space.c      an address space          fault.c   page faults: demand paging, copy on write
   process.c    fork, exit, wait          scheduler.c, switch.S   who runs next
   programs.S, exec.c   starting a program
   syscall.c    int 0x80                  power.c   switching off, giving up
   hypercall.h, para.h, para.c   the same kernel built with -DPARA: it asks a monitor
   memory.h, room.c, ramdisk.c, swap.c, cache.c, balloon.c, rtc.c, counters.c
                the same kernel built with -DMEMORY: swapping, a file cache, a balloon
   disk.h, pci.c, lsi_start.c, lsi.c, sense.c, disks.c, buffers.c, tinyfs.h, tinyfs.c, files.c, file_calls.c, swap_disk.c
                the same kernel built with -DDISK: SCSI disks, files, swap on a disk
   network.h, pcnet.h, pcnet_start.c, pcnet.c, wire.h, ethernet.c, network.c, arp.c, ip.c, icmp.c, udp.c, network_calls.c
                the same kernel built with -DDISK -DNETWORK: a network card, ping, datagrams */

#ifndef KERNEL_H
#define KERNEL_H

#include "layout.h"
#include "memory.h"
#include "disk.h"
#include "network.h"
#include "types.h"

/* string.c */
void *memcpy(void *to, const void *from, u32 bytes);
void *memset(void *to, int value, u32 bytes);
u32 strlen(const char *text);
int streq(const char *a, const char *b);

/* check.c */
void check_cpu(void);
void check_timer(void);

/* uart.c */
void uart_init(void);
void uart_put(char c);
#ifdef PARA
void uart_flush(void);                          /* what was put is collected, a line or a text at a time */
#else
static inline void uart_flush(void) { }
#endif
void uart_interrupt(void);
u32 uart_read(char *to, u32 bytes);             /* waits for the first byte */

/* print.c */
void console_write(const char *text, u32 bytes);
void kprintf(const char *format, ...);          /* %d %u %x (8 digits) %s %c */

/* gdt.c */
void gdt_init(void);
void tss_set_kernel_stack(u32 top);

/* trap.c */
struct trap_frame {                             /* what trap.S leaves on the kernel stack, lowest address first */
    u32 edi, esi, ebp, esp_of_pushad, ebx, edx, ecx, eax;
    u32 es, ds;
    u32 vector, error;
    u32 eip, cs, eflags;                        /* pushed by the processor */
    u32 esp, ss;                                /* pushed too if the ring changed */
};
enum { VECTOR_DIVIDE = 0, VECTOR_PAGE_FAULT = 14, VECTOR_IRQ = 32, VECTOR_SYSCALL = 0x80 };
void trap_init(void);

/* pic.c */
enum { IRQ_TIMER = 0, IRQ_CASCADE = 2, IRQ_COM1 = 4 };
void pic_init(void);
void pic_unmask(u32 irq);
int pic_is_spurious(u32 irq);
void pic_end_of_interrupt(u32 irq);

/* timer.c */
void timer_init(void);
void timer_interrupt(void);
u32 timer_ticks(void);
void timer_sleep(u32 ticks);

/* frames.c */
void frames_init(u32 first_free, u32 memory_end);
u32 frame_allocate(void);                       /* physical address, 0 if there is none left */
void frame_share(u32 frame);                    /* one more user of it */
void frame_release(u32 frame);                  /* one user less; free at none */
u32 frame_users(u32 frame);
u32 frames_free(void);

static inline void *physical(u32 address) { return (void *)(address + KERNEL_BASE); }
static inline u32 physical_address(const void *pointer) { return (u32)pointer - KERNEL_BASE; }

/* paging.c */
void paging_init(u32 memory_end, u32 *first_free);
u32 paging_kernel_directory(void);
u32 paging_new_directory(void);
u32 *paging_entry(u32 directory, u32 address, int create);

/* space.c */
enum { REGIONS = 6 };
struct region {                                 /* addresses that a program may use, and what belongs there */
    u32 start, end;
    int writable;
    const u8 *contents;                         /* of the first contents_bytes, the rest is zero */
    u32 contents_bytes;
};
struct space {
    u32 directory;                              /* physical; goes into CR3 */
    struct region region[REGIONS];
    u32 regions;
    u32 heap;                                   /* index of the region that sbrk moves */
#ifdef MEMORY
    u32 locked;                                 /* its pages stay in memory */
#endif
};
int space_create(struct space *space);
void space_add(struct space *space, u32 start, u32 end, int writable, const u8 *contents, u32 contents_bytes);
struct region *space_find(struct space *space, u32 address);
int space_allows(struct space *space, u32 address, u32 bytes, int write);
int space_copy(struct space *to, struct space *from);
void space_destroy(struct space *space);

/* fault.c */
int fault_resolve(struct space *space, u32 address, u32 error);

/* process.c */
enum process_state { UNUSED, RUNNABLE, SLEEPING, ZOMBIE };
enum { PROCESSES = 32, NAME_BYTES = 16 };
struct process {
    enum process_state state;
    u32 pid;
    struct process *parent;
    char name[NAME_BYTES];
    int status;                                 /* once ZOMBIE */
    const void *waits_for;                      /* once SLEEPING */
    u32 wake_at;                                /* tick, for timer_sleep */
    u32 stack;                                  /* frame of the kernel stack */
    u32 saved_esp;                              /* while it does not run */
    struct space space;
};
extern struct process process_table[PROCESSES];
extern struct process *current;
void process_start_first(void);
struct trap_frame *process_frame(struct process *process);
void process_set_name(struct process *process, const char *name);
int process_fork(void);
void process_exit(int status) __attribute__((noreturn));
int process_wait(int *status);

/* scheduler.c */
void schedule(void);                            /* let somebody else run; call it with interrupts off */
void scheduler_preempt(void);                   /* the time slice is over: schedule on the way back to user code */
void scheduler_return_to_user(void);
void sleep_on(const void *event);               /* call it with interrupts off */
void wake_up(const void *event);
void idle(void) __attribute__((noreturn));

/* exec.c */
enum { ARGUMENTS = 16, ARGUMENT_BYTES = 512 };
struct arguments {                              /* argv with its text, copied out of a space that is about to go */
    u32 count, bytes;
    char text[ARGUMENT_BYTES];                  /* count strings, one after another */
};
int arguments_add(struct arguments *arguments, const char *text, u32 length);
int exec(const struct arguments *arguments);
const char *program_name(u32 index);

/* syscall.c */
void syscall(struct trap_frame *frame);

/* main.c */
const char *boot_option(const char *name, u32 *length);

/* power.c */
void power_off(void) __attribute__((noreturn));
void panic(const char *format, ...) __attribute__((noreturn));

#endif
