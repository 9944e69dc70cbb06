"""Critical instructions that run in silence: the answer due, the answer given."""

from __future__ import annotations

import msgspec
import pytest

from tests.view.sample_runs import CPU, GUEST, Writer, dropped_popf, silent_pushf, svm_pushf
from vilab.view.silence import judge, sentence
from vilab.vmm.records import Registers, StepRecord

KERNEL = msgspec.structs.replace(
    GUEST, cpl=0, eip=0xC0104F25, ldtr=0, tr=0x80, selectors=(0x68, 0x60, 0x68, 0x68, 0, 0)
)
RING_1 = msgspec.structs.replace(CPU, cpl=1, eip=0xC0104F25, selectors=(0x69, 0x61, 0x69, 0x69, 0, 0))


def one(code: str, how: str = "native", **both: object) -> tuple[StepRecord, Registers, Registers]:
    w = Writer("trap", KERNEL, RING_1)
    w.add(code, how=how, both=dict(both))
    return w.records[0], KERNEL, RING_1


def test_pushf_at_ring_1_pushes_the_processors_if() -> None:
    run = silent_pushf()
    finding = judge(run.records[3], run.records[2].guest, run.records[2].cpu)
    assert finding is not None
    assert not finding.right
    assert (finding.due, finding.got, finding.due_word, finding.got_word) == ("0", "1", "00000002", "00000202")


def test_pushf_in_guest_mode_is_right() -> None:
    run = svm_pushf()
    finding = judge(run.records[3], run.records[2].guest, run.records[2].cpu)
    assert finding is not None
    assert finding.right


def test_popf_at_ring_1_is_not_heard() -> None:
    run = dropped_popf()
    finding = judge(run.records[0], run.start, run.start_cpu)
    assert finding is not None
    assert finding.dropped
    assert (finding.right, finding.due, finding.got) == (False, "0", "1")


@pytest.mark.parametrize(
    ("code", "due", "got"),
    [
        ("0f0100", "c0398000", "ffc07000"),  # sgdt [eax]
        ("0f0108", "c0397000", "ffc18000"),  # sidt [eax]
        ("0f00c0", "0000", "0058"),  # sldt eax
        ("0f00c8", "0080", "0040"),  # str eax
        ("8cc8", "0060", "0061"),  # mov eax, cs
        ("0e", "0060", "0061"),  # push cs
    ],
)
def test_reading_the_machines_registers_gives_the_machines_values(code: str, due: str, got: str) -> None:
    finding = judge(*one(code))
    assert finding is not None
    assert (finding.right, finding.due, finding.got) == (False, due, got)
    assert due in sentence(one(code)[0], finding)
    assert got in sentence(one(code)[0], finding)


@pytest.mark.parametrize("code", ["0f0100", "8cc8", "0f00c8"])
def test_the_same_instruction_is_right_where_the_vmm_has_a_hand_in_it(code: str) -> None:
    finding = judge(*one(code, how="translated"))
    assert finding is not None
    assert finding.right


def test_lar_is_judged_by_the_guests_own_descriptor() -> None:
    lar = "0f02c1"  # lar eax, ecx
    record, guest, cpu = one(lar)
    guest = msgspec.structs.replace(guest, gpr=(0, 0x60, *guest.gpr[2:]))
    kernel_code = 0x00CF9B00_0000FFFF
    finding = judge(record, guest, cpu, lambda selector: kernel_code if selector == 0x60 else None)
    assert finding is not None
    assert (finding.right, finding.due, finding.got) == (False, "1", "0")
    assert judge(record, guest, cpu, lambda _: None) is None


def test_ordinary_instructions_are_not_judged() -> None:
    assert judge(*one("40")) is None
    assert judge(*one("89c8")) is None
