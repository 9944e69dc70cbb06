/* The order in which the kernel comes up, one line of output a step. */

#include "kernel.h"
#include "x86.h"

#define LOADER_MAGIC 0x2badb002

struct multiboot {                      /* what the loader tells us; Multiboot 0.6.96, section 3.3 */
    u32 flags;                          /* bit n: the n-th group of fields below is filled in */
    u32 lower_kb, upper_kb;             /* 0: memory from 0, memory from 1 MB */
    u32 boot_device;                    /* 1 */
    u32 command_line;                   /* 2: physical address of text */
};
enum { HAS_MEMORY = 1 << 0, HAS_COMMAND_LINE = 1 << 2 };

extern const u8 kernel_end[];

static char command_line[256];

static int starts_with(const char *text, const char *word)
{
    while (*word)
        if (*text++ != *word++)
            return 0;
    return 1;
}

/* The value of "name=value" on the command line, which goes on to the end of the line; length 0 if there is none. */
const char *boot_option(const char *name, u32 *length)
{
    for (const char *at = command_line; *at; at++)
        if ((at == command_line || at[-1] == ' ') && starts_with(at, name) && at[strlen(name)] == '=') {
            const char *value = at + strlen(name) + 1;
            *length = strlen(value);
            return value;
        }
    *length = 0;
    return command_line;
}

#ifdef MEMORY
/* The value of "name=number". */
u32 boot_number(const char *name, u32 otherwise)
{
    u32 length, value = 0;
    const char *text = boot_option(name, &length);
    if (!length)
        return otherwise;
    while (*text >= '0' && *text <= '9')
        value = value * 10 + (*text++ - '0');
    return value;
}
#endif

static void copy_command_line(const char *from)
{
    u32 length = strlen(from);
    if (length >= sizeof command_line)
        length = sizeof command_line - 1;
    memcpy(command_line, from, length);
}

void kernel_main(u32 magic, u32 information)
{
    uart_init();
    kprintf("vilab teaching kernel\n");
    check_cpu();

    const struct multiboot *multiboot = physical(information);
    if (magic != LOADER_MAGIC || !(multiboot->flags & HAS_MEMORY))
        panic("not started by a Multiboot loader");
    if (multiboot->flags & HAS_COMMAND_LINE)
        copy_command_line(physical(multiboot->command_line));
    u32 memory_end = (1024 + multiboot->upper_kb) * 1024;
    if (memory_end < MEMORY_LEAST)
        panic("%u KB of memory are too few, %u KB are needed", memory_end / 1024, MEMORY_LEAST / 1024);
    if (memory_end > DIRECT_MAP_MAX)
        memory_end = DIRECT_MAP_MAX;

    gdt_init();
    trap_init();
    kprintf("gdt, idt, tss: loaded\n");

    u32 first_free = physical_address(kernel_end);
    paging_init(memory_end, &first_free);
    disks_find();
    first_free = memory_tables(first_free, memory_end);
    frames_init(first_free, memory_end);
    kprintf("paging: %u MB of memory\n", (memory_end + 0x80000) >> 20);

    pic_init();
    timer_init();
    pic_unmask(IRQ_COM1);
    check_timer();

    process_start_first();
    memory_start();
    disks_start();
    network_start();
    idle();
}
