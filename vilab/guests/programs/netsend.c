/* netsend ADDRESS [PORT [COUNT [BYTES [TIME]]]]: COUNT datagrams of BYTES bytes, as fast as the card takes them.

   With TIME 1 it says how long that took. What a packet costs is better seen from outside: it is too fast for ticks. */

#include "stream.h"

enum { COUNT = 100, BYTES = 1024, TICKS_A_SECOND = 100 };

int main(int argc, char **argv)
{
    static u8 data[UDP_MOST];
    u32 count = argument(argc, argv, 3, COUNT), bytes = argument(argc, argv, 4, BYTES), sent = 0;
    struct datagram datagram = {
        .address = argc > 1 ? address_of(argv[1]) : 0, .port = argument(argc, argv, 2, STREAM_PORT),
        .data = (u32)data, .bytes = bytes,
    };
    if (bytes > sizeof data)
        return report("netsend", NET_TOO_LONG);
    int port = udp_open(0), answer = port;
    u32 before = uptime();
    while (answer >= 0 && sent < count) {
        stream_fill(data, sent, bytes);
        answer = udp_send(port, &datagram);
        sent += answer >= 0;
    }
    u32 ticks = uptime() - before;
    print("netsend: %u datagrams of %u bytes to " ADDRESS_FORMAT " port %u\n", sent, bytes,
          ADDRESS_PARTS(datagram.address), datagram.port);
    if (argument(argc, argv, 5, 0))
        print("netsend: %u ticks, %u bytes a second\n", ticks, ticks ? sent * bytes / ticks * TICKS_A_SECOND : 0);
    return report("netsend", answer);
}
