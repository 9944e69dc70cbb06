/* Fusion-MPT, the interface of LSI Logic's 53C1030 and its successors: registers and messages.

   Registers, 32 bits each, at the first base address (I/O ports):

   0x00 doorbell     read: state 31 .. 28, data 15 .. 0       write: function 31 .. 24, dwords 23 .. 16
   0x30 status       bit 0: the doorbell wants to be read, bit 3: a reply waits, bit 31: the doorbell is busy
   0x34 mask         bits 0 and 3: no interrupt for these
   0x40 request      write the address of a request: the adapter fetches it and carries it out
   0x44 reply        read: the next reply             write: address of an empty frame for one

   A reply that is all ones: there is none. Bit 31 clear: it went well, and this is the request's own context. Bit 31
   set: half the address of a frame that says what happened. (MPI specification 1.2) */

#ifndef LSI_H
#define LSI_H

#include "types.h"

enum { DOORBELL = 0x00, INT_STATUS = 0x30, INT_MASK = 0x34, REQUEST = 0x40, REPLY = 0x44 };
enum { INT_DOORBELL = 1 << 0, INT_REPLY = 1 << 3 };
#define INT_DOORBELL_BUSY 0x80000000u
#define NO_REPLY          0xffffffffu
#define REPLY_IS_FRAME    0x80000000u

enum { STATE_SHIFT = 28, STATE_READY = 1, STATE_OPERATIONAL = 2, STATE_FAULT = 4, DATA_BITS = 0xffff };
enum { FUNCTION_SHIFT = 24, FUNCTION_RESET = 0x40, FUNCTION_HANDSHAKE = 0x42, DWORDS_SHIFT = 16 };

enum { SCSI_IO = 0x00, IOC_INIT = 0x02, IOC_FACTS = 0x03, PORT_ENABLE = 0x06 };

enum { FRAME_BYTES = 128 };

/* Both sides begin like this. length is the reply's, in dwords. */
struct message { u8 a, b, length, function; u8 c, d, port, flags; u32 context; };
struct answer { struct message head; u16 reserved, status; u32 log; };

struct ioc_facts {
    struct answer head;
    u8 chain_depth, who, block_dwords, flags;
    u16 reply_depth, frame_dwords, reserved, product;
    u32 frames_high;
    u16 credits;
    u8 ports, events;
    u32 sense_high;
    u16 reply_bytes;
    u8 targets, buses;
    u32 image_bytes, reserved_2, firmware;
};

enum { WHO_HOST_DRIVER = 4 };
struct ioc_init {
    u8 who, reserved, chain, function;
    u8 flags, targets, buses, message_flags;
    u32 context;
    u16 reply_bytes, reserved_2;
    u32 frames_high, sense_high;                        /* upper halves of addresses: ours have none */
};

/* SCSI IO. The list of where the data is has one element: all of it lies in one piece.

    31            24 23                    0
   +----------------+-----------------------+
   |     flags      |        length         |     flags: 80 last, 40 end of buffer, 10 simple, 04 from memory to the
   +----------------+-----------------------+            disk, 01 end of list
   |           physical address             |
   +----------------------------------------+ */
enum { ELEMENT = 0xd1, ELEMENT_TO_DISK = 0x04, ELEMENT_FLAGS_SHIFT = 24, DIRECTION_SHIFT = 24 };
struct scsi_io {
    u8 target, bus, chain, function;
    u8 cdb_bytes, sense_bytes, reserved, flags;
    u32 context;
    u8 lun[8];
    u32 control;                                        /* bits 25, 24: 1 to the disk, 2 from it */
    u8 cdb[16];
    u32 data_bytes, sense;
    u32 element, element_address;
};

enum { IOC_STATUS_BITS = 0x7fff, NO_SUCH_TARGET = 0x42, TARGET_NOT_THERE = 0x43, SHORTER = 0x45 };
struct scsi_io_reply {
    u8 target, bus, length, function;
    u8 cdb_bytes, sense_bytes, reserved, flags;
    u32 context;
    u8 scsi_status, scsi_state;
    u16 status;
    u32 log, moved_bytes, sense_count;
};

#endif
