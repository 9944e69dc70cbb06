/* IP packets: is it one, is it for us, whom does it belong to; and the other way: where does it go, what is first? */

#ifdef NETWORK

#include "kernel.h"
#include "syscall_numbers.h"
#include "wire.h"
#include "x86.h"

enum { VERSION_WORDS = 0x45, HOPS = 64, NEVER_CUT = 0x4000, MORE_OR_WHERE = 0x3fff, PATIENCE_TICKS = 300 };

static u32 last_id;

u32 checksum_add(u32 sum, const u8 *data, u32 bytes)
{
    for (; bytes >= 2; bytes -= 2, data += 2)
        sum += get16(data);
    return bytes ? sum + (data[0] << 8) : sum;
}

u32 checksum_of(u32 sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return ~sum & 0xffff;
}

enum outcome ip_receive(const u8 *data, u32 bytes, const u8 *source)
{
    const struct ip_header *header = (const void *)data;
    if (bytes < sizeof *header || header->version_words >> 4 != 4)
        return IP_BAD;
    u32 header_bytes = (header->version_words & 15) * 4, length = get16(header->length);
    if (header_bytes < sizeof *header || length < header_bytes || length > bytes ||     /* the rest is padding */
        checksum_of(checksum_add(0, data, header_bytes)) || !is_host(get32(header->from)))
        return IP_BAD;
    if (get32(header->to) != own_ip)
        return IP_NOT_FOR_US;
    if (get16(header->fragment) & MORE_OR_WHERE)
        return IP_FRAGMENT;
    switch (header->protocol) {
    case PROTOCOL_ICMP: return icmp_receive(header, data + header_bytes, length - header_bytes, source);
    case PROTOCOL_UDP: return udp_receive(header, data + header_bytes, length - header_bytes, source);
    default: return IP_PROTOCOL;
    }
}

int ip_way_to(u32 ip, u8 *address)
{
    if (!pcnet_address())
        return NET_NO_CARD;
    u32 next = is_own_net(ip) ? ip : gateway_ip;
    if (!is_host(ip) || !is_host(next) || !is_own_net(next))
        return NET_NO_WAY;
    return arp_find(next, address) ? 0 : NET_NOBODY;
}

u8 *ip_begin(void)
{
    u8 *data = ethernet_begin();
    return data ? data + sizeof(struct ip_header) : NULL;
}

u8 *ip_begin_patiently(void)
{
    u32 until = network_until(PATIENCE_TICKS);
    u8 *data;
    while (!(data = ip_begin()))
        if (!network_sleep(until))
            return NULL;
    return data;
}

/* The data is where ip_begin has said; the header goes in front of it. */
void ip_send(const u8 *address, u32 to, u32 protocol, u32 data_bytes)
{
    struct ip_header *header = (void *)ethernet_begin();
    header->version_words = VERSION_WORDS;
    header->service = 0;
    put16(header->length, sizeof *header + data_bytes);
    put16(header->id, ++last_id);
    put16(header->fragment, NEVER_CUT);
    header->hops_left = HOPS;
    header->protocol = protocol;
    put16(header->checksum, 0);
    put32(header->from, own_ip);
    put32(header->to, to);
    put16(header->checksum, checksum_of(checksum_add(0, (const u8 *)header, sizeof *header)));
    ethernet_send(address, TYPE_IP, sizeof *header + data_bytes);
}

#endif
