"""What a program may ask of the kernel's network: every call, right and wrong. The program is put into the image."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tests.tools import require_module
from tests.vmm.disk_guest import ENGINES
from tests.vmm.network_guest import NetworkGuest
from vilab.guests import build as guests_build

SOURCE = Path(__file__).parent / "network_calls.c"
PLACE = "netsend"
"""The largest program of its kind: another one has to fit into its place."""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """The two kernels with a network, native and paravirtual, each with the program in the place of another one."""
    require_module("ziglang", "the PyPI package ziglang (extra: guest)")
    scratch = tmp_path_factory.mktemp("guest")
    builder = guests_build._Builder(scratch)
    programs = guests_build.HERE / "programs"
    script = builder.script(programs / "program.lds")
    library = [builder.compile(programs / part) for part in ("start.S", "library.c")]
    builder.link(script, "_start", [*library, builder.compile(programs / f"{PLACE}.c")], scratch / "old.elf")
    compiled = scratch / "network_calls.o"
    arguments = [*guests_build.COMPILE, "-I", "programs", "-c", str(SOURCE), "-o", str(compiled)]
    guests_build._run(builder.compiler, arguments, guests_build.HERE)
    builder.link(script, "_start", [*library, compiled], scratch / "new.elf")
    old, new = (scratch / "old.elf").read_bytes(), (scratch / "new.elf").read_bytes()
    # It fits if its first segment does: its second one is all zeros, and nobody needs the section headers behind.
    _, offset, _, _, size_bytes = struct.unpack_from("<5I", new, 52)
    assert offset + size_bytes <= len(old)
    made = {}
    for paravirtual, name in ((False, "kernel-network.elf"), (True, "kernel-network-para.elf")):
        kernel = (guests_build.PREBUILT / name).read_bytes()
        assert kernel.count(old) == 1
        made[paravirtual] = scratch / name
        made[paravirtual].write_bytes(kernel.replace(old, new[: len(old)].ljust(len(old), b"\0")))
    return made


@pytest.mark.parametrize("engine", ENGINES)
def test_network_calls_answer_and_refuse_as_they_should(engine: str, images: dict[bool, Path]) -> None:
    guest = NetworkGuest(engine=engine, image=str(images[engine == "para"]), append=f"init={PLACE}")
    guest.run()
    assert "calls: 47 checks, 0 wrong\n" in guest.output
