"""Exercise 20b: whose disk counts after a death. The judge: another host, which tries to power on what there is.

::

    names in both folders, and     ──> source | destination | nobody      every state of a real move, copied; as it is,
    the move's number in them                                             or changed by somebody since
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, cast

import msgspec

from vilab.course.exercise_student import call
from vilab.course.feedback import Feedback, WrongAnswer, right
from vilab.course.storage_move_machine import METHODS, NEW, OLD, OPTIONS, SQUARE, disk_of, host_with, machine
from vilab.errors import AdminError
from vilab.host.host import Host
from vilab.host.registered import power_on_file
from vilab.host.vm_move import NUMBER
from vilab.host.vmx import parse
from vilab.migration.storage_vmotion import MethodName, StorageVmotion
from vilab.vmm.vm import QuietConsole

Verdict = Literal["source", "destination", "nobody"]
Numbers = dict[str, str]
ANOTHER = "0" * 16


class State(msgspec.Struct, frozen=True):
    """What was left by a host that died: names of files, and the number of the move that is written in
    each: 1, or 2 for another one; nothing where there is none."""

    source: Numbers
    destination: Numbers

    def __str__(self) -> str:
        return f"{_short(self.source)}, {_short(self.destination)}"


class Case(msgspec.Struct, frozen=True):
    """``verdict``: where another host could power it on. ``said``: what that one was told at the source."""

    state: State
    verdict: Verdict
    said: str


def _short(names: Numbers) -> str:
    return "{" + ", ".join(f"{name}: {number or '-'}" for name, number in sorted(names.items())) + "}"


def _numbers(folder: Path) -> Numbers:
    found: Numbers = {}
    for file in folder.iterdir() if folder.exists() else ():
        if file.name.startswith("web.vmx") and not file.name.endswith(".lck"):
            text = parse(file.read_bytes(), file.name)
            number = text.get("move.number") or text.get(NUMBER)
            found[file.name] = "" if number is None else "2" if number == ANOTHER else "1"
        elif file.name.endswith(".vmdk") and not file.name.endswith(("-flat.vmdk", "-delta.vmdk")):
            found[file.name] = ""
    return found


def _state(at: Path) -> State:
    return State(_numbers(at / OLD / "web"), _numbers(at / NEW / "web"))


def _as_it_is(_at: Path) -> bool:
    return True


def _about_to_arrive(at: Path) -> bool:
    return (at / OLD / "web/web.vmx.switching").exists() and (at / NEW / "web/web.vmx.moving").exists()


def _withdrawn(at: Path) -> bool:
    """Another host has been here, and has seen to it that the copy never arrives."""
    if at_all := _about_to_arrive(at):
        (at / NEW / "web/web.vmx.moving").rename(at / NEW / "web/web.vmx.withdrawn")
    return at_all


def _occupied(at: Path) -> bool:
    """Afterwards somebody has made another machine in the new folder."""
    if at_all := _withdrawn(at):
        shutil.copy(at / OLD / "web/web.vmx", at / NEW / "web/web.vmx")
    return at_all


def _lost(at: Path) -> bool:
    """The new folder is not there any more."""
    if at_all := _about_to_arrive(at):
        shutil.rmtree(at / NEW / "web")
    return at_all


def _another_move(at: Path) -> bool:
    """What is in the new folder belongs to another move than what is in the old one."""
    for record in (at / OLD / "web").glob("web.vmx.*"):
        number = (
            parse(record.read_bytes(), record.name).get("move.number") if not record.name.endswith(".lck") else None
        )
        if number and (at / NEW / "web").exists():
            record.write_bytes(record.read_bytes().replace(number.encode(), ANOTHER.encode()))
            return True
    return False


DAMAGES: tuple[Callable[[Path], bool], ...] = (_withdrawn, _occupied, _lost, _another_move)


@cache
def cases(method: MethodName, damaged: bool = False, given_up: bool = False) -> tuple[Case, ...]:
    """Every state of a move, judged on copies of both folders. ``damaged``: what somebody may have done to them since,
    instead. ``given_up``: the machine was powered off in the middle of the move."""
    found: dict[str, Case] = {}
    with machine(4 * SQUARE) as (folder, host, vm), tempfile.TemporaryDirectory(prefix="vilab-state-") as name:

        def look() -> None:
            for change in DAMAGES if damaged else (_as_it_is,):
                case = _judge(folder, Path(name) / "case", change)
                if case is not None:
                    found.setdefault(str(case.state), case)

        _watch(host, look)
        StorageVmotion(host, vm, NEW, method, OPTIONS)
        for _ in range(2) if given_up else iter(lambda: vm.merge is None, True):
            disk_of(vm).write(SQUARE, bytes(SQUARE // 2))
            vm.merge_step()
        if given_up:
            host.power_off(vm)
    return tuple(found.values())


def _watch(host: Host, look: Callable[[], None]) -> None:
    """``look`` after every change of a name."""

    def watched(do: Callable[..., Any]) -> Callable[..., Any]:
        def done(*arguments: Any) -> Any:
            answer = do(*arguments)
            look()
            return answer

        return done

    for name in (OLD, NEW):
        datastore = host.storage.mounted(name).datastore
        for what in ("create", "rename", "remove"):
            setattr(datastore, what, watched(getattr(datastore, what)))


def _judge(folder: Path, at: Path, change: Callable[[Path], bool]) -> Case | None:
    """``None``: there is nothing to change in that way."""
    shutil.rmtree(at, ignore_errors=True)
    for name in (OLD, NEW):
        shutil.copytree(folder / name, at / name, ignore=shutil.ignore_patterns("*.vswp"))
    if not change(at):
        return None
    state, said = _state(at), ""
    with host_with(at) as host:
        for datastore, verdict in ((OLD, "source"), (NEW, "destination")):
            try:
                power_on_file(host, f"[{datastore}] web/web.vmx", console=QuietConsole())
                return Case(state, cast(Verdict, verdict), said)
            except AdminError as error:
                said = said or str(error).replace(f"{at}/", "")
                if "web.vmx" in state.source and "has been moved" not in said:
                    break
    return Case(state, "nobody", said)


Whose = Callable[[Numbers, Numbers], object]
ALL: tuple[tuple[MethodName, bool, bool], ...] = tuple(
    (method, damaged, given_up) for method in METHODS for damaged in (False, True) for given_up in (False, True)
)


def check_whose(whose: Whose, moves: Sequence[tuple[MethodName, bool, bool]] = ALL[:1]) -> Feedback:
    """``whose(source, destination)``: ``source``, ``destination`` or ``nobody``. ``moves``: arguments of ``cases``."""
    asked = [case for move in moves for case in cases(*move)]
    for case in asked:
        words = f"whose({case.state})"
        found = call(whose, dict(case.state.source), dict(case.state.destination), said=words)
        if found != case.verdict:
            told = f" It was told: {case.said}" if case.said else ""
            raise WrongAnswer(f"{words} gave {found!r:.40}; another host has found: {case.verdict}.{told}")
    return right(f"{len(asked)} deaths; each time another host has tried to power on what was left.")
