"""The student's own copy of the lessons, so that the originals stay as they came.

::

    originals                           work copy ($VILAB_LESSONS, or ~/vilab-lessons)
      notebooks/01-rings.ipynb   --->     notebooks/01-rings.ipynb
      exercises/release/...      --->     exercises/...   without solutions
                                          .vilab.json     what was delivered: file -> SHA-256

For each file, three versions decide: the original now (O), what was delivered (D), what lies in the work copy (W).

======================  ==========================================================
W is missing            O is copied
W = D, O is newer       O is copied: nobody has changed W
W is not D              W stays as it is, whatever O is: it is the student's
======================  ==========================================================

``reset`` copies O over W after keeping W beside it as ``NAME.bak``.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

import vilab
from vilab.errors import AdminError

FOLDERS = {"notebooks": "notebooks", "exercises/release": "exercises"}
"""Folder of the originals -> folder of the work copy."""

RECORD_NAME = ".vilab.json"


class Copied(msgspec.Struct, frozen=True):
    """What ``refresh`` did, as paths relative to the work copy."""

    added: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


def originals_folder() -> Path:
    """Where the lessons came with: inside an installed package, beside it in a source checkout."""
    package = Path(vilab.__file__).resolve().parent
    for folder in (package / "_lessons", package.parent):
        if (folder / "notebooks").is_dir():
            return folder
    raise AdminError(
        f"The lessons were not found: there is no folder notebooks beside {package}. "
        "Install vilab again from its source."
    )


def work_folder(chosen: Path | None = None) -> Path:
    """The work copy: ``chosen``, else ``$VILAB_LESSONS``, else ``~/vilab-lessons``."""
    named = chosen or os.environ.get("VILAB_LESSONS")
    return Path(named).expanduser().resolve() if named else Path.home() / "vilab-lessons"


def originals(source: Path) -> dict[str, bytes]:
    """Every file that a student gets: relative path with forward slashes -> content, in the order of the names."""
    return dict(sorted(_files_for_students(source)))


def _files_for_students(source: Path) -> Iterator[tuple[str, bytes]]:
    for origin, folder in FOLDERS.items():
        for path in sorted((source / origin).rglob("*")):
            inside = path.relative_to(source / origin)
            if path.is_file() and not any(part.startswith((".", "__pycache__")) for part in inside.parts):
                yield f"{folder}/{inside.as_posix()}", path.read_bytes()


def refresh(source: Path, work: Path) -> Copied:
    """Bring new lessons into the work copy and newer versions of those that the student has not touched."""
    if source.resolve() == work.resolve():
        raise AdminError(f"Nothing was copied: {work} holds the originals. Choose another folder with --dir.")
    delivered = _read_record(work)
    added, updated, kept = [], [], []
    for name, content in originals(source).items():
        target = work / name
        digest = _sha256(content)
        if not target.exists():
            _write(target, content)
            added.append(name)
        elif (there := _sha256(_read(target))) == digest:
            pass
        elif there == delivered.get(name):
            _write(target, content)
            updated.append(name)
        else:
            if delivered.get(name) not in (None, digest):
                kept.append(name)
            continue
        delivered[name] = digest
    _write(work / RECORD_NAME, msgspec.json.encode(delivered))
    return Copied(tuple(added), tuple(updated), tuple(kept))


def reset(lesson: str, work: Path, source: Path | None = None) -> list[str]:
    """Bring one lesson back; returns what was done, a sentence each. ``lesson``: file name, stem or beginning of it."""
    files = originals(source or originals_folder())
    name = _find(lesson, list(files))
    target = work / name
    sentences = []
    if target.exists() and _read(target) != files[name]:
        backup = _free_name(target)
        _write(backup, _read(target))
        sentences.append(f"Your version is kept as {backup}.")
    _write(target, files[name])
    delivered = _read_record(work)
    delivered[name] = _sha256(files[name])
    _write(work / RECORD_NAME, msgspec.json.encode(delivered))
    sentences.append(f"{target} is as it came.")
    return sentences


def _find(lesson: str, names: list[str]) -> str:
    """The one file that is meant: an exact path or name wins over a beginning."""
    wanted = lesson.replace(os.sep, "/").strip("/")
    exact = [n for n in names if wanted in (n, n.rsplit("/", 1)[-1], n.rsplit("/", 1)[-1].removesuffix(".ipynb"))]
    found = exact or [n for n in names if wanted and n.rsplit("/", 1)[-1].startswith(wanted) and n.endswith(".ipynb")]
    lessons_first = [n for n in found if n.startswith("notebooks/")]
    if len(lessons_first) == 1:
        return lessons_first[0]
    if len(found) == 1:
        return found[0]
    if found:
        raise AdminError(f"Nothing was reset: {lesson!r} could be {' or '.join(found)}. Write more of the name.")
    known = ", ".join(n for n in names if n.endswith(".ipynb"))
    raise AdminError(f"Nothing was reset: there is no lesson {lesson!r}. The lessons are: {known}.")


def _free_name(target: Path) -> Path:
    backup = target.with_name(target.name + ".bak")
    number = 1
    while backup.exists():
        number += 1
        backup = target.with_name(f"{target.name}.bak{number}")
    return backup


def _read_record(work: Path) -> dict[str, str]:
    path = work / RECORD_NAME
    if not path.exists():
        return {}
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, str])
    except (OSError, msgspec.DecodeError):
        return {}  # without the record every file that differs counts as the student's: nothing is lost


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise AdminError(f"The work copy was left as it is: {path} cannot be read ({error.strerror}).") from error


def _write(path: Path, content: bytes) -> None:
    """All of it or nothing: an interrupted copy leaves no half of a notebook."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        raise AdminError(
            f"{path} was not written ({error.strerror}). Choose another folder with --dir or $VILAB_LESSONS."
        ) from error


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
