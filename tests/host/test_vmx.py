""".vmx files: read and written without losing a byte, or refused with a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.host.vmx_files import KEYS, SAMPLE, TEXTS, files
from vilab.errors import AdminError
from vilab.host.vmx import (
    ENCODINGS,
    Vmx,
    load,
    new_vmx,
    parse,
    save,
    write,
)


@given(files())
def test_what_is_written_reads_as_the_same(vmx: Vmx) -> None:
    assert parse(write(vmx), vmx.name) == vmx


@given(KEYS, TEXTS)
def test_a_value_that_was_set_is_there_after_reading(key: str, value: str) -> None:
    vmx = parse(SAMPLE)
    vmx.set(key, value)
    assert parse(write(vmx)).get(key.upper()) == value


NOISE = st.lists(st.sampled_from([*b'ab.:=|"# \t\r', 0xC3, 0xBC, 0xFF, 0]).map(lambda b: bytes([b])), max_size=12).map(
    b"".join
)
LINES = st.one_of(
    NOISE,
    st.sampled_from([b'k = "v"', b"# c", b"", b'.encoding = "windows-1252"', b'\t a.b="|C3|BC" # x', b"n = 1\r"]),
)


@given(st.lists(LINES, max_size=6).map(b"\n".join), st.sampled_from([b"", b"\n", b"\r\n"]))
def test_any_bytes_are_kept_exactly_or_refused_with_the_files_name(data: bytes, end: bytes) -> None:
    try:
        kept, refusal = write(parse(data + end, "web.vmx")), "web.vmx"
    except AdminError as refused:
        kept, refusal = data + end, str(refused)
    assert kept == data + end
    assert "web.vmx" in refusal


def test_comments_blanks_order_and_unknown_keys_stay() -> None:
    vmx = parse(SAMPLE)
    assert write(vmx) == SAMPLE
    vmx.set("memsize", "512")
    assert write(vmx) == SAMPLE.replace(b'"256"', b'"512"')
    vmx.set("memsize", "256")
    vmx.set("new", "1")
    assert write(vmx) == SAMPLE + b'\nnew = "1"\n'
    vmx.remove("NEW")
    assert write(vmx) == SAMPLE + b"\n"


def test_letter_case_of_keys_does_not_count() -> None:
    vmx = parse(SAMPLE)
    assert vmx.get("MEMSIZE") == "256"
    assert vmx.get("memory") is None
    assert vmx.keys()[3] == "memSize"


def test_escapes_are_bytes_of_the_files_encoding() -> None:
    vmx = parse(b'a = "|C3|BC|7c|22"\nb = "\xc3\xbc"')
    assert (vmx.get("a"), vmx.get("b")) == ('ü|"', "ü")
    vmx = parse(b'.encoding = "windows-1252"\na = "|FC\xfc"')
    assert vmx.get("a") == "üü"
    vmx.set("a", 'say "|"\n')
    assert write(vmx).endswith(b'a = "say |22|7C|22|0A"')


def test_windows_files_keep_their_line_ends_and_byte_order_mark() -> None:
    data = b'\xef\xbb\xbf.encoding = "UTF-8"\r\nmemsize = "64"\r\n'
    vmx = parse(data)
    assert write(vmx) == data
    vmx.set("memsize", "128")
    vmx.set("numvcpus", "2")
    assert write(vmx) == data.replace(b"64", b"128") + b'numvcpus = "2"\r\n'


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_is_kept(encoding: str) -> None:
    vmx = new_vmx("x.vmx", encoding)
    vmx.set("displayName", "web | 1\\~")
    again = parse(write(vmx), "x.vmx")
    assert again == vmx
    assert again.encoding == encoding


def test_a_character_that_the_encoding_lacks_is_refused_and_nothing_changes() -> None:
    vmx = parse(b'.encoding = "Shift_JIS"\na = "1"\n')
    for value in ("\u20ac", "\xa5", "\ud800"):
        with pytest.raises(AdminError, match="Shift_JIS"):
            vmx.set("a", value)
    assert vmx.get("a") == "1"


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b'a = "1"\nmemsize "256"\n', 'web.vmx, line 2: expected key = "value", got \'memsize "256"\'.'),
        (b'a = "1', "web.vmx, line 1: expected"),
        (b'a = "1" b', "web.vmx, line 1: expected"),
        (b'a = "1"2"', "web.vmx, line 1: expected"),
        (b"a =", "web.vmx, line 1: expected"),
        (b'= "1"', "web.vmx, line 1: expected"),
        (b"a = two words", "web.vmx, line 1: expected"),
        (b'\nmemsize = "4"\n#\nmemSize = "4"\n', "web.vmx, line 4: memSize has been set in line 2 already"),
        (b'a = "50|5"', "web.vmx, line 1: '|5' is no escape"),
        (b'\na = "|FF"', "web.vmx, line 2: the escapes in '|FF' are not UTF-8"),
        (b'\n\na = "\xff"', "web.vmx, line 3: not UTF-8"),
        (b'.encoding = "UTF-16"', "web.vmx: .encoding is 'UTF-16', which is not known here"),
    ],
)
def test_malformed_files_are_refused_with_the_line(data: bytes, sentence: str) -> None:
    with pytest.raises(AdminError) as refused:
        parse(data, "web.vmx")
    assert sentence in str(refused.value)


def test_keys_that_would_not_read_and_another_encoding_cannot_be_set() -> None:
    vmx = new_vmx("web.vmx")
    for key in ("", "a b", "a=", "#a", "a\n"):
        with pytest.raises(AdminError, match="cannot be a key"):
            vmx.set(key, "1")
    with pytest.raises(AdminError, match="encoding"):
        vmx.set(".Encoding", "GBK")
    with pytest.raises(AdminError, match="encoding"):
        vmx.remove(".encoding")


def test_saved_and_loaded(tmp_path: Path) -> None:
    path = tmp_path / "web.vmx"
    vmx = parse(SAMPLE, "web.vmx")
    save(vmx, path)
    assert load(path) == vmx
    assert [p.name for p in tmp_path.iterdir()] == ["web.vmx"]


def test_files_that_cannot_be_read_or_written_are_named(tmp_path: Path) -> None:
    with pytest.raises(AdminError, match=r"none\.vmx cannot be read"):
        load(tmp_path / "none.vmx")
    with pytest.raises(AdminError, match=r"web\.vmx cannot be written"):
        save(new_vmx("web.vmx"), tmp_path / "missing" / "web.vmx")
    (tmp_path / "web.vmx").mkdir()
    with pytest.raises(AdminError, match="It is as it was"):
        save(new_vmx("web.vmx"), tmp_path / "web.vmx")
    assert [p.name for p in tmp_path.iterdir()] == ["web.vmx"]
