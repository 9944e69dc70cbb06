"""PDUs, digests and text: what goes onto the wire comes off it, in whatever pieces."""

from __future__ import annotations

import contextlib
import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vilab.storage.iscsi import chap as iscsi_chap
from vilab.storage.iscsi import pdu as iscsi_pdu
from vilab.storage.iscsi import transfer as iscsi_transfer
from vilab.storage.iscsi.layout import HEADER, WORDS, Opcode
from vilab.storage.iscsi.pdu import DataDigestError, PduError, PduReader, PduWriter, describe_pdu
from vilab.storage.iscsi.text import (
    MAX_KEYS,
    TextCollector,
    TextError,
    decode_binary,
    decode_number,
    decode_text,
    encode_text,
)


def header(size: int, opcode: int = Opcode.NOP_OUT) -> bytes:
    return HEADER.pack(opcode, 0x80, 0, 0, size, bytes(8), 1, 2, 3, 4, 5, 6, 7, 8)


def pair(digests: tuple[bool, bool]) -> tuple[PduWriter, PduReader]:
    writer, reader = PduWriter(), PduReader(1 << 16)
    for stream in (writer, reader):
        stream.header_digest, stream.data_digest = digests
    return writer, reader


@given(
    st.tuples(st.booleans(), st.booleans()),
    st.lists(st.binary(max_size=300), max_size=6),
    st.lists(st.integers(1, 200), max_size=30),
)
def test_pdus_come_out_as_they_went_in_whatever_the_pieces(
    digests: tuple[bool, bool], bodies: list[bytes], cuts: list[int]
) -> None:
    writer, reader = pair(digests)
    for body in bodies:
        writer.add(header(len(body)), body)
    stream, found = writer.take(), []
    for size in [*cuts, len(stream)]:
        piece, stream = stream[:size], stream[size:]
        if not piece:
            break
        reader.feed(piece)
        while (pdu := reader.next()) is not None:
            found.append(pdu)
    assert found == [(header(len(body)), body) for body in bodies]
    assert reader.held_bytes == 0


def test_a_stream_byte_by_byte_is_held_once() -> None:
    writer, reader = pair((False, False))
    writer.add(header(60_000), bytes(60_000))
    for byte in writer.take()[:-1]:
        reader.feed(bytes((byte,)))
        assert reader.next() is None
    assert reader.held_bytes == 60_047


def test_a_length_beyond_the_limit_is_refused_before_any_data_come() -> None:
    _, reader = pair((False, False))
    reader.feed(header((1 << 16) + 1))
    with pytest.raises(PduError, match="65537 bytes"):
        reader.next()


@given(st.integers(0, 51 + 103), st.integers(1, 255))
def test_a_flipped_byte_is_noticed_by_a_digest(at: int, change: int) -> None:
    writer, reader = pair((True, True))
    writer.add(header(97), bytes(97))
    stream = bytearray(writer.take())
    assert len(stream) == 48 + 4 + 100 + 4
    stream[at] ^= change
    reader.feed(bytes(stream) + bytes(4096))
    try:
        found = reader.next()
    except PduError:
        return
    assert found is None
    assert stream[4:8] != header(97)[4:8]


def test_which_digest_was_wrong_is_told() -> None:
    writer, reader = pair((True, True))
    writer.add(header(4), b"data")
    stream = bytearray(writer.take())
    stream[-1] ^= 1
    reader.feed(bytes(stream))
    with pytest.raises(DataDigestError) as caught:
        reader.next()
    assert caught.value.header == header(4)


def test_additional_headers_are_skipped() -> None:
    writer, reader = pair((False, False))
    first = bytearray(header(3))
    first[4] = 2
    reader.feed(bytes(first) + bytes(8) + b"abc\0")
    assert reader.next() == (bytes(first), b"abc")
    assert reader.next() is None
    assert writer.take() == b""


@pytest.mark.parametrize("module", [iscsi_pdu, iscsi_chap, iscsi_transfer])
def test_examples_in_docstrings(module: object) -> None:
    tried = doctest.testmod(module)  # type: ignore[arg-type]
    assert tried.attempted
    assert not tried.failed


def test_every_kind_of_pdu_is_described_by_its_fields() -> None:
    for opcode, names in WORDS.items():
        text = describe_pdu(header(5, opcode))
        assert text.startswith(Opcode(opcode).name)
        assert all(f"{name}={at + 1:#x}" in text for at, name in enumerate(names) if name), text
    assert describe_pdu(header(0, 0x1F)) == "unknown PDU 0x1f"
    read = header(0, Opcode.SCSI_COMMAND)[:32] + bytes.fromhex("28000000100000000800").ljust(16, b"\0")
    assert "READ(10) lba=0x1000 blocks=8" in describe_pdu(read)


# text -----------------------------------------------------------------------------------------------------------------

KEYS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="="), min_size=1, max_size=63)


@given(
    st.lists(st.tuples(KEYS, st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=60)), max_size=9)
)
def test_text_comes_back(pairs: list[tuple[str, str]]) -> None:
    assert decode_text(encode_text(pairs)) == pairs


@given(st.binary(max_size=400))
def test_any_bytes_are_text_or_refused(data: bytes) -> None:
    with contextlib.suppress(TextError):
        assert all(0 < len(key) <= 63 for key, _ in decode_text(data))


def test_floods_of_keys_and_endless_texts_are_refused() -> None:
    with pytest.raises(TextError, match="more than 64 keys"):
        decode_text(b"a=b\0" * (MAX_KEYS + 1))
    assert len(decode_text(b"a=b\0" * MAX_KEYS)) == MAX_KEYS
    collector = TextCollector(100)
    assert collector.add(b"a=" + bytes([65]) * 90, True) is None
    with pytest.raises(TextError, match="more than 100 bytes"):
        collector.add(bytes(10), True)


@pytest.mark.parametrize(("text", "data"), [("0x1F0", b"\x01\xf0"), ("0XfF", b"\xff"), ("0bAQI=", b"\x01\x02")])
def test_binary_values(text: str, data: bytes) -> None:
    assert decode_binary(text) == data


@pytest.mark.parametrize("text", ["", "12", "0x", "0xg1", "0b", "0b!!", "0b===", "0x" + "é"])
def test_what_is_no_binary_value(text: str) -> None:
    with pytest.raises(TextError):
        decode_binary(text)


def test_numbers() -> None:
    assert decode_number("0x10") == 16
    assert decode_number("8192") == 8192
    for text in ("", "-1", "+1", "1_0", "ten", "9" * 400, "0x"):
        with pytest.raises(TextError):
            decode_number(text)
