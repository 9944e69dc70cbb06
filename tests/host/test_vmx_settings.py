"""What configuration files say, typed; refused with a sentence where they say what cannot be."""

from __future__ import annotations

import uuid
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.host.vmx_files import SAMPLE, files
from vilab.errors import AdminError
from vilab.host.vmx import Vmx, parse, write
from vilab.host.vmx_settings import (
    VmSettings,
    apply_settings,
    derived_swap_name,
    settings_of,
    swap_path,
    uuid_text,
)

WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
SETTINGS = st.builds(
    VmSettings,
    display_name=WORDS,
    guest_os=WORDS,
    memsize_mb=st.integers(1, 16384).map(lambda quarter: 4 * quarter),
    vcpus=st.sampled_from([1, 2, 4]),
    reservation_mb=st.integers(0, 65536),
    limit_mb=st.none() | st.integers(0, 65536),
    shares=st.sampled_from(["low", "normal", "high"]) | st.integers(0, 100_000),
    swap_dir=st.none() | WORDS,
    swap_name=st.none() | WORDS,
    uuid_bios=st.none() | st.uuids(),
    image=st.none() | WORDS,
    engine=st.none() | WORDS,
)


SETTING_KEYS = [
    "displayname",
    "guestos",
    "memsize",
    "numvcpus",
    "sched.mem.min",
    "sched.mem.minsize",
    "sched.mem.max",
    "sched.mem.shares",
    "sched.swap.dir",
    "sched.swap.derivedname",
    "uuid.bios",
    "vilab.image",
    "vilab.engine",
]


def lines_without_settings(vmx: Vmx) -> list[str]:
    """Comments, blanks and other keys, in order, without line ends."""
    return [line.text.rstrip("\r\n") for line in vmx.lines if (line.key or "").lower() not in SETTING_KEYS]


@given(files(), SETTINGS)
def test_settings_applied_are_read_again_and_other_keys_stay(vmx: Vmx, settings: VmSettings) -> None:
    try:
        settings_of(vmx)
    except AdminError:
        return  # drawn keys have made a file that no settings can be read from
    others = lines_without_settings(vmx)
    apply_settings(vmx, settings)
    again = parse(write(vmx), vmx.name)
    assert settings_of(again) == settings
    assert lines_without_settings(again) == others
    apply_settings(again, settings)
    assert write(again) == write(vmx)


def test_settings_of_a_file_as_esx_writes_it() -> None:
    settings = settings_of(parse(SAMPLE, "web.vmx"))
    assert settings == VmSettings(
        display_name='München "one"',
        memsize_mb=256,
        reservation_mb=64,
        shares="high",
        swap_name="/vmfs/volumes/storage1/web/web-988abbf8.vswp",
        uuid_bios=uuid.UUID("564dfd52-65f4-71df-e4c8-668eb127c48b"),
    )
    assert settings.memory_shares == 5120


def test_what_is_missing_has_its_default() -> None:
    assert settings_of(parse(b"", "web1.vmx")) == VmSettings(display_name="web1")
    assert settings_of(parse(b"", "web1.vmx")).memory_shares == 320


def test_both_reservation_keys_are_read_and_kept_equal() -> None:
    vmx = parse(b'memsize = "64"\nsched.mem.min = "16"\nsched.mem.minSize = "16"\n', "web.vmx")
    settings = settings_of(vmx)
    assert settings.reservation_mb == 16
    apply_settings(vmx, VmSettings("web", memsize_mb=64, reservation_mb=32))
    assert write(vmx) == b'memsize = "64"\nsched.mem.min = "32"\nsched.mem.minSize = "32"\n'


@pytest.mark.parametrize("limit", ["unlimited", "Unlimited", "-1", ""])
def test_no_limit_is_said_in_several_ways(limit: str) -> None:
    vmx = parse(f'sched.mem.max = "{limit}"\n'.encode())
    assert settings_of(vmx).limit_mb is None


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('memsize = "255"', "web.vmx, line 2: memsize is '255'; it has to be a multiple of 4"),
        ('memsize = "0"', "multiple of 4"),
        ('memsize = "much"', "memsize is 'much'"),
        ('numvcpus = "3"', "numvcpus is '3'; it has to be 1, 2 or 4"),
        ('sched.mem.max = "-2"', "sched.mem.max is '-2'"),
        ('sched.mem.min = "1.5"', "sched.mem.min is '1.5'"),
        ('sched.mem.min = "8"\nsched.mem.minsize = "4"', "are the same reservation and differ (4 and 8 MB)"),
        ('sched.mem.shares = "lots"', "web.vmx, line 2: Memory shares cannot be 'lots'"),
        ('sched.mem.shares = "100001"', "web.vmx, line 2: Memory shares cannot be 100001"),
        ('uuid.bios = "56 4d"', "uuid.bios is '56 4d'; it has to be 16 bytes"),
    ],
)
def test_values_that_cannot_be_are_refused_with_their_line(line: str, sentence: str) -> None:
    with pytest.raises(AdminError) as refused:
        settings_of(parse(f"# a\n{line}\n".encode(), "web.vmx"))
    assert sentence in str(refused.value)


def test_refused_settings_change_nothing() -> None:
    vmx = parse(SAMPLE)
    for settings in (VmSettings("a", memsize_mb=255), VmSettings(""), VmSettings("a", shares="lots")):
        with pytest.raises(AdminError):
            apply_settings(vmx, settings)
    assert write(vmx) == SAMPLE


def test_uuid_is_written_as_in_the_knowledge_base() -> None:
    text = "00 11 22 33 44 55 66 77-88 99 aa bb cc dd ee ff"
    assert uuid_text(uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")) == text


def test_where_the_swap_file_is() -> None:
    config = PurePosixPath("/vmfs/volumes/storage1/web 1/web 1.vmx")
    name = derived_swap_name(config)
    assert name.startswith("web 1-")
    assert len(name) == len("web 1-00000000.vswp")
    assert swap_path(VmSettings("a"), config) == config.parent / name
    assert swap_path(VmSettings("a", swap_dir="/vmfs/volumes/fast"), config) == PurePosixPath(
        "/vmfs/volumes/fast", name
    )
    assert swap_path(VmSettings("a", swap_name="/x/y.vswp"), config) == PurePosixPath("/x/y.vswp")
    other = PurePosixPath("/vmfs/volumes/storage2/web 1/web 1.vmx")
    assert derived_swap_name(other) != name
