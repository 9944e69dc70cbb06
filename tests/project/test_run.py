"""``vilab run`` from outside: pipes, files, a terminal, and guests that nobody should have started."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.guests import forge
from vilab.vmm.vm import MONITOR_WINDOW

COMMAND = [sys.executable, "-m", "vilab.cli", "run"]

STATS = {
    "engine", "instructions", "executed_bytes", "wall_s", "virtual_ns", "exits", "mmu", "serial_sha256", "events_sha256"
}  # fmt: skip
UD2, LOOP, HLT = b"\x0f\x0b", b"\xeb\xfe", b"\xf4"


def run(*arguments: str | Path, typed: bytes = b"", timeout: float = 120) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*COMMAND, *map(str, arguments)], input=typed, capture_output=True, timeout=timeout)


def figures(done: subprocess.CompletedProcess[bytes]) -> dict:
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def flat(tmp_path):
    def file(code: bytes, name: str = "code.bin") -> Path:
        path = tmp_path / name
        path.write_bytes(code)
        return path

    return file


# What a run tells


def test_a_session_with_the_shell_through_a_pipe():
    done = run("shell", "--stats", "json", typed=b"isprime 49\nexit\n")
    stats = figures(done)
    assert b"isPrime(49) = 0" in done.stdout
    assert done.stderr.decode().strip() == "The guest has powered off."
    assert set(stats) >= STATS
    assert stats["engine"] == "bt"
    assert set(stats["mmu"]) >= {"hidden_faults", "true_faults", "trace_faults"}
    assert set(stats["translation"]) >= {
        "units", "guest_instructions", "ident", "fragments", "chained", "invalidated"
    }  # fmt: skip


def test_the_digest_of_the_serial_line_is_that_of_what_was_printed():
    done = run("shell", "--engine", "bare", "--stats", "json", typed=b"exit\n")
    serial = b"".join(done.stdout.splitlines(keepends=True)[:-1])
    assert figures(done)["serial_sha256"] == hashlib.sha256(serial).hexdigest()


def test_the_same_run_twice_logs_the_same_bytes_and_their_digest(tmp_path):
    logs, digests = [], set()
    for name in ("a", "b"):
        file = tmp_path / name
        done = run("shell", "--events", file, "--stats", "json", "--seed", "7", typed=b"forkwait 2\nexit\n")
        digests.add(figures(done)["events_sha256"])
        logs.append(file.read_bytes())
    assert logs[0] == logs[1]
    assert digests == {hashlib.sha256(logs[0]).hexdigest()}
    assert all("event" in json.loads(line) for line in logs[0].splitlines())


def test_how_fast_a_pipe_is_written_does_not_change_the_run():
    command = [*COMMAND, "shell", "--engine", "bare", "--stats", "json"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as slow:
        assert slow.stdin is not None
        assert slow.stdout is not None
        time.sleep(1)
        slow.stdin.write(b"isprime 49\nexit\n")
        slow.stdin.close()
        out = slow.stdout.read()
    at_once = run("shell", "--engine", "bare", "--stats", "json", typed=b"isprime 49\nexit\n")
    assert json.loads(out.splitlines()[-1])["events_sha256"] == figures(at_once)["events_sha256"]


@pytest.mark.parametrize("engine", ["bare", "bt", "svm"])
def test_instructions_is_exact(flat, engine):
    stats = figures(run(flat(LOOP), "--engine", engine, "--instructions", "12345", "--stats", "json"))
    assert stats["instructions"] == 12345


# What a person gets wrong


def refused(done: subprocess.CompletedProcess[bytes]) -> str:
    said = done.stderr.decode()
    assert done.returncode == 2, said
    assert done.stdout == b""
    assert said.startswith("vilab: ")
    assert said.count("\n") == 1
    return said


def test_a_truncated_elf(flat):
    assert "truncated" in refused(run(flat(forge.elf()[:-3], "guest.elf")))


def test_an_unknown_format(flat):
    assert "format" in refused(run(flat(b"PNG, or something like it", "guest.png")))


def test_an_image_that_overlaps_the_monitor(flat):
    at = MONITOR_WINDOW[0]
    said = refused(run(flat(forge.elf([(at, 0x200000, forge.CODE, 6)], entry=at), "guest.elf"), "--engine", "bt"))
    assert f"{at:08x}" in said.lower() or "VMM" in said


@pytest.mark.parametrize("memory", ["4K", "1M"])
def test_too_little_memory(memory):
    assert "memory" in refused(run("shell", "--memory", memory))


def test_no_such_image_names_the_bundled_ones():
    assert "isprime" in refused(run("isprim"))


def test_an_initial_ram_disk_that_is_not_there(tmp_path):
    assert "no-such-file" in refused(run("shell", "--initrd", tmp_path / "no-such-file"))


def test_events_into_a_folder_that_is_not_there(tmp_path):
    assert "no-such-folder" in refused(run("isprime", "--events", tmp_path / "no-such-folder" / "log"))


# What a guest does to itself


@pytest.mark.parametrize("engine", ["bare", "trap", "bt", "svm"])
def test_an_undefined_opcode_without_a_handler_is_a_triple_fault(flat, engine):
    done = run(flat(UD2), "--engine", engine)
    assert done.returncode == 3, done.stderr.decode()
    assert done.stderr.decode().count("\n") == 1
    assert b"Triple fault at 00100000" in done.stderr
    assert b"#UD" in done.stderr


def test_a_privileged_instruction_with_nobody_to_help(flat):
    done = run(flat(HLT), "--engine", "deprivileged")
    assert done.returncode == 3
    assert b"hlt" in done.stderr
    assert b"ring 1" in done.stderr


@pytest.mark.parametrize("engine", ["bare", "bt", "svm"])
def test_a_halt_that_nothing_can_end(flat, engine):
    done = run(flat(HLT), "--engine", engine)
    assert done.returncode == 3
    assert b"halted with interrupts off" in done.stderr


@pytest.mark.parametrize("engine", ["bare", "bt", "svm"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_endless_guest_ends_when_told_to_and_leaves_nothing_running(flat, engine, number):
    speaks_first = bytes.fromhex("66baf803 b021 ee") + LOOP  # mov dx, 0x3f8; mov al, "!"; out dx, al
    with subprocess.Popen(
        [*COMMAND, flat(speaks_first), "--engine", engine], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as endless:
        assert endless.stdout is not None
        assert endless.stdout.read(1) == "!"
        endless.send_signal(number)
        _, said = endless.communicate(timeout=20)
    assert endless.returncode == 130
    assert said == "vilab: stopped at the keyboard.\n"


def test_a_reader_that_goes_away_ends_the_run_quietly(flat):
    with subprocess.Popen(
        [*COMMAND, "shell", "--engine", "bare"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as cut:
        assert cut.stdin is not None
        assert cut.stdout is not None
        assert cut.stderr is not None
        cut.stdout.read(1)
        cut.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            cut.stdin.write(b"isprime 49\n" * 100 + b"exit\n")
            cut.stdin.close()
        said = cut.stderr.read().decode()
    assert "Traceback" not in said
    assert cut.returncode == 0


# On a terminal


def test_a_person_types_and_leaves_and_the_terminal_is_as_before():
    pty = pytest.importorskip("pty", reason="pseudo-terminals exist on Unix only")
    termios = pytest.importorskip("termios", reason="pseudo-terminals exist on Unix only")
    person, process = pty.openpty()
    before = termios.tcgetattr(process)
    with subprocess.Popen(
        [*COMMAND, "shell", "--engine", "bt"], stdin=process, stdout=process, stderr=subprocess.PIPE, text=True
    ) as session:
        expect(person, b"shell> ")
        os.write(person, b"isprime 7\r")
        assert b"isPrime(7) = 1" in expect(person, b"shell> ")
        os.write(person, b"\x1d")
        _, said = session.communicate(timeout=20)
    assert session.returncode == 130
    assert "Ctrl-]" in said
    assert termios.tcgetattr(process) == before
    os.close(person)
    os.close(process)


def expect(fd: int, wanted: bytes, seconds: float = 60) -> bytes:
    """Everything that the terminal shows up to and including ``wanted``."""
    seen, deadline = b"", time.monotonic() + seconds
    while wanted not in seen:
        ready, _, _ = select.select([fd], [], [], max(0, deadline - time.monotonic()))
        assert ready, f"{wanted!r} has not come; on the terminal: {seen!r}"
        seen += os.read(fd, 4096)
    return seen
