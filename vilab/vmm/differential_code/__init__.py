"""Random programs as values: a list of choices, each of which becomes a few instructions.

``choice``               a kind and a number, and the digits that are drawn from it
``place``                where a slot stands; ``operands``: registers, memory, immediates
``ordinary``             arithmetic, moves, strings, floating point
``stack_and_flags``      ESP at delicate places, EFLAGS by way of the stack
``near_transfers``       jumps, loops, calls and returns
``changing_code``        memory that is code
``segment_registers``    loaded, read and asked about; ``far_transfers``: to other segments and rings
``system``               control and table registers, ports, HLT
``templates``            all of them, and how often each is drawn
``program``              choices laid out as a kernel's and a user's code
"""
