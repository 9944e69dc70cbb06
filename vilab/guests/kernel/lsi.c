/* Commands for disks, through the adapter: a request goes out, a reply comes back, both by way of memory.

   slots[i], requests[i], sense_data[i]: one command under way each. i is the request's context, so the reply finds it.

     lsi_command                     memory                            adapter
       takes slot i, fills           [requests[i]]
       port 0x40 <- its address ---------------------------------->    fetches it; data goes straight to or from memory
       sleeps
     lsi_interrupt
       port 0x44 -> i           <----------------------------------    it went well
                 -> frame / 2   <--- [reply_frames[n]] <-----------    it did not: status and sense say how
       port 0x44 <- frame       ---------------------------------->    the frame is empty again
       wakes whoever sleeps

   Before lsi_start nobody can sleep: then the reply is polled for. An adapter that does not answer in time, or falls
   into its fault state, is reset once and for all: whatever waits for it fails, and so does all that comes later. */

#ifdef DISK

#include "kernel.h"
#include "lsi.h"
#include "x86.h"

enum { DEPTH = 4, REPLY_FRAMES = DEPTH, SPINS = 1000000, PATIENCE_TICKS = 1000 };
enum slot_state { FREE, UNDER_WAY, OVER };

static struct lsi adapter;
static int is_there, started, gone;

static struct { enum slot_state state; u32 since; struct scsi_command *command; } slots[DEPTH];
static union { struct scsi_io io; u8 bytes[FRAME_BYTES]; } requests[DEPTH] __attribute__((aligned(FRAME_BYTES)));
static union { struct scsi_io_reply io; u8 bytes[FRAME_BYTES]; } reply_frames[REPLY_FRAMES] __attribute__((aligned(8)));
static u8 sense_data[DEPTH][SENSE_BYTES];

u32 lsi_targets(void) { return is_there ? adapter.targets : 0; }
int lsi_has_irq(u32 irq) { return is_there && started && irq == adapter.irq; }

int lsi_find(void)
{
    is_there = lsi_wake_up(&adapter);
    if (!is_there)
        return 0;
    kprintf("lsi: PCI device %u, ports at %x, IRQ %u, firmware %u.%u.%u.%u, %u requests of %u bytes\n", adapter.device,
            adapter.port, adapter.irq, adapter.firmware >> 24, adapter.firmware >> 16 & 0xff,
            adapter.firmware >> 8 & 0xff, adapter.firmware & 0xff, adapter.credits, adapter.frame_bytes);
    for (u32 i = 0; i < REPLY_FRAMES; i++)
        out32(adapter.port + REPLY, physical_address(&reply_frames[i]));
    return 1;
}

void lsi_start(void)
{
    if (!is_there)
        return;
    started = 1;
    out32(adapter.port + INT_MASK, INT_DOORBELL);
    pic_unmask(adapter.irq);
}

static u32 failure_of(u32 adapter_status)
{
    switch (adapter_status) {
    case 0: case SHORTER: return ANSWERED;              /* less data than there was room for: see moved_bytes */
    case NO_SUCH_TARGET: case TARGET_NOT_THERE: return NOBODY_THERE;
    default: return ADAPTER_REFUSED;
    }
}

static void read_reply(u32 slot, const struct scsi_io_reply *reply)
{
    struct scsi_command *command = slots[slot].command;
    command->adapter_status = reply->status & IOC_STATUS_BITS;
    command->failure = failure_of(command->adapter_status);
    command->status = reply->scsi_status;
    command->moved_bytes = reply->moved_bytes;
    command->sense_bytes = reply->sense_count < SENSE_BYTES ? reply->sense_count : SENSE_BYTES;
    memcpy(command->sense, sense_data[slot], command->sense_bytes);
}

static void finish(u32 slot)
{
    slots[slot].state = OVER;
    wake_up(&slots[slot]);
}

static int is_under_way(u32 slot) { return slot < DEPTH && slots[slot].state == UNDER_WAY; }

void lsi_interrupt(void)
{
    for (u32 reply; (reply = in32(adapter.port + REPLY)) != NO_REPLY; ) {
        if (!(reply & REPLY_IS_FRAME)) {
            if (is_under_way(reply)) {
                slots[reply].command->moved_bytes = slots[reply].command->data_bytes;
                finish(reply);
            }
            continue;
        }
        u32 address = reply << 1;
        const struct scsi_io_reply *frame = physical(address);
        if (frame->function == SCSI_IO && is_under_way(frame->context)) {
            read_reply(frame->context, frame);
            finish(frame->context);
        }
        out32(adapter.port + REPLY, address);
    }
}

/* It must not touch memory any more: whoever owned the data is told that the command has failed, and goes on. */
static void give_up(void)
{
    u32 doorbell = in32(adapter.port + DOORBELL);
    if (doorbell >> STATE_SHIFT == STATE_FAULT)
        kprintf("lsi: the adapter has failed, code %x; its disks are gone\n", doorbell & DATA_BITS);
    else
        kprintf("lsi: the adapter does not answer; its disks are gone\n");
    out32(adapter.port + DOORBELL, (u32)FUNCTION_RESET << FUNCTION_SHIFT);
    gone = 1;
    for (u32 i = 0; i < DEPTH; i++)
        if (is_under_way(i)) {
            slots[i].command->failure = ADAPTER_GONE;
            finish(i);
        }
}

/* Each tick of the timer: has one waited too long, or for nothing? */
void lsi_tick(void)
{
    if (!started || gone)
        return;
    for (u32 i = 0; i < DEPTH; i++)
        if (is_under_way(i) && timer_ticks() - slots[i].since >= PATIENCE_TICKS) {
            give_up();
            return;
        }
}

static u32 take_slot(void)
{
    for (;;) {
        for (u32 i = 0; i < DEPTH; i++)
            if (slots[i].state == FREE)
                return i;
        sleep_on(slots);
    }
}

static void fill(u32 slot, const struct scsi_command *command)
{
    u32 flags = ELEMENT | (command->direction == TO_DISK ? ELEMENT_TO_DISK : 0);
    requests[slot].io = (struct scsi_io){
        .target = command->target, .function = SCSI_IO, .cdb_bytes = command->cdb_bytes, .sense_bytes = SENSE_BYTES,
        .context = slot, .control = (u32)command->direction << DIRECTION_SHIFT, .data_bytes = command->data_bytes,
        .sense = physical_address(sense_data[slot]),
        .element = flags << ELEMENT_FLAGS_SHIFT | command->data_bytes, .element_address = command->data,
    };
    memcpy(requests[slot].io.cdb, command->cdb, command->cdb_bytes);
}

static void wait(u32 slot)
{
    for (u32 spins = 0; slots[slot].state == UNDER_WAY; spins++)
        if (started)
            sleep_on(&slots[slot]);
        else if (spins < SPINS)
            lsi_interrupt();
        else
            give_up();
}

void lsi_command(struct scsi_command *command)
{
    u32 flags = critical_enter();
    u32 slot = take_slot();
    command->failure = command->adapter_status = command->status = command->moved_bytes = command->sense_bytes = 0;
    if (!is_there || gone) {
        command->failure = ADAPTER_GONE;
    } else {
        fill(slot, command);
        slots[slot].command = command;
        slots[slot].since = timer_ticks();
        slots[slot].state = UNDER_WAY;
        out32(adapter.port + REQUEST, physical_address(&requests[slot]));
        wait(slot);
        slots[slot].state = FREE;
        wake_up(slots);
    }
    critical_leave(flags);
}

#endif
