/* What frames look like on the wire. Everything is bytes: numbers have their highest byte first, nothing is aligned.

   Ethernet      0               6               12     14                          60 .. 1514
                +---------------+---------------+------+------------------------------+
                | destination   | source        | type | data, zeros up to 60         |   0800 IP, 0806 ARP
                +---------------+---------------+------+------------------------------+

   ARP           0    2    4   5   6    8           14        18            24        28
                +----+----+---+---+----+-----------+---------+-------------+---------+
                |0001|0800| 6 | 4 | op | sender    | its IP  | target      | its IP  |   1 request, 2 reply
                +----+----+---+---+----+-----------+---------+-------------+---------+   (RFC 826)

   IP            0     1   2      4    6        8   9        10       12       16          20
                +-----+---+------+----+--------+---+--------+--------+--------+-----------+---------+-----
                |4 len|   |length| id |fragment|TTL|protocol|checksum| source |destination| options | data
                +-----+---+------+----+--------+---+--------+--------+--------+-----------+---------+-----
                 len: of the header, in words of 4 bytes     fragment: 4000 never cut, 2000 more, 1fff where
                 protocol: 1 ICMP, 17 UDP    (RFC 791)

   ICMP echo     0    1    2        4          6          8
                +----+----+--------+----------+----------+------
                |type|code|checksum|identifier|sequence  | data      8 request, 0 reply
                +----+----+--------+----------+----------+------     3 code 3: no such port (RFC 792)

   UDP           0      2           4      6        8
                +------+-----------+------+--------+------
                |source|destination|length|checksum| data            (RFC 768)
                +------+-----------+------+--------+------ */

#ifndef WIRE_H
#define WIRE_H

#include "types.h"

enum { ADDRESS_BYTES = 6, FRAME_LEAST = 60, FRAME_MOST = 1514, PACKET_MOST = 1500 };
enum { TYPE_IP = 0x0800, TYPE_ARP = 0x0806, PROTOCOL_ICMP = 1, PROTOCOL_UDP = 17 };

struct ethernet_header { u8 to[ADDRESS_BYTES], from[ADDRESS_BYTES], type[2]; };

struct arp_packet {
    u8 hardware[2], protocol[2], hardware_bytes, protocol_bytes, operation[2];
    u8 sender[ADDRESS_BYTES], sender_ip[4], target[ADDRESS_BYTES], target_ip[4];
};

struct ip_header {
    u8 version_words, service, length[2], id[2], fragment[2], hops_left, protocol, checksum[2], from[4], to[4];
};
struct icmp_header { u8 type, code, checksum[2], identifier[2], sequence[2]; };
struct udp_header { u8 from[2], to[2], length[2], checksum[2]; };

static inline u32 get16(const u8 *at) { return at[0] << 8 | at[1]; }
static inline u32 get32(const u8 *at) { return (u32)at[0] << 24 | at[1] << 16 | at[2] << 8 | at[3]; }

static inline void put16(u8 *at, u32 value)
{
    at[0] = value >> 8;
    at[1] = value;
}

static inline void put32(u8 *at, u32 value)
{
    put16(at, value >> 16);
    put16(at + 2, value);
}

/* ip.c: the internet checksum: all 16-bit numbers added, what overflows comes in again below, and the complement of it.
   Over data that holds its own checksum it is 0. */
u32 checksum_add(u32 sum, const u8 *data, u32 bytes);   /* all pieces but the last have an even length */
u32 checksum_of(u32 sum);

#endif
