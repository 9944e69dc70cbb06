"""The command line: what a person gets wrong is one sentence and an exit status, never a traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from vilab import __version__, cli
from vilab.commands.bench import table
from vilab.commands.run import parse_size
from vilab.errors import AdminError, GuestStopped, VmmBug

MIB = 1 << 20


def vilab(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vilab.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("64M", 64 * MIB),
        ("64m", 64 * MIB),
        ("64MB", 64 * MIB),
        ("1G", 1024 * MIB),
        ("65536K", 64 * MIB),
        ("4096", 4096),
    ],
)
def test_sizes_are_read_as_people_write_them(text, size_bytes):
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize("text", ["", "M", "64X", "-1M", "6 4M", "1.5G", "4097", "0", "4G", "64BM", "²M"])
def test_a_size_that_cannot_be_is_refused_with_a_sentence(text):
    with pytest.raises(AdminError, match=r"^The guest was not started: .*\.$"):
        parse_size(text)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (AdminError("no such image"), 2),
        (GuestStopped("triple fault"), 3),
        (VmmBug("count off"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_each_family_of_errors_has_its_exit_status(monkeypatch, capsys, error, status):
    def fail(_choices):
        raise error

    monkeypatch.setattr(cli, "doctor", fail)
    assert cli.main(["doctor"]) == status
    said = capsys.readouterr().err
    assert said.startswith("vilab: ")
    assert len(said.splitlines()) == 1
    assert "Traceback" not in said


def test_version_is_the_packages_own():
    assert vilab("--version").stdout.strip() == f"vilab {__version__}"


def test_an_unknown_engine_is_refused_before_anything_runs():
    done = vilab("run", "isprime", "--engine", "kvm")
    assert done.returncode == 2
    assert "deprivileged" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bad_memory_size_is_one_sentence():
    done = vilab("run", "isprime", "--memory", "lots")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1


def test_reset_of_an_unknown_lesson_names_the_lessons(tmp_path):
    done = vilab("reset", "99", "--dir", str(tmp_path))
    assert done.returncode == 2
    assert "01-" in done.stderr
    assert not list(tmp_path.iterdir())


def test_doctor_finds_everything_that_the_lessons_need_and_says_so():
    done = vilab("doctor")
    assert done.returncode == 0, done.stdout
    assert "MISSING" not in done.stdout
    assert "unicorn" in done.stdout


def test_doctor_names_a_missing_package_and_how_to_get_it(monkeypatch, capsys):
    from vilab.commands import doctor

    needed = (*doctor.NEEDED, ("no-such-thing", "no_such_thing", "nothing"))
    monkeypatch.setattr(doctor, "NEEDED", needed)
    assert cli.main(["doctor"]) == 2
    line = next(line for line in capsys.readouterr().out.splitlines() if "no-such-thing" in line)
    assert line.startswith("MISSING")
    assert "pip install" in line


def test_doctor_reports_another_unicorn_than_the_one_pinned(monkeypatch):
    from vilab.commands import doctor

    real = doctor.importlib.metadata.version
    monkeypatch.setattr(doctor.importlib.metadata, "version", lambda d: "2.1.5" if d == "unicorn" else real(d))
    finding = doctor._package("unicorn", "unicorn", "the processor")
    assert finding.mark == "MISSING"
    assert "==2.1.4 is needed" in finding.note


def test_doctor_says_which_guest_of_others_is_not_there(monkeypatch, tmp_path):
    from vilab.commands import doctor

    monkeypatch.setenv("VILAB_INTEROP_DIR", str(tmp_path))
    (tmp_path / "memtest86+ia32.bin").write_bytes(b"x")
    marks = {f.what: f.mark for f in doctor.look_around()}
    assert marks["memtest86+ia32.bin"] == "ok"
    assert marks["gnumach-1.8-486"] == "absent"


def test_figures_are_printed_in_columns():
    text = table({"ring3_bt": {"value": 95.0, "unit": "MIPS", "baseline": 100.0, "ratio": 0.95, "median_of": 5}})
    head, row = text.splitlines()
    assert row.split() == ["ring3_bt", "95.000", "MIPS", "100", "0.950", "5"]
    assert len(head) == len(row)


def test_stats_are_the_last_line_even_after_an_unfinished_line_of_the_guest(monkeypatch, capfd):
    """The command around a run, with a stand-in for the run itself."""
    import types

    class RunOptions(types.SimpleNamespace):
        pass

    def run_image(options, console):
        console.write(b"no newline at the end")
        return types.SimpleNamespace(exit_status=0, sentence="It returned.", stats={"engine": options.engine})

    runner = types.ModuleType("vilab.vmm.runner")
    runner.RunOptions, runner.run_image = RunOptions, run_image  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vilab.vmm.runner", runner)
    assert cli.main(["run", "isprime", "--engine", "svm", "--stats", "json"]) == 0
    said = capfd.readouterr()
    assert said.out.splitlines()[0] == "no newline at the end"
    assert json.loads(said.out.splitlines()[-1]) == {"engine": "svm"}
    assert said.err == "It returned.\n"


def test_the_sources_of_every_command_are_in_the_table_of_commands():
    files = {p.stem for p in Path(cli.__file__).parent.joinpath("commands").glob("*.py")} - {"__init__"}
    from vilab import commands

    assert commands.__doc__ is not None
    assert all(f"``{name}``" in commands.__doc__ for name in files)
