/* Text on the console. One call is one critical section, so that lines stay whole. */

#include "kernel.h"
#include "x86.h"

static void put(char c)
{
    if (c == '\n')
        uart_put('\r');
    uart_put(c);
}

void console_write(const char *text, u32 bytes)
{
    u32 flags = critical_enter();
    while (bytes--)
        put(*text++);
    uart_flush();
    critical_leave(flags);
}

static void put_number(u32 value, u32 base, u32 digits)
{
    char text[10];
    u32 length = 0;
    do {
        text[length++] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value || length < digits);
    while (length)
        put(text[--length]);
}

static void put_formatted(const char *format, __builtin_va_list arguments)
{
    for (; *format; format++) {
        if (*format != '%') {
            put(*format);
            continue;
        }
        switch (*++format) {
        case 'd': {
            int value = __builtin_va_arg(arguments, int);
            if (value < 0)
                put('-');
            put_number(value < 0 ? -(u32)value : (u32)value, 10, 1);
            break;
        }
        case 'u':
            put_number(__builtin_va_arg(arguments, u32), 10, 1);
            break;
        case 'x':
            put_number(__builtin_va_arg(arguments, u32), 16, 8);
            break;
        case 'c':
            put(__builtin_va_arg(arguments, int));
            break;
        case 's':
            for (const char *text = __builtin_va_arg(arguments, const char *); *text; text++)
                put(*text);
            break;
        default:
            put(*format);
        }
    }
}

void kprintf(const char *format, ...)
{
    __builtin_va_list arguments;
    __builtin_va_start(arguments, format);
    u32 flags = critical_enter();
    put_formatted(format, arguments);
    uart_flush();
    critical_leave(flags);
    __builtin_va_end(arguments);
}

void panic(const char *format, ...)
{
    __builtin_va_list arguments;
    __builtin_va_start(arguments, format);
    interrupts_off();
    put_formatted("panic: ", arguments);
    put_formatted(format, arguments);
    put('\n');
    uart_flush();
    __builtin_va_end(arguments);
    for (;;)
        halt();
}
