"""Sense data: both formats, there and back, and as sg3-utils reads them."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tools import require_tool
from vilab.storage.scsi.sense import Sense, SenseKey, parse_sense

SENSES = st.builds(
    Sense,
    key=st.sampled_from(SenseKey),
    code=st.integers(0, 0xFFFF),
    information=st.none() | st.integers(0, (1 << 64) - 1),
    command_specific=st.none() | st.integers(1, 0xFFFF_FFFF),
    byte=st.none(),
)
POINTERS = st.builds(
    Sense,
    key=st.just(SenseKey.ILLEGAL_REQUEST),
    code=st.sampled_from([0x2400, 0x2600]),
    byte=st.integers(0, 0xFFFF),
    bit=st.none() | st.integers(0, 7),
    in_cdb=st.booleans(),
)


@given(SENSES | POINTERS)
def test_descriptor_format_keeps_everything(sense: Sense) -> None:
    assert parse_sense(sense.descriptor()) == sense


@given(SENSES | POINTERS)
def test_fixed_format_keeps_all_but_information_that_needs_64_bits(sense: Sense) -> None:
    data = sense.fixed()
    assert len(data) == 18
    back = parse_sense(data)
    assert back is not None
    if sense.information is not None and sense.information >= 1 << 32:
        assert back.information is None
    else:
        assert back == sense


@given(st.binary(max_size=300))
def test_any_bytes_are_parsed_or_refused(data: bytes) -> None:
    sense = parse_sense(data)
    assert sense is None or sense.describe()


def test_description_names_key_code_and_field() -> None:
    sense = Sense(SenseKey.ILLEGAL_REQUEST, 0x2400, byte=1, bit=7)
    assert sense.describe() == "ILLEGAL REQUEST 24/00: invalid field in CDB (byte 1, bit 7)"


@pytest.mark.interop
@pytest.mark.parametrize("form", ["fixed", "descriptor"])
def test_sg_decode_sense_reads_the_same(form: str) -> None:
    tool = require_tool("sg_decode_sense", "the Debian package sg3-utils")

    def told(sense: Sense) -> str:
        data = sense.fixed() if form == "fixed" else sense.descriptor()
        run = subprocess.run([tool, *data.hex(" ").split()], capture_output=True, text=True, timeout=20, check=True)
        return run.stdout.lower()

    refusal = told(Sense(SenseKey.ILLEGAL_REQUEST, 0x2600, byte=20, bit=3, in_cdb=False))
    assert "illegal request" in refusal
    assert "invalid field in parameter list" in refusal
    assert "error in data parameters: byte 20 bit 3" in refusal
    miscompare = told(Sense(SenseKey.MISCOMPARE, 0x1D00, information=0x1234))
    assert "miscompare during verify operation" in miscompare
    assert "1234" in miscompare
