/* A kernel that needs the PC of the years after the 8259A: MP tables, local APIC, I/O APIC.

   It says what it finds, then lets each kind of interrupt come a few times and says how many came:

     timer of the local APIC ─────────────────────────> vector 20
     PIT ── IRQ 0 ── I/O APIC, pin 2 ─────────────────> vector 22
     COM1 ── IRQ 4 ── I/O APIC, pin 4 ────────────────> vector 24
     a message to itself, held back by the priority ──> vector 30 */

#include "apic.h"

enum { TICKS = 10, TIMER_COUNT = 1000000, PIT_CONTROL = 0x43, PIT_CHANNEL_0 = 0x40, PIT_PERIODIC = 0x34,
       PIT_RELOAD = 11932, CODE = 8, GATE = 0x8e00, PM1_CONTROL = 0x604, OFF = 0x2000 };

extern const u32 entries[];
static u32 idt[512];
static volatile u32 timer, pit, self, spurious;

void interrupt(u32 vector)
{
    if (vector == VECTOR_TIMER)
        timer++;
    else if (vector == VECTOR_PIT)
        pit++;
    else if (vector == VECTOR_SELF)
        self++;
    else if (vector == VECTOR_UART)
        serial_interrupt();
    else
        spurious++;
    if (vector != VECTOR_SPURIOUS)
        lapic_end_of_interrupt();
}

static void load_idt(void)
{
    for (const u32 *entry = entries; entry[0]; entry += 2) {
        idt[2 * entry[0]] = CODE << 16 | (entry[1] & 0xffff);
        idt[2 * entry[0] + 1] = (entry[1] & 0xffff0000) | GATE;
    }
    struct { u16 limit; u32 base; } __attribute__((packed)) pointer = { sizeof idt - 1, (u32)idt };
    asm volatile("lidt %0" : : "m"(pointer));
}

static void power_off(void)
{
    interrupts_off();
    out16(PM1_CONTROL, OFF);
    for (;;)
        halt();
}

static void say(const char *what, u32 number)
{
    print(what);
    print_number(number);
    print("\n");
}

static void wait_for(volatile u32 *count, u32 wanted)
{
    interrupts_off();
    while (*count < wanted) {
        interrupts_on_and_halt();
        interrupts_off();
    }
}

static void say_what_there_is(const struct machine *machine)
{
    say("processors: ", machine->processors);
    print("local APIC at ");
    print_hex(machine->lapic);
    print(", I/O APIC at ");
    print_hex(machine->ioapic);
    say("\nlocal APIC number ", lapic_id());
    say("version ", lapic_version());
    say("pins of the I/O APIC: ", ioapic_pins());
    say("IRQ 0 goes to pin ", machine->pin_of_irq[0]);
    say("IRQ 4 goes to pin ", machine->pin_of_irq[4]);
}

void main(void)
{
    static struct machine machine;
    if (!mp_find(&machine)) {
        print("no MP tables\n");
        power_off();
    }
    out8(0x21, 0xff);                   /* the PICs keep quiet */
    out8(0xa1, 0xff);
    load_idt();
    lapic_init(machine.lapic);
    ioapic_init(machine.ioapic);
    say_what_there_is(&machine);

    lapic_timer(TIMER_COUNT);
    wait_for(&timer, TICKS);
    lapic_timer(0);
    print("the local APIC's timer has come\n");

    ioapic_route(machine.pin_of_irq[0], VECTOR_PIT, lapic_id());
    out8(PIT_CONTROL, PIT_PERIODIC);
    out8(PIT_CHANNEL_0, PIT_RELOAD & 0xff);
    out8(PIT_CHANNEL_0, PIT_RELOAD >> 8);
    wait_for(&pit, TICKS);
    ioapic_mask(machine.pin_of_irq[0]);
    print("the PIT has come through the I/O APIC\n");

    lapic_priority(VECTOR_SELF >> 4);
    lapic_send_to_self(VECTOR_SELF);
    interrupts_on();
    for (u32 i = 0; i < 100000; i++)
        lapic_id();
    say("sent to itself, held back: ", self);
    lapic_priority(0);
    wait_for(&self, 1);
    say("let through: ", self);

    ioapic_route(machine.pin_of_irq[4], VECTOR_UART, lapic_id());
    serial_send_by_interrupt("this line was sent by interrupts\n");
    while (!serial_done())
        interrupts_on_and_halt();
    interrupts_off();
    ioapic_mask(machine.pin_of_irq[4]);
    say("spurious: ", spurious);
    power_off();
}
