/* calls: makes every system call, right and wrong, and checks the answers. */

#include "library.h"

#define BAD_POINTER 0x00001000u         /* in no region */
#define KERNEL_POINTER KERNEL_BASE

static u32 checks, wrong;

static void check(int right)
{
    checks++;
    if (!right) {
        wrong++;
        print("calls: check %u is wrong\n", checks);
    }
}

static void check_pointers(void)
{
    static const char read_only[4] = "ro";
    char name[16];
    check(syscall(SYSCALL_WRITE, BAD_POINTER, 1, 0) < 0);
    check(syscall(SYSCALL_WRITE, KERNEL_POINTER, 1, 0) < 0);
    check(syscall(SYSCALL_WRITE, USER_STACK_TOP - 4, 8, 0) < 0);        /* runs out of its region */
    check(syscall(SYSCALL_WRITE, 0xfffffff0, 0x20, 0) < 0);             /* wraps around */
    check(syscall(SYSCALL_READ, KERNEL_POINTER, 1, 0) < 0);
    check(syscall(SYSCALL_READ, (u32)read_only, 1, 0) < 0);
    check(syscall(SYSCALL_WAIT, KERNEL_POINTER, 0, 0) < 0);
    check(syscall(SYSCALL_EXEC, BAD_POINTER, 0, 0) < 0);
    check(program(0, name, sizeof name) == 5 && streq(name, "shell"));
    check(program(1000, name, sizeof name) < 0);
    check(program(0, name, 3) < 0);
}

static void check_processes(void)
{
    int me = getpid(), status = 0;
    check(me > 0);
    check(wait(&status) < 0);                                           /* no child */
    int child = fork();
    if (child == 0) {
        yield();
        exit(getpid() == me ? 1 : 42);
    }
    check(child > 0 && wait(&status) == child && status == 42);
    char *none[] = { "no-such-program", NULL };
    check(exec(none) < 0);
}

static void check_memory(void)
{
    u32 *memory = sbrk(3 * PAGE_BYTES);
    check(memory != NO_MEMORY && (u32)memory % PAGE_BYTES == 0);
    check(memory[0] == 0 && memory[2 * PAGE_BYTES / 4] == 0);           /* never anybody else's bytes */
    check(sbrk(0) == (u8 *)memory + 3 * PAGE_BYTES);
    check(sbrk(-0x7fffffff) == NO_MEMORY);                              /* below its start */
    check(sbrk(0x7fffffff) != NO_MEMORY && sbrk(0x7fffffff) == NO_MEMORY);      /* a promise, but not into the stack */
}

static void check_time(void)
{
    u32 before = syscall(SYSCALL_UPTIME, 0, 0, 0);
    sleep(3);
    check(syscall(SYSCALL_UPTIME, 0, 0, 0) - before >= 3);
}

int main(void)
{
    check(null_call() == 0);
    check(syscall(SYSCALLS, 0, 0, 0) < 0);                              /* one past the last */
    check_pointers();
    check_processes();
    check_memory();
    check_time();
    print("calls: %u checks, %u wrong\n", checks, wrong);
    return wrong != 0;
}
