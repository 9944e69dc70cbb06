/* Makes every call for the network, right and wrong, and checks the answers. Takes the place of the program `calls`.
   At 10.0.0.9 there is somebody who sends back what comes to port 7. */

#include "network.h"

#define BAD_POINTER 0x00001000u         /* in no region */
#define KERNEL_POINTER KERNEL_BASE
#define WRAPS 0xfffffff0u
#define PEER (10u << 24 | 9)
#define NEIGHBOUR (10u << 24 | 77)      /* nobody */

enum { SOCKETS = 4, ECHO_PORT = 7, FIRST_FREE = 49152 };

static u32 checks, wrong;

static __attribute__((noinline)) void check(int right)
{
    checks++;
    if (!right) {
        wrong++;
        print("calls: check %u is wrong\n", checks);
    }
}

static int send(u32 port, u32 address, u32 to, u32 data, u32 bytes)
{
    struct datagram datagram = { address, to, data, bytes };
    return udp_send(port, &datagram);
}

static void check_pointers(u32 port)
{
    static const u32 bad[] = { BAD_POINTER, KERNEL_POINTER, WRAPS };
    static const struct datagram read_only;
    for (u32 i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct datagram into = { .data = bad[i], .bytes = 20 };
        check(syscall(SYSCALL_NET_INFO, bad[i], 0, 0) == NET_REFUSED);
        check(syscall(SYSCALL_NET_COUNTER, 0, bad[i], 0) == NET_REFUSED);
        check(syscall(SYSCALL_PING, bad[i], 0, 0) == NET_REFUSED);
        check(syscall(SYSCALL_UDP_SEND, port, bad[i], 0) == NET_REFUSED);
        check(syscall(SYSCALL_UDP_RECEIVE, port, bad[i], 0) == NET_REFUSED);
        check(send(port, PEER, ECHO_PORT, bad[i], 20) == NET_REFUSED);
        check(udp_receive(port, &into, 0) == NET_REFUSED);
    }
    check(syscall(SYSCALL_UDP_RECEIVE, port, (u32)&read_only, 0) == NET_REFUSED);
    check(syscall(SYSCALL_PING, (u32)&read_only, 0, 0) == NET_REFUSED);
    check(syscall(SYSCALLS_OF_NETWORK, 0, 0, 0) < 0);
}

static void check_ports(void)
{
    int ports[SOCKETS];
    check(udp_open(65536) == NET_REFUSED && udp_close(1) == NET_REFUSED && udp_close(0) == NET_REFUSED);
    ports[0] = udp_open(65535);
    check(ports[0] == 65535 && udp_open(65535) == NET_IN_USE);
    for (u32 i = 1; i < SOCKETS; i++)
        ports[i] = udp_open(0);
    check(ports[1] == FIRST_FREE && ports[SOCKETS - 1] == FIRST_FREE + SOCKETS - 2);
    check(udp_open(1) == NET_NO_ROOM);
    for (u32 i = 0; i < SOCKETS; i++)
        check(udp_close(ports[i]) == 0);
    check(udp_close(ports[0]) == NET_REFUSED && send(ports[0], PEER, ECHO_PORT, 0, 0) == NET_REFUSED);
}

static void check_sending(u32 port, u32 data)
{
    check(send(port, PEER, 0, data, 1) == NET_REFUSED && send(port, PEER, 65536, data, 1) == NET_REFUSED);
    check(send(port, PEER, ECHO_PORT, data, UDP_MOST + 1) == NET_TOO_LONG);
    check(send(port, 10u << 24 | 255, ECHO_PORT, data, 1) == NET_NO_WAY);
    check(send(port, 0, ECHO_PORT, data, 1) == NET_NO_WAY && send(port, ~0u, ECHO_PORT, data, 1) == NET_NO_WAY);
    check(send(port, NEIGHBOUR, ECHO_PORT, data, 1) == NET_NOBODY);
}

static void check_receiving(u32 port, u8 *data)
{
    struct datagram came = { .data = (u32)data, .bytes = 3 };
    u32 before = uptime();
    check(udp_receive(port, &came, 0) == NET_NO_ANSWER && uptime() - before <= 1);
    check(udp_receive(port, &came, 3) == NET_NO_ANSWER && uptime() - before >= 3);
    data[2] = 0x5a;
    check(send(port, PEER, ECHO_PORT, (u32)data, 10) == 10);
    data[2] = data[3] = 0;
    check(udp_receive(port, &came, WAIT_LONG) == 3 && data[2] == 0x5a && data[3] == 0);
    check(came.address == PEER && came.port == ECHO_PORT && came.bytes == 10 && came.data == (u32)data);
}

static void check_ping(void)
{
    struct echo echo = { .address = PEER, .sequence = 70000, .bytes = ECHO_MOST, .ticks = 50 };
    check(net_ping(&echo) == 0 && echo.hops_left == 64);
    echo.bytes++;
    check(net_ping(&echo) == NET_TOO_LONG);
}

/* What a process has opened is its own, and is closed when it ends. */
static void check_owners(u32 port)
{
    int status = -1;
    if (fork() == 0)
        exit(udp_open(50) == 50 && send(port, PEER, ECHO_PORT, 0, 0) == NET_REFUSED && udp_close(port) == NET_REFUSED);
    check(wait(&status) > 0 && status == 1);
    check(udp_open(50) == 50 && udp_close(port) == 0);
}

int main(void)
{
    static u8 data[UDP_MOST + 1];
    check_ports();
    int port = udp_open(60000);
    check_pointers(port);
    check_sending(port, (u32)data);
    check_receiving(port, data);
    check_ping();
    check_owners(port);
    print("calls: %u checks, %u wrong\n", checks, wrong);
    return wrong != 0;
}
