"""Which options an engine takes, as a person gives them.

::

    option        values                        for
    placement     packed, mirrored              bt: where translations lie
    paging        nested, shadow                svm: who walks the guest's page tables
    trace         all, lazy, prevalidate        whoever keeps shadow page tables: bt, para, svm with shadow paging
"""

from __future__ import annotations

from typing import Any

from vilab.errors import AdminError

PLACEMENTS = ("packed", "mirrored")
PAGINGS = ("nested", "shadow")
TRACES = ("all", "lazy", "prevalidate")


def engine_options(
    engine: str, placement: str | None = None, paging: str | None = None, trace: str | None = None
) -> dict[str, Any]:
    """The engine's keywords; what was not asked for is left to the engine. Raises ``AdminError``."""
    if placement is not None and engine != "bt":
        raise AdminError(f"--placement is for --engine bt: {engine} translates nothing that could lie somewhere.")
    if paging is not None and engine != "svm":
        raise AdminError(f"--paging is for --engine svm: {_paging_of(engine)}.")
    if trace is not None and engine == "svm" and paging != "shadow":
        raise AdminError("--trace is for shadow page tables, which --engine svm has with --paging shadow.")
    if trace is not None and engine not in ("bt", "para", "svm"):
        raise AdminError(
            f"--trace is for --engine bt, para, or svm with --paging shadow; {engine} has no choice of traces."
        )
    chosen = {"placement": placement, "paging": paging, "trace": trace}
    return {name: value for name, value in chosen.items() if value is not None}


def usual_for(image_kind: str, engine: str, given: dict[str, Any]) -> dict[str, Any]:
    """What was asked for, and the quicker ways of translation where the image is a stock kernel.

    Everything else is translated as in the paper: short units, and all page tables traced.
    """
    if engine != "bt" or image_kind != "linux":
        return given
    usual: dict[str, Any] = {"trace": "prevalidate"}
    if given.get("placement", "packed") == "packed":
        usual |= {"superblocks": True, "ahead": 4}
    return usual | given


def _paging_of(engine: str) -> str:
    if engine == "bare":
        return "bare has no VMM, and the guest's page tables are the processor's"
    return f"{engine} always has shadow page tables"
