"""Facts about the instruction set; no state.

The files, in teaching order:

``flags`` ``control``         EFLAGS, CR0, CR4, EFER: bits with their pictures
``descriptors`` ``paging``    segment descriptors, gates, TSS; page-table entries
``privileged`` ``critical``   what traps outside ring 0, and what goes wrong there without a trap
``critical_environment``      the small kernel that the critical instructions are shown in
``opcodes`` ``validity``      the opcode maps as tables, and the holes in them
``modrm`` ``instruction``     how operands are written; the record of one instruction
``decode`` ``text`` ``scan``  bytes to that record; as a person reads it; many at once, fast
``encode``                    what a translator emits
``assemble``                  what a person types (``assemble_tokens`` ``_text`` ``_forms`` ``_match`` ``_encode``)
"""
