/* The serial line COM1, a 16550.

   offset  read                 write
   0       received byte        byte to send
   1       interrupt enable     interrupt enable: bit 0 = a byte has come
   2       interrupt identity   FIFO control: left as it is, since switching the FIFO loses what has already come
   3       line control         line control: 8 bits, no parity = 3, bit 7 shows the divisor at 0 and 1
   4       modem control        modem control: 1 DTR, 2 RTS, 8 lets interrupts out
   5       line status: bit 0 = a byte has come, bit 5 = ready to send

   Sending waits for the line; receiving goes by interrupt into a ring buffer. A full buffer closes the tap: the bytes
   stay in the UART until a reader has made room. */

#include "kernel.h"
#include "x86.h"

enum {
    COM1 = 0x3f8,
    DATA = COM1, ENABLE = COM1 + 1, LINE_CONTROL = COM1 + 3, MODEM = COM1 + 4, STATUS = COM1 + 5,
    STATUS_RECEIVED = 0x01, STATUS_READY = 0x20,
    ENABLE_RECEIVED = 0x01,
    RING_BYTES = 256,
};

static char ring[RING_BYTES];
static u32 written, taken;      /* bytes ever; ring[written % RING_BYTES] is the next free one */

void uart_init(void)
{
    out8(ENABLE, 0);
    out8(LINE_CONTROL, 0x80);
    out8(DATA, 1);              /* divisor 1: 115200 bits a second */
    out8(ENABLE, 0);
    out8(LINE_CONTROL, 0x03);
    out8(MODEM, 0x0b);
    out8(ENABLE, ENABLE_RECEIVED);
}

#ifdef PARA
static char collected[RING_BYTES];
static u32 collected_bytes;

void uart_flush(void)
{
    hypercall(HYPERCALL_CONSOLE, (u32)collected, collected_bytes);
    collected_bytes = 0;
}

void uart_put(char c)
{
    collected[collected_bytes++] = c;
    if (collected_bytes == sizeof collected)
        uart_flush();
}
#else
void uart_put(char c)
{
    while (!(in8(STATUS) & STATUS_READY))
        ;
    out8(DATA, c);
}
#endif

void uart_interrupt(void)
{
    while (in8(STATUS) & STATUS_RECEIVED) {
        if (written - taken == RING_BYTES) {
            out8(ENABLE, 0);
            break;
        }
        ring[written++ % RING_BYTES] = in8(DATA);
    }
    wake_up(ring);
}

u32 uart_read(char *to, u32 bytes)
{
    u32 done = 0;
    u32 flags = critical_enter();
    while (written == taken)
        sleep_on(ring);
    while (done < bytes && taken != written)
        to[done++] = ring[taken++ % RING_BYTES];
    out8(ENABLE, ENABLE_RECEIVED);
    critical_leave(flags);
    return done;
}
