/* The programs' small library. */

#include "library.h"

enum { LINE_BYTES = 256 };

void *memcpy(void *to, const void *from, u32 bytes)
{
    for (u32 i = 0; i < bytes; i++)
        ((volatile u8 *)to)[i] = ((const u8 *)from)[i];
    return to;
}

void *memset(void *to, int value, u32 bytes)
{
    for (u32 i = 0; i < bytes; i++)
        ((volatile u8 *)to)[i] = value;
    return to;
}

u32 strlen(const char *text)
{
    u32 length = 0;
    while (text[length])
        length++;
    return length;
}

int streq(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

u32 number(const char *text)
{
    u32 value = 0;
    while (*text >= '0' && *text <= '9')
        value = value * 10 + (*text++ - '0');
    return value;
}

u32 argument(int argc, char **argv, int index, u32 otherwise) { return index < argc ? number(argv[index]) : otherwise; }

struct line { u32 length; char text[LINE_BYTES]; };

static void put(struct line *line, char c)
{
    if (line->length < LINE_BYTES)
        line->text[line->length++] = c;
}

static void put_number(struct line *line, u32 value, u32 base, u32 digits)
{
    char text[10];
    u32 length = 0;
    do {
        text[length++] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value || length < digits);
    while (length)
        put(line, text[--length]);
}

void print(const char *format, ...)
{
    struct line line;
    line.length = 0;
    __builtin_va_list arguments;
    __builtin_va_start(arguments, format);
    for (; *format; format++) {
        if (*format != '%') {
            put(&line, *format);
            continue;
        }
        switch (*++format) {
        case 'd': {
            int value = __builtin_va_arg(arguments, int);
            if (value < 0)
                put(&line, '-');
            put_number(&line, value < 0 ? -(u32)value : (u32)value, 10, 1);
            break;
        }
        case 'u':
            put_number(&line, __builtin_va_arg(arguments, u32), 10, 1);
            break;
        case 'x':
            put_number(&line, __builtin_va_arg(arguments, u32), 16, 8);
            break;
        case 's':
            for (const char *text = __builtin_va_arg(arguments, const char *); *text; text++)
                put(&line, *text);
            break;
        default:
            put(&line, *format);
        }
    }
    __builtin_va_end(arguments);
    write(line.text, line.length);
}
