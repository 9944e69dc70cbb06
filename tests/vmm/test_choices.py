"""Options of engines: what goes together, and one sentence for what does not."""

from __future__ import annotations

import pytest

from vilab import cli
from vilab.errors import AdminError
from vilab.vmm.choices import engine_options, usual_for


def test_what_was_not_asked_for_is_left_to_the_engine():
    assert engine_options("bt") == {}
    assert engine_options("bt", placement="packed", trace="lazy") == {"placement": "packed", "trace": "lazy"}
    assert engine_options("svm", paging="shadow", trace="prevalidate") == {"paging": "shadow", "trace": "prevalidate"}


def test_a_stock_kernel_is_translated_the_quick_way_unless_told_otherwise():
    assert usual_for("linux", "bt", {}) == {"trace": "prevalidate", "superblocks": True, "ahead": 4}
    assert usual_for("linux", "bt", {"placement": "mirrored"}) == {"placement": "mirrored", "trace": "prevalidate"}
    assert usual_for("linux", "bt", {"trace": "all"})["trace"] == "all"
    assert usual_for("multiboot", "bt", {}) == {}
    assert usual_for("linux", "svm", {}) == {}


@pytest.mark.parametrize(
    ("engine", "options", "words"),
    [
        ("svm", {"placement": "mirrored"}, "--placement is for --engine bt"),
        ("bt", {"paging": "nested"}, "bt always has shadow page tables"),
        ("bare", {"paging": "nested"}, "bare has no VMM"),
        ("svm", {"trace": "lazy"}, "--paging shadow"),
        ("svm", {"trace": "lazy", "paging": "nested"}, "--paging shadow"),
        ("bare", {"trace": "all"}, "bare has no choice of traces"),
    ],
)
def test_what_does_not_go_together_is_refused(engine, options, words, capsys):
    with pytest.raises(AdminError, match=r"^--.*\.$") as caught:
        engine_options(engine, **options)
    assert words in str(caught.value)
    flags = [text for name, value in options.items() for text in (f"--{name}", value)]
    assert cli.main(["run", "isprime", "--engine", engine, *flags]) == 2
    assert capsys.readouterr().err == f"vilab: {caught.value}\n"


@pytest.mark.parametrize(
    ("engine", "flags"),
    [
        ("bt", ["--trace", "lazy"]),
        ("bt", ["--placement", "packed", "--trace", "prevalidate"]),
        ("svm", ["--paging", "nested"]),
        ("svm", ["--paging", "shadow", "--trace", "all"]),
    ],
)
def test_what_goes_together_runs(engine, flags, capfd):
    assert cli.main(["run", "isprime", "--engine", engine, *flags]) == 0, capfd.readouterr().err


def test_another_kernel_is_for_debian_only(capsys, tmp_path):
    assert cli.main(["run", "shell", "--kernel", str(tmp_path / "vmlinuz")]) == 2
    assert "vilab run debian" in capsys.readouterr().err
