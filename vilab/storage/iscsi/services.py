"""Task management and text, as a target answers them in the full feature phase."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vilab.storage.iscsi import keys
from vilab.storage.iscsi.keys import KEYS, NOT_UNDERSTOOD, Agreement
from vilab.storage.iscsi.layout import TaskCode, TaskResult
from vilab.storage.iscsi.transfer import lun_of
from vilab.storage.scsi.state import Nexus
from vilab.storage.scsi.target import Target, TaskAnswer, TaskFunction

if TYPE_CHECKING:
    from vilab.storage.iscsi.target import IscsiTarget

FUNCTIONS: dict[int, TaskFunction] = {
    TaskCode.ABORT_TASK: TaskFunction.ABORT_TASK,
    TaskCode.ABORT_TASK_SET: TaskFunction.ABORT_TASK_SET,
    TaskCode.CLEAR_TASK_SET: TaskFunction.CLEAR_TASK_SET,
    TaskCode.LOGICAL_UNIT_RESET: TaskFunction.LOGICAL_UNIT_RESET,
    TaskCode.TARGET_WARM_RESET: TaskFunction.TARGET_RESET,
    TaskCode.TARGET_COLD_RESET: TaskFunction.TARGET_RESET,
    TaskCode.QUERY_TASK: TaskFunction.QUERY_TASK,
    TaskCode.NEXUS_RESET: TaskFunction.NEXUS_RESET,
}
RESULTS = {
    TaskAnswer.COMPLETE: TaskResult.COMPLETE,
    TaskAnswer.SUCCEEDED: TaskResult.SUCCEEDED,
    TaskAnswer.NO_TASK: TaskResult.NO_TASK,
    TaskAnswer.NO_UNIT: TaskResult.NO_UNIT,
}


def manage(target: Target, nexus: Nexus | None, code: int, lun: bytes, tag: int) -> TaskResult:
    """Carry a function out; ``lun`` as in the PDU. A cold reset is a warm one that also ends all sessions."""
    if code == TaskCode.TASK_REASSIGN:
        return TaskResult.REASSIGN_NOT_SUPPORTED
    if code not in FUNCTIONS or nexus is None:
        return TaskResult.NOT_SUPPORTED
    return RESULTS[target.manage(nexus, FUNCTIONS[code], lun_of(lun), tag)]


def answer_key(node: IscsiTarget, agreed: Agreement, discovery: bool, name: str, value: str) -> list[tuple[str, str]]:
    """SendTargets: ``All`` only while discovering, else this one (RFC 7143, appendix C); how much comes in one PDU."""
    if name == "SendTargets":
        if (value == "All" and discovery) or value.lower() in ("", node.name.lower()):
            return node.addresses()
        return [(name, keys.REJECT)] if value == "All" else []
    if name == "MaxRecvDataSegmentLength":
        keys.answer(KEYS[name], value, agreed, agreed)
        return []
    return [(name, keys.REJECT if name in KEYS else NOT_UNDERSTOOD)]
