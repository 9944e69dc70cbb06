/* Processes: made by fork, ended by exit, laid to rest by wait.

   A kernel stack, one frame:

   +----------------------------------+ top, in the TSS while the process runs
   | struct trap_frame                | how to get back to user code
   +----------------------------------+
   | C frames of the system call      |
   | registers saved by switch_stacks | saved_esp points here while it does not run
   |                                  |
   | STACK_END                        | overwritten: the stack was too small
   +----------------------------------+ */

#include "kernel.h"
#include "x86.h"

#define STACK_END 0x57ac0e4d

struct switch_frame { u32 edi, esi, ebx, ebp, eip; };

void first_run(void);

struct process process_table[PROCESSES];
struct process *current = &process_table[0];
static u32 last_pid;

struct trap_frame *process_frame(struct process *process)
{
    return (struct trap_frame *)((u8 *)physical(process->stack) + PAGE_BYTES) - 1;
}

void process_set_name(struct process *process, const char *name)
{
    u32 length = strlen(name);
    if (length >= NAME_BYTES)
        length = NAME_BYTES - 1;
    memcpy(process->name, name, length);
    process->name[length] = 0;
}

/* An unused slot with a kernel stack that starts in first_run; NULL if there is none. */
static struct process *process_new(void)
{
    for (struct process *p = process_table + 1; p < process_table + PROCESSES; p++) {
        if (p->state != UNUSED)
            continue;
        u32 stack = frame_allocate();
        if (!stack)
            return NULL;
        memset(p, 0, sizeof *p);
        p->stack = stack;
        p->parent = current;
        *(u32 *)physical(stack) = STACK_END;
        struct switch_frame *frame = (struct switch_frame *)process_frame(p) - 1;
        *frame = (struct switch_frame){ .eip = (u32)first_run };
        p->saved_esp = (u32)frame;
        return p;
    }
    return NULL;
}

/* Runs on the new process's own stack; returning goes to user code. */
void process_begin(void)
{
    if (current->pid != 1)
        return;                         /* fork has left everything ready */
    struct arguments arguments = { 0 };
    u32 length;
    const char *text = boot_option("init", &length);
    for (u32 i = 0; i < length; ) {
        u32 word = 0;
        while (i + word < length && text[i + word] != ' ')
            word++;
        if (word)
            arguments_add(&arguments, text + i, word);
        i += word + 1;
    }
    if (!arguments.count)
        arguments_add(&arguments, "shell", 5);
    if (exec(&arguments) < 0)
        panic("no program named %s", arguments.text);
}

/* Process 0, which is this very flow of control, goes on as the idle loop. */
void process_start_first(void)
{
    current->space.directory = paging_kernel_directory();
    current->state = RUNNABLE;
    struct process *process = process_new();
    if (!process || !space_create(&process->space))
        panic("no memory for the first process");
    process->pid = ++last_pid;
    process->state = RUNNABLE;
}

#ifdef MEMORY
/* A flow of control inside the kernel, without a program and without a pid. It begins with interrupts off, is never
   preempted and never returns. */
void process_start_thread(const char *name, void (*run)(void))
{
    struct process *process = process_new();
    if (!process)
        panic("no memory for the thread %s", name);
    process_set_name(process, name);
    process->space.directory = paging_kernel_directory();
    ((struct switch_frame *)process->saved_esp)->eip = (u32)run;
    process->state = RUNNABLE;
}
#endif

int process_fork(void)
{
    struct process *child = room_for_fork() ? process_new() : NULL;
    if (!child)
        return -1;
    if (!space_copy(&child->space, &current->space)) {
        frame_release(child->stack);
        return -1;
    }
    *process_frame(child) = *process_frame(current);
    process_frame(child)->eax = 0;      /* fork returns 0 in the child */
    process_set_name(child, current->name);
    child->pid = ++last_pid;
    child->state = RUNNABLE;            /* last: from now on the timer may choose it */
    return child->pid;
}

void process_exit(int status)
{
    if (*(u32 *)physical(current->stack) != STACK_END)
        panic("kernel stack of pid %u overflowed", current->pid);
    if (current->pid == 1) {
        files_before_power_off();
        kprintf("kernel: %s has ended with status %d, power off\n", current->name, status);
        power_off();
    }
    network_process_ends();
    interrupts_off();
    write_cr3(paging_kernel_directory());
    space_destroy(&current->space);
    current->space.directory = paging_kernel_directory();
    for (struct process *p = process_table; p < process_table + PROCESSES; p++)
        if (p->parent == current)
            p->parent = &process_table[1];
    current->status = status;
    current->state = ZOMBIE;
    wake_up(current->parent);
    schedule();
    panic("a zombie ran");
}

/* Waits for any child to end; its pid, or -1 if there is no child. */
int process_wait(int *status)
{
    for (;;) {
        u32 flags = critical_enter();
        int children = 0;
        for (struct process *p = process_table + 1; p < process_table + PROCESSES; p++) {
            if (p->state == UNUSED || p->parent != current)
                continue;
            children = 1;
            if (p->state == ZOMBIE) {
                int pid = p->pid;
                *status = p->status;
                frame_release(p->stack);
                p->parent = NULL;
                p->state = UNUSED;
                critical_leave(flags);
                return pid;
            }
        }
        if (children)
            sleep_on(current);
        critical_leave(flags);
        if (!children)
            return -1;
    }
}
