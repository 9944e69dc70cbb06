/* udpecho [PORT [COUNT]]: sends back every datagram that comes to the port; ends after COUNT of them, 0: never. */

#include "network.h"

enum { PORT = 7 };                              /* RFC 862 */

int main(int argc, char **argv)
{
    static u8 data[UDP_MOST];
    u32 count = argument(argc, argv, 2, 0);
    int port = udp_open(argument(argc, argv, 1, PORT));
    if (port < 0)
        return report("udpecho", port);
    print("udpecho: port %d\n", port);
    for (u32 i = 1; !count || i <= count; i++) {
        struct datagram datagram = { .data = (u32)data, .bytes = sizeof data };
        int bytes = udp_receive(port, &datagram, WAIT_LONG);
        if (bytes < 0)
            return report("udpecho", bytes);
        print("udpecho: %u: %u bytes from " ADDRESS_FORMAT " port %u\n", i, bytes, ADDRESS_PARTS(datagram.address),
              datagram.port);
        bytes = udp_send(port, &datagram);
        report("udpecho", bytes);               /* whoever cannot be answered does not end it */
    }
    return 0;
}
