/* Memory and text. The compiler calls memcpy and memset by itself. */

#include "kernel.h"

void *memcpy(void *to, const void *from, u32 bytes)
{
    void *destination = to;
    u32 words = bytes / 4, rest = bytes % 4;
    asm volatile("rep movsd" : "+D"(destination), "+S"(from), "+c"(words) : : "memory");
    asm volatile("rep movsb" : "+D"(destination), "+S"(from), "+c"(rest) : : "memory");
    return to;
}

void *memset(void *to, int value, u32 bytes)
{
    void *destination = to;
    u32 words = bytes / 4, rest = bytes % 4, pattern = (u8)value * 0x01010101u;
    asm volatile("rep stosd" : "+D"(destination), "+c"(words) : "a"(pattern) : "memory");
    asm volatile("rep stosb" : "+D"(destination), "+c"(rest) : "a"(pattern) : "memory");
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
