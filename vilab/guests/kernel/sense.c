/* What a disk says when it refuses, in words. Sense data comes in two formats (SPC-4, 4.5):

   byte 0     70, 71: fixed                     72, 73: descriptors
   key        byte 2, bits 3 .. 0               byte 1, bits 3 .. 0          what kind of trouble
   code       byte 12                           byte 2                       which one
   qualifier  byte 13                           byte 3                       and more exactly */

#ifdef DISK

#include "kernel.h"

enum { RESPONSE_BITS = 0x7f, DESCRIPTORS = 0x72, KEY_BITS = 0x0f, ANY = 0x100 };

static const char *const key_names[KEY_BITS + 1] = {
    "NO SENSE", "RECOVERED ERROR", "NOT READY", "MEDIUM ERROR", "HARDWARE ERROR", "ILLEGAL REQUEST", "UNIT ATTENTION",
    "DATA PROTECT", "BLANK CHECK", "VENDOR SPECIFIC", "COPY ABORTED", "ABORTED COMMAND", "RESERVED", "VOLUME OVERFLOW",
    "MISCOMPARE", "COMPLETED",
};

static const struct { u32 code, qualifier; const char *name; } names[] = {
    { 0x04, ANY, "not ready" },
    { 0x0c, ANY, "write error" },
    { 0x11, ANY, "unrecovered read error" },
    { 0x20, ANY, "invalid command" },
    { 0x21, ANY, "sector out of range" },
    { 0x24, ANY, "invalid field in the CDB" },
    { 0x25, ANY, "no such logical unit" },
    { 0x27, ANY, "write protected" },
    { 0x29, 0x01, "power on" },
    { 0x29, ANY, "power on or reset" },
    { 0x2a, ANY, "parameters changed" },
    { 0x3a, ANY, "no medium" },
    { 0x3f, ANY, "the target has changed" },
    { 0x44, ANY, "internal failure" },
};

struct sense sense_of(const struct scsi_command *command)
{
    struct sense none = { 0, 0, 0 };
    const u8 *bytes = command->sense;
    if (command->sense_bytes < 4)
        return none;
    if ((bytes[0] & RESPONSE_BITS) >= DESCRIPTORS)
        return (struct sense){ bytes[1] & KEY_BITS, bytes[2], bytes[3] };
    if (command->sense_bytes < 14)
        return (struct sense){ bytes[2] & KEY_BITS, 0, 0 };
    return (struct sense){ bytes[2] & KEY_BITS, bytes[12], bytes[13] };
}

const char *sense_key_name(u32 key) { return key_names[key & KEY_BITS]; }

const char *sense_name(u32 code, u32 qualifier)
{
    for (u32 i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].code == code && (names[i].qualifier == ANY || names[i].qualifier == qualifier))
            return names[i].name;
    return "";
}

#endif
