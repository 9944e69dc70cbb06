"""Boot sectors and BIOS images: recognised by content, started in real mode, the same on every engine and on QEMU."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.guests import assemble, qemu
from tests.tools import require_tool
from vilab.errors import AdminError
from vilab.events import EventDigest, EventLog
from vilab.guests.image import LoadedImage
from vilab.guests.load import load
from vilab.vmm.vm import QuietConsole, VirtualMachine

ENGINES = ("bare", "trap", "bt", "mirrored", "svm", "svm shadow")
SOURCE = Path(__file__).with_name("boot_sector.S")
SAYS = "2468 0001 0003 0000 CB00 0001 0000 0027 03FF 7202 "
"""What ``boot_sector.S`` prints, worked out by hand; QEMU says the same."""
MEMORY_BYTES = 16 << 20
SEABIOS = Path("/usr/share/seabios")


def machine(image: LoadedImage, engine: str, **options: Any) -> VirtualMachine:
    """``mirrored`` is the second placement of bt."""
    if engine == "svm shadow":
        engine, options = "svm", {**options, "engine_options": {"paging": "shadow"}}
    if engine == "mirrored":
        engine, options = "bt", {**options, "engine_options": {"placement": "mirrored"}}
    return VirtualMachine(image, engine, MEMORY_BYTES, **options)


def write(folder: Path, data: bytes, name: str = "disk.img") -> str:
    path = folder / name
    path.write_bytes(data)
    return str(path)


def load_bytes(folder: Path, data: bytes, name: str = "disk.img") -> LoadedImage:
    return load(write(folder, data, name), memory_bytes=MEMORY_BYTES)


@pytest.fixture(scope="module")
def sector(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return assemble.flat(SOURCE, tmp_path_factory.mktemp("sector"), 0x7C00)


def seabios(name: str) -> Path:
    path = SEABIOS / name
    if not path.exists():
        require_tool(f"seabios/{name}", "the Debian package seabios")
    return path


def test_a_boot_sector_starts_where_a_bios_would_start_it(tmp_path: Path, sector: bytes):
    image = load_bytes(tmp_path, sector)
    assert image.kind == "boot sector"
    state = VirtualMachine(image, "bare", MEMORY_BYTES).initial_state()
    assert (state.eip, state.gpr[2], state.gpr[4], state.cr0 & 1) == (0x7C00, 0x80, 0x7C00, 0)
    assert [segment[:3] for segment in state.segments[:6]] == [(0, 0, 0xFFFF)] * 6


def test_raw_code_is_raw_code_when_its_name_says_so(tmp_path: Path, sector: bytes):
    path = write(tmp_path, sector, "code.bin")
    assert load(path, memory_bytes=MEMORY_BYTES).kind == "boot sector"
    assert load(f"flat:{path}", memory_bytes=MEMORY_BYTES).kind == "flat"


def test_without_the_signature_or_with_a_torn_sector_it_is_raw_code(tmp_path: Path, sector: bytes):
    assert load_bytes(tmp_path, sector[:-1] + b"\0").kind == "flat"
    assert load_bytes(tmp_path, sector + b"\0").kind == "flat"


def test_sectors_behind_the_first_are_there_already(tmp_path: Path, sector: bytes):
    image = load_bytes(tmp_path, sector + b"more".ljust(512, b"\0"))
    vm = VirtualMachine(image, "bare", MEMORY_BYTES)
    assert vm.pmap.read(0x7E00, 4) == b"more"


def test_real_mode_cannot_be_deprivileged_without_a_vmm(tmp_path: Path, sector: bytes):
    with pytest.raises(AdminError, match="starts in real mode, which has no rings"):
        machine(load_bytes(tmp_path, sector), "deprivileged")


def test_a_disk_that_does_not_fit_below_640_kb_is_refused(tmp_path: Path, sector: bytes):
    with pytest.raises(AdminError, match="639 KB"):
        load_bytes(tmp_path, sector.ljust(1 << 20, b"\0"))


@pytest.mark.parametrize("engine", ENGINES)
def test_the_sector_says_the_same_under_every_engine(tmp_path: Path, sector: bytes, engine: str):
    console = QuietConsole()
    vm = machine(load_bytes(tmp_path, sector), engine, console=console)
    ended = vm.engine.run(until_ns=1_000_000_000)
    assert console.output.decode() == SAYS
    assert ended is not None
    assert ended.reason == "powered_off"


@pytest.mark.interop
def test_the_sector_says_the_same_on_qemu(tmp_path: Path, sector: bytes):
    command = qemu.command(Path("unused"), "", "16M")
    command = [*command[: command.index("-kernel")], "-drive", f"file={write(tmp_path, sector)},format=raw"]
    done = subprocess.run(command, capture_output=True, timeout=qemu.SECONDS)
    assert done.stdout.decode() == SAYS


# A BIOS --------------------------------------------------------------------------------------------------------------


def test_a_bios_starts_at_the_reset_vector_in_its_rom(tmp_path: Path):
    rom = bytes(0xFFF0) + b"\xea\x00\x00\x00\xf0".ljust(16, b"\0")
    image = load_bytes(tmp_path, rom, "bios.rom")
    assert image.kind == "bios"
    vm = VirtualMachine(image, "bare", MEMORY_BYTES)
    assert vm.engine.vcpu.pc == 0xFFFFFFF0
    assert vm.pmap.read(0xFFFFFFF0, 5) == vm.pmap.read(0xFFFF0, 5) == rom[-16:-11]


def test_what_has_no_far_jump_at_the_reset_vector_is_no_bios(tmp_path: Path):
    with pytest.raises(AdminError, match="no format that can be started"):
        load_bytes(tmp_path, bytes(0x10000), "bios.rom")


@pytest.mark.interop
@pytest.mark.parametrize(
    ("engine", "name"), [*((engine, "bios-256k.bin") for engine in ENGINES), ("svm", "bios.bin"), ("bt", "bios.bin")]
)
def test_seabios_gets_through_post_to_its_boot_attempts(engine: str, name: str):
    vm = machine(load(str(seabios(name)), memory_bytes=MEMORY_BYTES), engine)
    vm.engine.run(until_ns=3_000_000_000)
    said = vm.pc.debug_port.text.decode()
    for line in ("SeaBIOS (version", "Found 1 serial ports", "enter handle_19:", "Booting from Hard Disk...",
                 "No bootable device.  Retrying in 60 seconds."):  # fmt: skip
        assert line in said


@pytest.mark.interop
def test_seabios_says_the_same_under_every_engine():
    said = []
    for engine in ENGINES:
        vm = machine(load(str(seabios("bios.bin")), memory_bytes=MEMORY_BYTES), engine)
        vm.engine.run(until_ns=3_000_000_000)
        lines = vm.pc.debug_port.text.decode().splitlines()
        said.append([line for line in lines if "Mhz" not in line])  # it measures the processor
    assert said[1:] == said[:1] * (len(ENGINES) - 1)


@pytest.mark.interop
@pytest.mark.parametrize("engine", ["bare", "bt", "svm"])
def test_seabios_goes_on_in_another_machine(engine: str):
    image = load(str(seabios("bios.bin")), memory_bytes=MEMORY_BYTES)
    first, whole = machine(image, engine), machine(image, engine)
    for at_ns in (20_000_000, 400_000_000, 3_000_000_000):
        whole.engine.run(until_ns=at_ns)
        first.engine.run(until_ns=at_ns)
        state = first.save_state()
        first = machine(image, engine)
        first.load_state(msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=type(state)))
    assert first.pc.debug_port.text == whole.pc.debug_port.text
    assert "No bootable device" in first.pc.debug_port.text.decode()


@pytest.mark.interop
@pytest.mark.parametrize("engine", ["bt", "svm"])
def test_two_runs_of_seabios_log_the_same_events(engine: str):
    digests = []
    for _ in range(2):
        log, digest = EventLog(), EventDigest()
        log.listen(digest)
        machine(load(str(seabios("bios.bin")), memory_bytes=MEMORY_BYTES), engine, log=log).engine.run(100_000_000)
        digests.append((digest.count, digest.hexdigest()))
    assert digests[0] == digests[1]
    assert digests[0][0] > 1000
