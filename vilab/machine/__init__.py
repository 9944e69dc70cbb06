"""The bare metal: one emulated x86 processor and its machine memory. No other room knows Unicorn.

``memory``         machine frames and who has them
``context``        where each register lies in the processor's saved context, found by provocation
``registers``      the registers, as a record with those places; ``fpu``: floating point and SSE as one value
``intercept``      how RDTSC can be made to exit without a VMM
``exits``          why the processor stops, and what it asks in the middle of a run
``cpu``            the processor: running, and its exceptions; the its parts are in the next four
``executed_bytes`` time as bytes of code, and limits of it; ``counted_instructions``: one by one, ``flag_repairs``
``access_hooks``   ports, CPUID and registers of devices, in the middle of a block
``single_steps``   one instruction at a time; ``prefixes``
``code_memory``    executed code whose bytes change
``native``         the block hook that counts executed code and preempts, compiled to machine code; ``native_blocks``
``time_cells``     where virtual time is kept, and what the following work on
``native_exits``   exits that machine code deals with: ``native_time``, ``native_callouts``, ``native_fragments``
``native_parts``   what those have in common
``native_scan``    what can be reached in a page of code; ``native_mmio``: loads from a register in memory
``access_place``   which instruction made an access, in the middle of a block; ``llvm``: the compiler
"""
