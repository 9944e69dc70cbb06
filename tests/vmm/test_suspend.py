"""Suspended to a file, resumed in another process: the guest does not notice; bad files are refused in a sentence."""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
import subprocess
import sys
from functools import cache
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vilab.errors import AdminError
from vilab.guests.load import load
from vilab.vmm import suspend
from vilab.vmm.vm import QuietConsole, VirtualMachine

COMMAND = [sys.executable, "-m", "vilab.cli"]
MEMORY_BYTES = 16 << 20
TYPED = b"isprime 49\nforkwait 3\nexit\n"
MS = 1_000_000


def start(engine: str, typed: bytes = TYPED, image: str = "shell") -> tuple[VirtualMachine, QuietConsole]:
    console = QuietConsole(typed)
    loaded = load(image, memory_bytes=MEMORY_BYTES, paravirtual=engine == "para")
    return VirtualMachine(loaded, engine, MEMORY_BYTES, console=console), console


def vilab(*arguments: str | Path, typed: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*COMMAND, *map(str, arguments)], input=typed, capture_output=True, timeout=250)


@cache
def saved(engine: str = "bare", at_ms: int = 5) -> bytes:
    vm, _ = start(engine)
    assert vm.engine.run(until_ns=at_ms * MS) is None
    data = suspend.encode(vm)
    vm.close()
    return data


def signed(body: bytes, version: int = suspend.VERSION) -> bytes:
    return suspend.FIXED.pack(suspend.MAGIC, version, hashlib.sha256(body).digest()) + body


# The guest does not notice


@pytest.mark.parametrize("engine", ["bare", "bt", "para", "svm"])
def test_a_suspended_guest_goes_on_in_another_process_and_says_the_same(engine, tmp_path):
    file = tmp_path / "shell.vm"
    whole = vilab("run", "shell", "--engine", engine, typed=TYPED)
    assert whole.stdout.endswith(b"power off\r\n")
    first = vilab("run", "shell", "--engine", engine, "--suspend-at", "12", "--suspend-to", file, typed=TYPED)
    assert (first.returncode, first.stderr.decode().count("vilab resume")) == (0, 1), first.stderr
    second = vilab("resume", file, typed=b"")
    assert second.returncode == 0, second.stderr
    assert first.stdout
    assert second.stdout
    assert whole.stdout in (first.stdout + second.stdout, first.stdout[:-1] + second.stdout)


@pytest.mark.parametrize("engine", ["bare", "bt", "para", "svm"])
@pytest.mark.parametrize("at_ns", [1_000_003, 9_876_543, 21_000_001, 30_123_456])
def test_whenever_it_is_suspended_it_ends_as_one_that_stayed_with_its_caches_emptied(engine, at_ns):
    vm, console = start(engine)
    assert vm.engine.run(until_ns=at_ns) is None
    data = suspend.encode(vm)
    said, untyped = bytes(console.output), console._typed
    vm.load_state(vm.save_state())
    ended = vm.engine.run()
    end_ns = vm.engine.now_ns()
    vm.close()

    resumed = suspend.decode(data).resume(other := QuietConsole(untyped))
    assert resumed.engine.run() == ended
    assert said + other.output == console.output
    assert resumed.engine.now_ns() == end_ns
    resumed.close()


def test_on_the_bare_machine_not_even_time_differs():
    vm, console = start("bare")
    vm.engine.run()
    end_ns, whole = vm.engine.now_ns(), bytes(console.output)
    vm.close()
    vm, console = start("bare")
    vm.engine.run(until_ns=9_876_543)
    resumed = suspend.decode(suspend.encode(vm)).resume(console)
    vm.close()
    resumed.engine.run()
    assert (bytes(console.output), resumed.engine.now_ns()) == (whole, end_ns)
    resumed.close()


def test_under_trap_and_emulate_too(tmp_path):
    """A guest that this engine can run: no critical instructions."""
    code = bytes.fromhex(
        "b9 00000800"  # mov ecx, 0x80000
        "49 75fd"  # 1: dec ecx; jnz 1b
        "66ba f803 b0 21 ee"  # mov dx, 0x3f8; mov al, '!'; out dx, al
        "66ba 0406 66b8 0020 66ef"  # mov dx, 0x604; mov ax, 0x2000; out dx, ax
    )
    guest, file = tmp_path / "wait.bin", tmp_path / "wait.vm"
    guest.write_bytes(code)
    first = vilab("run", guest, "--engine", "trap", "--suspend-at", "0.5", "--suspend-to", file)
    assert first.returncode == 0, first.stderr
    assert first.stdout == b""
    second = vilab("resume", file)
    assert second.stdout == b"!\n"
    assert b"powered off" in second.stderr


def test_floating_point_and_model_specific_registers_travel():
    vm, _ = start("bare")
    vm.engine.run(until_ns=5 * MS)
    fpu = bytearray(vm.cpu.fpu())
    fpu[160:176] = bytes(range(16))  # XMM0
    vm.cpu.set_fpu(bytes(fpu))
    vm.cpu.set_msr(0x175, 0x1234_5678)  # SYSENTER_ESP
    resumed = suspend.decode(suspend.encode(vm)).resume()
    assert resumed.cpu.fpu()[160:176] == bytes(range(16))
    assert resumed.cpu.msr(0x175) == 0x1234_5678
    vm.close()
    resumed.close()


