/* COM1: printing by polling, and a text sent by the interrupt that says "ready for the next byte". */

#include "apic.h"

enum { COM1 = 0x3f8, ENABLE = COM1 + 1, IDENTITY = COM1 + 2, LINE = COM1 + 3, MODEM = COM1 + 4, STATUS = COM1 + 5 };
enum { READY = 0x20, WHEN_READY = 0x02, OUT2 = 0x08, IS_READY = 0x02 };

static const char *rest;

static void put(char c)
{
    while (!(in8(STATUS) & READY))
        ;
    out8(COM1, c);
}

void print(const char *text)
{
    while (*text)
        put(*text++);
}

void print_hex(u32 value)
{
    for (int shift = 28; shift >= 0; shift -= 4)
        put("0123456789abcdef"[value >> shift & 15]);
}

void print_number(u32 value)
{
    if (value >= 10)
        print_number(value / 10);
    put('0' + value % 10);
}

void serial_send_by_interrupt(const char *text)
{
    rest = text;
    out8(LINE, 3);
    out8(MODEM, OUT2 | 3);
    out8(ENABLE, WHEN_READY);
}

void serial_interrupt(void)
{
    if ((in8(IDENTITY) & 0x0f) != IS_READY)
        return;
    if (*rest)
        out8(COM1, *rest++);
    else
        out8(ENABLE, 0);
}

bool serial_done(void) { return !*rest; }
