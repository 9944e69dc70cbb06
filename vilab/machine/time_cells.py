"""The cells in which virtual time and the exits that machine code deals with are kept.

::

    cell  name        meaning
    0     ON          0: everything goes to Python; 1: marked INT3; 2: RDTSC, without a VMCB; 3: see
                      ``native_callouts``; 4: RDTSC, #VMEXIT
    1     OFFSET_NS   virtual time beside executed code (the engine's ``offset_ns``)
    2     COST_NS     what one read costs
    3     TSC_PER_US  how fast the counter counts
    4     READS       how many were dealt with here
    5     TC_BASE     linear address of the translation cache,
    6     TC_SPAN     its length in bytes,
    7     TC_MARKS    and the host address of one mark a byte: ``READS_TIME`` at an INT3 that stands for RDTSC
    8     CONTEXT     host address of the buffer for the processor's context
    9     CELLS       host address of the block hook's cells
    10    PYTHON      host address of the callback for everything else; it gets these cells
    11    MORE_AT     host address of the cells of ``native_callouts``, if that is the callback

They are ``Cpu.time``. Without native code ON means nothing, and OFFSET_NS is a number as any.
"""

from __future__ import annotations

ON, OFFSET_NS, COST_NS, TSC_PER_US, READS, TC_BASE, TC_SPAN, TC_MARKS, CONTEXT, CELLS_AT, PYTHON, MORE_AT = range(12)
CELLS = 12
OF_CACHE, OF_PROCESSOR, OF_MIRRORS, OF_MONITOR = 1, 2, 3, 4
READS_TIME = 2
