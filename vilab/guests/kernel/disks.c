/* Disks: each a SCSI target with one logical unit, LUN 0. What it is to do stands in a command descriptor block:

   byte                0     1     2     3     4     5     6     7     8     9
   INQUIRY             12    .     .     length                                       who are you?
   TEST UNIT READY     00    .     .     .     .     .                                ready, and nothing to tell?
   READ CAPACITY(10)   25    .     .     .     .     .     .     .     .     .        the last sector, bytes in one
   READ(10)            28    .     first sector            .     sectors     .
   WRITE(10)           2a    .     first sector            .     sectors     .        may stay in the disk's cache ...
   SYNCHRONIZE C.(10)  35    .     .     .     .     .     .     .     .     .        ... until this has been done

   Numbers of several bytes have their highest byte first. (SBC-3, SPC-4)

   UNIT ATTENTION is not a failure: the disk wants something to be known first (it was switched on). It is printed, and
   the command sent again. */

#ifdef DISK

#include "kernel.h"
#include "x86.h"

enum {
    TEST_UNIT_READY = 0x00, INQUIRY = 0x12, READ_CAPACITY = 0x25, READ = 0x28, WRITE = 0x2a, SYNCHRONIZE_CACHE = 0x35,
};
enum { GOOD = 0x00, CHECK_CONDITION = 0x02, BUSY = 0x08, RESERVATION_CONFLICT = 0x18, TASK_SET_FULL = 0x28 };
enum { KEY_UNIT_ATTENTION = 6 };
enum { DISKS = 16, INQUIRY_BYTES = 36, TYPE_BITS = 0xff, TYPE_DISK = 0, TRIES = 4 };

static struct { u32 sectors; } disks[DISKS];
static int sleeps;
u32 disk_trace;

static u32 big_endian(const u8 *bytes) { return bytes[0] << 24 | bytes[1] << 16 | bytes[2] << 8 | bytes[3]; }

static const char *command_name(u32 code)
{
    switch (code) {
    case TEST_UNIT_READY: return "TEST UNIT READY";
    case INQUIRY: return "INQUIRY";
    case READ_CAPACITY: return "READ CAPACITY(10)";
    case READ: return "READ(10)";
    case WRITE: return "WRITE(10)";
    case SYNCHRONIZE_CACHE: return "SYNCHRONIZE CACHE(10)";
    default: return "?";
    }
}

/* "scsi 0: 2a 00 00 00 00 70 00 00 08 00 WRITE(10), sectors 112 to 119" */
static void print_command(const struct scsi_command *command)
{
    char text[3 * CDB_BYTES + 1];
    u32 length = 0;
    for (u32 i = 0; i < command->cdb_bytes; i++) {
        text[length++] = "0123456789abcdef"[command->cdb[i] >> 4];
        text[length++] = "0123456789abcdef"[command->cdb[i] & 15];
        text[length++] = ' ';
    }
    text[length] = 0;
    kprintf("scsi %u: %s%s", command->target, text, command_name(command->cdb[0]));
    u32 first = big_endian(command->cdb + 2), last = first + (command->cdb[7] << 8 | command->cdb[8]) - 1;
    if (command->cdb[0] != READ && command->cdb[0] != WRITE)
        return;
    if (first == last)
        kprintf(", sector %u", first);
    else
        kprintf(", sectors %u to %u", first, last);
}

static void print_sense(const struct scsi_command *command)
{
    struct sense sense = sense_of(command);
    const char *name = sense_name(sense.code, sense.qualifier);
    static const char digits[] = "0123456789abcdef";
    kprintf("%s, %s%s(%c/%c%c/%c%c)\n", sense_key_name(sense.key), name, *name ? " " : "", digits[sense.key],
            digits[sense.code >> 4], digits[sense.code & 15], digits[sense.qualifier >> 4], digits[sense.qualifier & 15]);
}

/* One line: the command, and how it has ended. */
static void print_result(const struct scsi_command *command)
{
    print_command(command);
    kprintf(": ");
    if (command->failure == NOBODY_THERE)
        kprintf("nobody there\n");
    else if (command->failure == ADAPTER_GONE)
        kprintf("the adapter is gone\n");
    else if (command->failure)
        kprintf("the adapter refuses, status %x\n", command->adapter_status);
    else if (command->status == CHECK_CONDITION)
        print_sense(command);
    else if (command->status == RESERVATION_CONFLICT)
        kprintf("reserved by another host\n");
    else if (command->status != GOOD)
        kprintf("status %x\n", command->status);
    else if (command->moved_bytes < command->data_bytes)
        kprintf("only %u of %u bytes\n", command->moved_bytes, command->data_bytes);
    else
        kprintf("good\n");
}

