"""All kinds of slots, and how often each is drawn."""

from __future__ import annotations

from vilab.vmm.differential_code.changing_code import copy_code, modify, modify_ahead, remap
from vilab.vmm.differential_code.choice import Digits
from vilab.vmm.differential_code.far_transfers import enter_ring, far, interrupt
from vilab.vmm.differential_code.near_transfers import call, jump, jump_if, loop, ret
from vilab.vmm.differential_code.ordinary import (
    absolute,
    by_group,
    by_rm,
    divide,
    floating,
    lea,
    load_immediate,
    load_pointer,
    plain,
    string,
)
from vilab.vmm.differential_code.place import Place, Template
from vilab.vmm.differential_code.segment_registers import inspect, load_segment, load_stack_segment, read_segment
from vilab.vmm.differential_code.stack_and_flags import alter_pointer, flags, stack_again, trap_flag
from vilab.vmm.differential_code.system import halt, string_io, system


def raw(d: Digits, _p: Place) -> bytes:
    """Any bytes at all."""
    return bytes(d.below(256) for _ in range(1 + d.below(7)))


TEMPLATES: tuple[tuple[Template, int], ...] = (
    (plain, 10), (by_rm, 16), (by_group, 14), (load_immediate, 4), (load_pointer, 5), (absolute, 3), (lea, 3),
    (string, 4), (divide, 2), (stack_again, 4), (alter_pointer, 3), (jump_if, 8), (jump, 6), (loop, 4), (call, 6),
    (ret, 4), (flags, 8), (trap_flag, 1), (modify, 5), (modify_ahead, 2), (copy_code, 2), (remap, 3), (load_segment, 5),
    (load_stack_segment, 3), (read_segment, 3), (inspect, 3), (system, 8), (string_io, 1), (interrupt, 3), (far, 4),
    (enter_ring, 6), (floating, 2), (raw, 3), (halt, 1),
)  # fmt: skip
"""(template, weight): how often, among ``KINDS``."""
_BY_KIND: tuple[Template, ...] = tuple(template for template, weight in TEMPLATES for _ in range(weight))
KINDS = len(_BY_KIND)


def kind_template(kind: int) -> Template:
    """The template that a choice's kind stands for."""
    return _BY_KIND[kind % KINDS]
