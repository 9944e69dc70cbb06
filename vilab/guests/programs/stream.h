/* The datagrams that netsend sends and netsink counts.

   0        4
   +--------+----------------------+
   | number | bytes that count up   |     number: from 0 on, highest byte first; byte i is number + i
   +--------+----------------------+ */

#ifndef STREAM_H
#define STREAM_H

#include "network.h"

enum { STREAM_PORT = 5001, NUMBER_BYTES = 4 };

static inline void stream_fill(u8 *data, u32 number, u32 bytes)
{
    for (u32 i = 0; i < bytes; i++)
        data[i] = i < NUMBER_BYTES ? number >> (24 - 8 * i) : number + i;
}

/* true if it is what stream_fill makes of its own number. */
static inline int stream_check(const u8 *data, u32 bytes, u32 *number)
{
    if (bytes < NUMBER_BYTES)
        return 0;
    *number = (u32)data[0] << 24 | data[1] << 16 | data[2] << 8 | data[3];
    for (u32 i = NUMBER_BYTES; i < bytes; i++)
        if (data[i] != (u8)(*number + i))
            return 0;
    return 1;
}

#endif
