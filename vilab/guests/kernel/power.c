/* Switching off: the ACPI power-management register of a PC whose chipset is the 440FX. */

#include "kernel.h"
#include "x86.h"

enum { PM1_CONTROL = 0x604, SLEEP_ENABLE_S5 = 0x2000 };

void power_off(void)
{
    interrupts_off();
    out16(PM1_CONTROL, SLEEP_ENABLE_S5);
    for (;;)
        halt();
}
