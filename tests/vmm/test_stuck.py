"""A handler that faults before its first instruction: nothing is executed any more, and the run ends all the same."""

from __future__ import annotations

import pytest

from tests.vmm.images import MEMORY_BYTES, code_image
from vilab.vmm.vm import VirtualMachine

TABLES = (
    "c70500002000 67102000"  # the first 4 MB, one to one
    "31c9 89c8 c1e00c 83c867 89048d00102000 41 81f900040000 72e8"
    "b800002000 0f22d8 0f20c0 0d00000080 0f22c0"
)
GATE_14 = "c70570001500 0000{code}00 c70574001500 008e8000"
IDTR = "66c70500081500ff07 c70502081500 00001500 0f011d00081500"
FAULT = "bc00004000 a100008000"  # a stack, then a page that is not there


@pytest.mark.parametrize("engine", ["bare", "trap", "bt", "svm"])
def test_handlers_that_fault_without_end(engine: str):
    image = code_image(TABLES + GATE_14.format(code=f"{image_cs():02x}") + IDTR + FAULT)
    vm = VirtualMachine(image, engine, MEMORY_BYTES)
    ended = vm.engine.run()
    assert ended is not None
    assert ended.reason == "stuck"
    assert ended.sentence.startswith("The guest's exception handlers fault without end at 0080")


def image_cs() -> int:
    return code_image("90").cs
