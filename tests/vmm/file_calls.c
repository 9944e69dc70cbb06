/* Makes every file call, right and wrong, and checks the answers. Takes the place of the program `calls`. */

#include "files.h"

#define BAD_POINTER 0x00001000u         /* in no region */
#define KERNEL_POINTER KERNEL_BASE
#define WRAPS 0xfffffff0u

static u32 checks, wrong;

static __attribute__((noinline)) void check(int right)
{
    checks++;
    if (!right) {
        wrong++;
        print("calls: check %u is wrong\n", checks);
    }
}

static int transfer(u32 number, const char *name, u32 offset, u32 address, u32 bytes)
{
    struct piece piece = { address, bytes };
    return syscall(number, (u32)name, offset, (u32)&piece);
}

static void check_names(void)
{
    static const char long_name[40] = "a name that has more than 27 characters";
    static const u32 bad[] = { BAD_POINTER, KERNEL_POINTER, WRAPS };
    for (u32 i = 0; i < sizeof bad / sizeof *bad; i++) {
        check(syscall(SYSCALL_FILE_CREATE, bad[i], 0, 0) == FILE_REFUSED);
        check(syscall(SYSCALL_FILE_REMOVE, bad[i], 0, 0) == FILE_REFUSED);
        check(transfer(SYSCALL_FILE_READ, (const char *)bad[i], 0, 0, 0) == FILE_REFUSED);
        check(transfer(SYSCALL_FILE_WRITE, (const char *)bad[i], 0, 0, 0) == FILE_REFUSED);
    }
    char *edge = (char *)USER_STACK_TOP - 4;
    edge[0] = edge[1] = edge[2] = edge[3] = 'x';                        /* runs out of its region before it ends */
    check(file_create(edge) == FILE_REFUSED);
    check(file_create("") == FILE_BAD_NAME && file_create(long_name) == FILE_BAD_NAME);
    check(file_remove(long_name) == FILE_NOT_FOUND);
}

static void check_pieces(void)
{
    static char bytes[2 * FILE_PIECE];
    static const char read_only[4] = "ro";
    check(file_create("f") == 0 && file_append("f", 0, "twelve bytes", 12) == 0);
    check(syscall(SYSCALL_FILE_READ, (u32)"f", 0, BAD_POINTER) == FILE_REFUSED);
    check(syscall(SYSCALL_FILE_WRITE, (u32)"f", 0, USER_STACK_TOP - 4) == FILE_REFUSED);
    static const u32 bad[] = { BAD_POINTER, KERNEL_POINTER, WRAPS, USER_STACK_TOP - 4 };
    for (u32 i = 0; i < sizeof bad / sizeof *bad; i++) {
        check(transfer(SYSCALL_FILE_READ, "f", 0, bad[i], 100) == FILE_REFUSED);
        check(transfer(SYSCALL_FILE_WRITE, "f", 0, bad[i], 100) == FILE_REFUSED);
    }
    check(transfer(SYSCALL_FILE_READ, "f", 0, (u32)read_only, 4) == FILE_REFUSED);
    check(transfer(SYSCALL_FILE_WRITE, "f", 12, (u32)read_only, 2) == 2);
    check(transfer(SYSCALL_FILE_WRITE, "f", 15, (u32)bytes, 1) == FILE_REFUSED);       /* would leave a hole */
    check(transfer(SYSCALL_FILE_WRITE, "f", WRAPS, (u32)bytes, 100) == FILE_REFUSED);
    check(transfer(SYSCALL_FILE_READ, "f", WRAPS, (u32)bytes, 100) == 0);
    check(transfer(SYSCALL_FILE_READ, "f", 14, (u32)bytes, 1) == 0);
    check(transfer(SYSCALL_FILE_READ, "f", 10, (u32)bytes, 0xffffffff) == 4 && bytes[0] == 'e' && bytes[3] == 'o');
    check(transfer(SYSCALL_FILE_WRITE, "f", 14, (u32)bytes, 0x7fffffff) == FILE_PIECE);
    check(transfer(SYSCALL_FILE_WRITE, "f", 0, (u32)bytes, 0) == 0);
}

static void check_others(void)
{
    struct file_info info;
    check(syscall(SYSCALL_FILE_LIST, 0, KERNEL_POINTER, 0) == FILE_REFUSED);
    check(syscall(SYSCALL_FILE_LIST, 0, USER_STACK_TOP - sizeof info + 1, 0) == FILE_REFUSED);
    check(file_list(0, &info) == 0 && streq(info.name, "f") && info.size_bytes == 14 + FILE_PIECE);
    check(file_list(1, &info) == FILE_NOT_FOUND && file_list(0xffffffff, &info) == FILE_NOT_FOUND);
    check(file_make(0xffffffff) == FILE_NO_ROOM && file_make(1) == FILE_NO_ROOM);
    check(syscall(SYSCALLS_OF_DISK, 0, 0, 0) == -1);
    check(file_remove("f") == 0 && file_remove("f") == FILE_NOT_FOUND && file_sync() == 0);
}

int main(void)
{
    check(file_make(0) > 0);
    check_names();
    check_pieces();
    check_others();
    print("calls: %u checks, %u wrong\n", checks, wrong);
    return wrong != 0;
}
