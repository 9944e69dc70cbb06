"""What a machine is beside the content of its memory: the records that are sent when it stands still."""

from __future__ import annotations

from typing import Any

from vilab.host.hosted_vm import HostedVm


def without_memory(digest: dict[str, bytes]) -> dict[str, bytes]:
    """Of what there is to compare while pages are still to come."""
    return {name: found for name, found in digest.items() if name not in ("memory", "page states")}


def state_of(hosted: HostedVm) -> dict[str, Any]:
    """Everything of a machine beside the content of its memory, by name."""
    client = hosted.client
    return {
        "processor and devices": hosted.vm.save_state(memory=False), "page states": client.pmap.save_state(),
        "balloon": client.balloon.save_state(),
    }  # fmt: skip
