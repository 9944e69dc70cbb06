"""The bare metal: one emulated x86 processor and its machine memory.

``memory``     machine frames and who has them
``context``    where each register lies in the processor's saved context, found by provocation
``intercept``  how RDTSC can be made to exit without a VMM
``fpu``        floating-point and SSE registers as one value
``native``     the block hook that counts executed code and preempts, compiled to machine code
``cpu``        the processor, as typed exits; the only file that knows Unicorn
"""
