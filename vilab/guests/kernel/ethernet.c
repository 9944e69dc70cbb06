/* One frame in, one frame out. A frame is looked at where the card has put it, and made where the card fetches it. */

#ifdef NETWORK

#include "kernel.h"
#include "wire.h"
#include "x86.h"

enum { GROUP_BIT = 1 };

static u8 *making;

static int same_address(const u8 *a, const u8 *b)
{
    u32 different = 0;
    for (u32 i = 0; i < ADDRESS_BYTES; i++)
        different |= a[i] ^ b[i];
    return !different;
}

/* The card lets frames for us and frames for all pass; a switch may send more than that. */
static enum outcome look_at(const u8 *frame, u32 bytes)
{
    const struct ethernet_header *header = (const void *)frame;
    if (bytes < sizeof *header || bytes > FRAME_MOST || header->from[0] & GROUP_BIT)
        return FRAME_BAD;
    const u8 *data = frame + sizeof *header;
    bytes -= sizeof *header;
    switch (get16(header->type)) {
    case TYPE_ARP: return arp_receive(data, bytes);
    case TYPE_IP:
        return same_address(header->to, pcnet_address()) ? ip_receive(data, bytes, header->from) : IP_NOT_FOR_US;
    default: return TYPE_UNKNOWN;
    }
}

void ethernet_receive(const u8 *frame, u32 bytes) { net_counts.outcome[look_at(frame, bytes)]++; }

u8 *ethernet_begin(void)
{
    making = pcnet_frame();
    return making ? making + sizeof(struct ethernet_header) : NULL;
}

void ethernet_send(const u8 *to, u32 type, u32 data_bytes)
{
    struct ethernet_header *header = (void *)making;
    memcpy(header->to, to, ADDRESS_BYTES);
    memcpy(header->from, pcnet_address(), ADDRESS_BYTES);
    put16(header->type, type);
    u32 bytes = sizeof *header + data_bytes;
    if (bytes < FRAME_LEAST) {
        memset(making + bytes, 0, FRAME_LEAST - bytes);         /* never what an older frame has left there */
        bytes = FRAME_LEAST;
    }
    pcnet_send(bytes);
}

#endif
