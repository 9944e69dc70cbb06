/* Starting a program: an ELF file becomes regions; nothing is loaded before it is touched.

   The new stack, seen from user code (programs/start.S):

   USER_STACK_TOP   +-----------------------+
                    | text of the arguments |
                    | argv[argc] = 0        |
                    | ... argv[0]           |
                    | pointer to argv[0]    |
   ESP ->           | argc                  |
                    +-----------------------+ */

#include "kernel.h"
#include "x86.h"

struct program { const char *name; const u8 *file; u32 bytes; };
extern const struct program programs[];         /* programs.S; ends with a name of 0 */

struct elf_header {                             /* ELF 1.2, figure 1-3 */
    u8 ident[16];
    u16 type, machine;
    u32 version, entry, program_headers, section_headers, flags;
    u16 header_bytes, program_header_bytes, program_header_count;
};
struct elf_segment { u32 type, offset, address, physical, file_bytes, memory_bytes, flags, align; };
enum { SEGMENT_LOAD = 1, SEGMENT_WRITE = 2 };

const char *program_name(u32 index)
{
    for (u32 i = 0; programs[i].name; i++)
        if (i == index)
            return programs[i].name;
    return NULL;
}

static const struct program *find(const char *name)
{
    for (const struct program *p = programs; p->name; p++)
        if (streq(p->name, name))
            return p;
    return NULL;
}

int arguments_add(struct arguments *arguments, const char *text, u32 length)
{
    if (arguments->count == ARGUMENTS || arguments->bytes + length + 1 > ARGUMENT_BYTES)
        return 0;
    memcpy(arguments->text + arguments->bytes, text, length);
    arguments->bytes += length;
    arguments->text[arguments->bytes++] = 0;
    arguments->count++;
    return 1;
}

static void add_regions(struct space *space, const struct elf_header *elf)
{
    const struct elf_segment *segment = (const void *)((const u8 *)elf + elf->program_headers);
    u32 end = 0;
    for (u32 i = 0; i < elf->program_header_count; i++, segment++) {
        if (segment->type != SEGMENT_LOAD)
            continue;
        end = segment->address + segment->memory_bytes;
        space_add(space, segment->address, end, segment->flags & SEGMENT_WRITE, (const u8 *)elf + segment->offset,
                  segment->file_bytes);
    }
    end = (end + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1);
    space->heap = space->regions;
    space_add(space, end, end, 1, NULL, 0);
    space_add(space, USER_STACK_TOP - USER_STACK_BYTES, USER_STACK_TOP, 1, NULL, 0);
}

/* Writes through user addresses: the stack's pages appear by page fault, as they would for the program. */
static u32 build_stack(const struct arguments *arguments)
{
    char *text = (char *)((USER_STACK_TOP - arguments->bytes) & ~3u);
    u32 *argv = (u32 *)text - (arguments->count + 1);
    memcpy(text, arguments->text, arguments->bytes);
    for (u32 i = 0; i < arguments->count; i++) {
        argv[i] = (u32)text;
        text += strlen(text) + 1;
    }
    argv[arguments->count] = 0;
    argv[-1] = (u32)argv;
    argv[-2] = arguments->count;
    return (u32)(argv - 2);
}

/* Replaces the current process's program; -1 and no change if that cannot be. Takes effect on return to user code. */
int exec(const struct arguments *arguments)
{
    const struct program *program = arguments->count ? find(arguments->text) : NULL;
    struct space space, old = current->space;
    if (!program || !room_make(1) || !space_create(&space))
        return -1;
    const struct elf_header *elf = (const void *)program->file;
    add_regions(&space, elf);

    u32 flags = critical_enter();
    current->space = space;
    write_cr3(space.directory);
    critical_leave(flags);
    space_destroy(&old);
    process_set_name(current, program->name);

    struct trap_frame *frame = process_frame(current);
    *frame = (struct trap_frame){
        .ds = USER_DATA, .es = USER_DATA, .ss = USER_DATA, .cs = USER_CODE,
        .eip = elf->entry, .esp = build_stack(arguments), .eflags = EFLAGS_RESERVED | EFLAGS_IF,
    };
    return 0;
}