static int went_well(const struct scsi_command *command)
{
    return !command->failure && command->status == GOOD && command->moved_bytes == command->data_bytes;
}

static int wants_patience(const struct scsi_command *command)
{
    return !command->failure && (command->status == BUSY || command->status == TASK_SET_FULL);
}

static int is_unit_attention(const struct scsi_command *command)
{
    return !command->failure && command->status == CHECK_CONDITION && sense_of(command).key == KEY_UNIT_ATTENTION;
}

/* True if it went well. Trouble is one line; quiet: none where nobody is there. */
static int carry_out(struct scsi_command *command, int quiet)
{
    for (u32 tries = 0; tries < TRIES; tries++) {
        lsi_command(command);
        int well = went_well(command);
        if (disk_trace || (!well && !(quiet && command->failure == NOBODY_THERE)))
            print_result(command);
        if (well)
            return 1;
        if (wants_patience(command) && sleeps)
            timer_sleep(1);
        else if (!is_unit_attention(command))
            return 0;
    }
    return 0;
}

static void print_name(const u8 *text, u32 bytes)
{
    while (bytes && text[bytes - 1] == ' ')
        bytes--;
    while (bytes--)
        kprintf("%c", *text++);
}

static int inquire(u32 target, u8 *answer)
{
    struct scsi_command command = {
        .target = target, .cdb = { INQUIRY, [4] = INQUIRY_BYTES }, .cdb_bytes = 6, .direction = FROM_DISK,
        .data = physical_address(answer), .data_bytes = INQUIRY_BYTES,
    };
    return carry_out(&command, 1) && (answer[0] & TYPE_BITS) == TYPE_DISK;
}

static int is_ready(u32 target)
{
    struct scsi_command command = { .target = target, .cdb = { TEST_UNIT_READY }, .cdb_bytes = 6 };
    return carry_out(&command, 0);
}

static int read_capacity(u32 target, u8 *answer)
{
    struct scsi_command command = {
        .target = target, .cdb = { READ_CAPACITY }, .cdb_bytes = 10, .direction = FROM_DISK,
        .data = physical_address(answer), .data_bytes = 8,
    };
    return carry_out(&command, 0);
}

static void look_at(u32 target)
{
    static u8 name[INQUIRY_BYTES], capacity[8];         /* static: the adapter writes there */
    if (!inquire(target, name) || !is_ready(target) || !read_capacity(target, capacity))
        return;
    u32 last = big_endian(capacity), bytes = big_endian(capacity + 4);
    kprintf("scsi %u: ", target);
    print_name(name + 8, 8);
    kprintf(" ");
    print_name(name + 16, 16);
    kprintf(", %u sectors of %u bytes\n", last + 1, bytes);
    if (bytes == SECTOR_BYTES && last != ~0u)
        disks[target].sectors = last + 1;
}

void disks_find(void)
{
    if (!lsi_find())
        return;
    for (u32 target = 0; target < lsi_targets(); target++)
        look_at(target);
}

void disks_start(void)
{
    lsi_start();
    sleeps = 1;
}

u32 disk_sectors(u32 target) { return target < DISKS ? disks[target].sectors : 0; }

u32 disks_first(void)
{
    for (u32 target = 0; target < DISKS; target++)
        if (disks[target].sectors)
            return target;
    return NO_DISK;
}

int disk_transfer(u32 target, enum data_direction direction, u32 sector, u32 sectors, const void *memory)
{
    struct scsi_command command = {
        .target = target, .cdb_bytes = 10, .direction = direction,
        .cdb = { direction == TO_DISK ? WRITE : READ, 0, sector >> 24, sector >> 16, sector >> 8, sector,
                 0, sectors >> 8, sectors, 0 },
        .data = physical_address(memory), .data_bytes = sectors * SECTOR_BYTES,
    };
    return carry_out(&command, 0);
}

int disk_flush(u32 target)
{
    struct scsi_command command = { .target = target, .cdb = { SYNCHRONIZE_CACHE }, .cdb_bytes = 10 };
    return carry_out(&command, 0);
}

#endif
