/* netsink [PORT [COUNT [TICKS]]]: takes what netsend sends; ends after COUNT datagrams, or TICKS without any. */

#include "stream.h"

enum { COUNT = 100, TICKS = 500 };

int main(int argc, char **argv)
{
    static u8 data[UDP_MOST];
    u32 count = argument(argc, argv, 2, COUNT), ticks = argument(argc, argv, 3, TICKS);
    u32 came = 0, damaged = 0, missing = 0, expected = 0;
    int port = udp_open(argument(argc, argv, 1, STREAM_PORT));
    if (port < 0)
        return report("netsink", port);
    print("netsink: port %d\n", port);
    while (came < count) {
        struct datagram datagram = { .data = (u32)data, .bytes = sizeof data };
        int bytes = udp_receive(port, &datagram, ticks);
        u32 number;
        if (bytes == NET_NO_ANSWER)
            break;
        if (bytes < 0)
            return report("netsink", bytes);
        came++;
        if (!stream_check(data, bytes, &number)) {
            damaged++;
            continue;
        }
        if (number > expected)
            missing += number - expected;       /* lost before the one that has come */
        expected = number + 1;
    }
    print("netsink: %u datagrams, %u damaged, %u missing between them\n", came, damaged, missing);
    return damaged != 0;
}
