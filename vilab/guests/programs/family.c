/* family PAGES CHILDREN: a parent and its children share pages, in memory and on the disk, and each changes its own.

   Every child finds what the parent had when it forked, rewrites every other page, and checks all of them again. The
   parent does the same to the pages in between, and finds none of what the children did. */

#include "pattern.h"

enum { CHILDREN_MOST = 16 };

static u32 *memory;

static struct content original(u32 page) { return (struct content){ 1, page, 0 }; }
static struct content changed(u32 page, u32 who) { return (struct content){ 2 + who, page, 1 }; }

static u32 check(u32 pages, u32 who, u32 changes_from)
{
    u32 wrong = 0;
    for (u32 page = 0; page < pages; page++) {
        int is_changed = page >= changes_from && (page - changes_from) % 2 == 0;
        wrong += page_wrong(memory + page * WORDS, is_changed ? changed(page, who) : original(page)) != 0;
    }
    return wrong;
}

static u32 change(u32 pages, u32 who, u32 from)
{
    u32 wrong = check(pages, who, pages);
    for (u32 page = from; page < pages; page += 2) {
        page_fill(memory + page * WORDS, changed(page, who));
        if (page % 16 == from)
            yield();                            /* let the others in between */
    }
    return wrong + check(pages, who, from);
}

int main(int argc, char **argv)
{
    u32 pages = argument(argc, argv, 1, 64), children = argument(argc, argv, 2, 3);
    memory = sbrk(pages * PAGE_BYTES);
    if (memory == NO_MEMORY || children > CHILDREN_MOST) {
        print("family: too large\n");
        return 1;
    }
    for (u32 page = 0; page < pages; page++)
        page_fill(memory + page * WORDS, original(page));
    for (u32 i = 1; i <= children; i++) {
        int pid = fork();
        if (pid == 0)
            exit(change(pages, i, 0) != 0);
        if (pid < 0) {
            print("family: cannot fork\n");
            return 1;
        }
    }
    u32 wrong = change(pages, 0, 1), status, well = 0;
    while (wait((int *)&status) > 0)
        well += status == 0;
    wrong += check(pages, 0, 1);
    print("family: %u pages, %u of %u children ended well, parent %s\n", pages, well, children, wrong ? "wrong" : "ok");
    return wrong || well != children;
}
