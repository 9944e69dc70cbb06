"""The table of commands, and decoding by it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.storage.scsi_helpers import cdb
from vilab.storage.scsi.cdb import decode, describe_cdb
from vilab.storage.scsi.commands import BY_CODE, COMMANDS, FAMILIES, Command, cdb_bytes
from vilab.storage.scsi.sense import ScsiError
from vilab.storage.scsi.unit import HANDLERS


def test_every_row_has_a_handler_and_every_handler_a_row() -> None:
    assert HANDLERS.keys() == BY_CODE.keys()
    assert len(BY_CODE) == len(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c.name)
def test_a_row_has_the_length_of_its_group_and_fields_that_do_not_overlap(command: Command) -> None:
    assert command.length == cdb_bytes(command.opcode)
    taken = 0xFF << 8 * (command.length - 1) | 0xFF
    if command.service_action is not None:
        taken |= 0x1F << 8 * (command.length - 2)
    for field in command.fields.values():
        mask = field.mask(command.length)
        assert not taken & mask, field.name
        taken |= mask


@given(st.data())
def test_fields_come_out_as_they_went_in(data: st.DataObject) -> None:
    command = data.draw(st.sampled_from(COMMANDS))
    values = {name: data.draw(st.integers(0, field.most)) for name, field in command.fields.items()}
    decoded = decode(cdb(command.name, **values) + bytes(data.draw(st.integers(0, 4))))
    assert decoded.command is command
    assert decoded.values() == values


def test_description_says_numbers_by_name_and_flags_by_name() -> None:
    assert describe_cdb(bytes.fromhex("28080000100000000800")) == "READ(10) lba=0x1000 blocks=8 FUA"
    assert describe_cdb(bytes.fromhex("12018300ff00")) == "INQUIRY page=0x83 allocation=255 EVPD"
    assert describe_cdb(b"\xff\x01") == "unknown command ff 01"
    assert describe_cdb(b"") == "empty command"


def _code(raw: bytes) -> int:
    with pytest.raises(ScsiError) as caught:
        decode(raw)
    assert caught.value.sense is not None
    return caught.value.sense.code


def test_what_is_not_in_the_table_is_refused() -> None:
    assert _code(b"") == 0x2000
    assert _code(bytes((0xFF,)) + bytes(15)) == 0x2000
    for opcode in FAMILIES:
        assert _code(bytes((opcode, 0x1F)) + bytes(14)) == 0x2400
        assert _code(bytes((opcode,))) == 0x2400


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c.name)
def test_a_short_cdb_and_naca_are_refused(command: Command) -> None:
    whole = cdb(command.name)
    assert _code(whole[:-1]) == 0x2400
    assert _code(whole[:-1] + b"\x04") == 0x2400


def test_the_lun_of_scsi_2_in_byte_1_is_ignored_where_it_is_reserved() -> None:
    assert decode(bytes.fromhex("03e00000ff00")).describe() == "REQUEST SENSE allocation=255"
