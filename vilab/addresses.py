"""Kinds of addresses are kinds of types, so that mypy refuses one where another is due.

::

    gva  --guest page tables-->  gpa  --pmap-->  mpa
    what the guest's             what the guest  where the bytes
    code uses                    calls physical  really are
    vpn = gva >> 12              ppn = gpa >> 12 mpn = mpa >> 12
"""

from typing import NewType

Gva = NewType("Gva", int)
"""Guest virtual address: linear, after segmentation; 0 to 2**32 - 1."""
Gpa = NewType("Gpa", int)
"""Guest physical address."""
Mpa = NewType("Mpa", int)
"""Machine physical address: an offset into machine memory."""
Vpn = NewType("Vpn", int)
Ppn = NewType("Ppn", int)
Mpn = NewType("Mpn", int)

PAGE_SHIFT = 12
PAGE_BYTES = 1 << PAGE_SHIFT
PAGE_OFFSET_MASK = PAGE_BYTES - 1
ADDRESS_MASK = 0xFFFF_FFFF
