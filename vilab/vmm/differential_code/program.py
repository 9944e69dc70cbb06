"""A list of choices as a program: each becomes one *slot* of a few instructions.

::

    kernel choices ──> slot slot slot ... cli; hlt            slots jump to one another: templates are called twice,
    user choices   ──> slot slot ... int 80h                  for their length first, then with all addresses known
"""

from __future__ import annotations

from collections.abc import Sequence

from vilab.vmm.differential_code.choice import Choice, Digits
from vilab.vmm.differential_code.place import Place
from vilab.vmm.differential_code.templates import kind_template

KERNEL_END = b"\xfa\xf4\xeb\xfc"  # cli; hlt; jmp back
USER_END = b"\xcd\x80\xeb\xfc"


class Program:
    """Both areas, laid out. ``kernel`` and ``user`` are (address, bytes); ``*_slots`` the addresses of slots."""

    def __init__(self, kernel: Sequence[Choice], user: Sequence[Choice], kernel_at: int, user_at: int) -> None:
        inside, outside = Place(user=False), Place(user=True)
        lengths = [
            [len(_slot(choice, place)) for choice in area] for area, place in ((kernel, inside), (user, outside))
        ]
        for place, sizes, at in ((inside, lengths[0], kernel_at), (outside, lengths[1], user_at)):
            place.slots = [at]
            for size in sizes:
                place.slots.append(place.slots[-1] + size)
        inside.other, outside.other = outside.slots, inside.slots
        self.kernel_slots, self.user_slots = inside.slots, outside.slots
        self.kernel = (kernel_at, _lay_out(kernel, inside) + KERNEL_END)
        self.user = (user_at, _lay_out(user, outside) + USER_END)


def _slot(choice: Choice, place: Place) -> bytes:
    return kind_template(choice[0])(Digits(choice[1]), place)


def _lay_out(area: Sequence[Choice], place: Place) -> bytes:
    out = bytearray()
    for index, choice in enumerate(area):
        place.index = index
        out += _slot(choice, place)
    return bytes(out)
