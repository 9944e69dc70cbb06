/* The MP tables (MultiProcessor Specification 1.4, chapter 4).

   In 0xf0000-0xfffff, on a 16-byte boundary, stands a pointer of 16 bytes: "_MP_", address of the table, ..., checksum.
   The table begins with "PCMP", has its size at 4, the number of entries at 34 and the local APICs' address at 36.
   Entries follow from 44 on; the first byte says which kind: a processor has 20 bytes, all others 8. */

#include "apic.h"

enum { FIRST = 0xf0000, END = 0x100000, POINTER_BYTES = 16, HEADER_BYTES = 44 };
enum { PROCESSOR, BUS, IOAPIC, IO_INTERRUPT };
enum { ENABLED = 1, KIND_INT = 0, NO_BUS = 0x100 };

static u32 u32_at(const u8 *at) { return at[0] | at[1] << 8 | at[2] << 16 | (u32)at[3] << 24; }

static bool is_named(const u8 *at, const char *name)
{
    for (u32 i = 0; i < 4; i++)
        if (at[i] != (u8)name[i])
            return false;
    return true;
}

static bool adds_up(const u8 *at, u32 bytes)
{
    u8 sum = 0;
    while (bytes--)
        sum += *at++;
    return sum == 0;
}

static void read_entries(struct machine *machine, const u8 *table)
{
    u32 entries = table[34] | table[35] << 8, isa = NO_BUS;
    const u8 *at = table + HEADER_BYTES;
    while (entries--) {
        if (at[0] == PROCESSOR && at[3] & ENABLED)
            machine->processors++;
        else if (at[0] == BUS && at[2] == 'I' && at[3] == 'S' && at[4] == 'A')
            isa = at[1];
        else if (at[0] == IOAPIC && at[3] & ENABLED)
            machine->ioapic = u32_at(at + 4);
        else if (at[0] == IO_INTERRUPT && at[1] == KIND_INT && at[4] == isa && at[5] < 16)
            machine->pin_of_irq[at[5]] = at[7];
        at += at[0] == PROCESSOR ? 20 : 8;
    }
}

bool mp_find(struct machine *machine)
{
    for (const u8 *at = (const u8 *)FIRST; at < (const u8 *)END; at += POINTER_BYTES) {
        if (!is_named(at, "_MP_") || !adds_up(at, POINTER_BYTES))
            continue;
        const u8 *table = (const u8 *)u32_at(at + 4);
        if (!is_named(table, "PCMP") || !adds_up(table, table[4] | table[5] << 8))
            return false;
        machine->lapic = u32_at(table + 36);
        read_entries(machine, table);
        return true;
    }
    return false;
}