def test_a_counted_guest_goes_on_counting(tmp_path):
    file = tmp_path / "isprime.vm"
    vilab("run", "isprime", "--append", "999983", "--suspend-at", "0.1", "--suspend-to", file)
    whole = vilab("run", "isprime", "--append", "999983", "--stats", "json")
    parts = vilab("resume", file, "--stats", "json")
    counts = [msgspec.json.decode(done.stdout.splitlines()[-1])["instructions"] for done in (whole, parts)]
    assert counts[0] == counts[1] > 1_000_000


def test_what_is_suspended_twice_at_the_same_moment_is_the_same_file():
    vm, _ = start("svm")
    vm.engine.run(until_ns=5 * MS)
    assert suspend.encode(vm) == saved("svm")
    vm.close()


# Files that are refused


def refusal(data: bytes) -> str:
    with pytest.raises(AdminError) as caught:
        suspend.decode(data)
    said = str(caught.value)
    assert "\n" not in said
    return said


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 30))
def test_a_truncated_file_is_refused(length):
    data = saved()
    refusal(data[: length % len(data)])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 30), st.integers(0, 7))
def test_a_file_with_a_wrong_bit_is_refused(at, bit):
    data = bytearray(saved())
    data[at % len(data)] ^= 1 << bit
    refusal(bytes(data))


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_a_foreign_file_is_refused(data):
    refusal(data)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 1 << 30), st.integers(0, 7))
def test_a_wrong_bit_under_a_right_checksum_is_refused_or_a_machine(at, bit):
    """Somebody has made such a file by hand: a sentence or a machine, and never anything else."""
    body = bytearray(saved()[suspend.FIXED.size :])
    body[at % min(len(body), 6000)] ^= 1 << bit
    with contextlib.suppress(AdminError):
        suspend.decode(signed(bytes(body))).resume().close()


def test_a_newer_version_is_refused_by_its_number():
    body = saved()[suspend.FIXED.size :]
    said = refusal(signed(body, suspend.VERSION + 1))
    assert f"version {suspend.VERSION + 1}" in said


def test_memory_that_unpacks_to_more_than_the_header_says_is_refused():
    body = saved()[suspend.FIXED.size :]
    (n,) = struct.unpack_from("<I", body)
    header = msgspec.json.decode(body[4 : 4 + n])
    header["pages"] -= 1
    text = msgspec.json.encode(header)
    assert "memory" in refusal(signed(struct.pack("<I", len(text)) + text + body[4 + n :]))


def refused(done: subprocess.CompletedProcess[bytes]) -> str:
    said = done.stderr.decode()
    assert (done.returncode, done.stdout) == (2, b""), said
    assert said.startswith("vilab: ")
    assert said.count("\n") == 1
    return said


def test_the_command_refuses_in_one_sentence(tmp_path):
    file = tmp_path / "x.vm"
    assert "cannot be read" in refused(vilab("resume", file))
    file.write_bytes(b"#!/bin/sh\n")
    assert "not a suspended machine" in refused(vilab("resume", file))
    file.write_bytes(saved())
    assert "5 ms already" in refused(vilab("resume", file, "--suspend-at", "3", "--suspend-to", tmp_path / "y.vm"))
    assert not (tmp_path / "y.vm").exists()
    nowhere = tmp_path / "no-such-folder" / "x.vm"
    assert "cannot be written" in refused(vilab("run", "shell", "--suspend-to", nowhere, "--suspend-at", "5"))
    assert "--suspend-to" in refused(vilab("run", "shell", "--suspend-at", "5"))
    assert "more than 0" in refused(vilab("run", "shell", "--suspend-at", "-1", "--suspend-to", file))
    assert file.read_bytes() == saved()


def test_a_guest_that_ends_first_leaves_no_file(tmp_path):
    file = tmp_path / "x.vm"
    done = vilab("run", "shell", "--suspend-at", "100000", "--suspend-to", file, typed=b"exit\n")
    assert done.returncode == 0
    assert "was not written" in done.stderr.decode()
    assert not file.exists()


def test_who_leaves_can_have_the_guest_suspended(tmp_path):
    pty = pytest.importorskip("pty", reason="pseudo-terminals exist on Unix only")
    person, process = pty.openpty()
    file = tmp_path / "lunch.vm"
    with subprocess.Popen(
        [*COMMAND, "run", "shell", "--suspend-to", str(file)], stdin=process, stdout=process, stderr=subprocess.PIPE
    ) as session:
        seen = b""
        while b"shell> " not in seen:
            seen += os.read(person, 4096)
        os.write(person, b"\x1d")
        _, said = session.communicate(timeout=60)
    os.close(person)
    os.close(process)
    assert session.returncode == 0, said
    assert b"Ctrl-] suspends and leaves" in said
    assert f"vilab resume {file}".encode() in said
    rest = vilab("resume", file, typed=b"isprime 49\nexit\n")
    assert b"isPrime(49) = 0" in rest.stdout
