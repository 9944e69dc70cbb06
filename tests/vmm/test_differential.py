"""Random programs end the same under translation and hardware assist as on the bare processor.

The programs are kernel and user code with flags, memory, faults, segments, paging, self-modifying code, interrupts and
raw random bytes; ``vilab/vmm/differential.py`` says what is compared and which differences are accepted, and why.
"""

from __future__ import annotations

import pytest

from vilab.vmm.differential import run_differential


@pytest.mark.parametrize(("engine", "cases"), [("bt", 500), ("svm", 500)])
def test_random_programs_end_as_on_the_bare_processor(engine: str, cases: int):
    result = run_differential(cases, seed=1, engine=engine)
    assert result["cases"] == cases
    assert result["instructions"] > 50 * cases
    assert result["same"] > 0.8 * cases
    assert not result["different"], result["reports"][0]
