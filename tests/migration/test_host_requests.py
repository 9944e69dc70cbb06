"""An agent and what nobody has foreseen: hostile values, and defects. One request fails, the host goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vilab.errors import AdminError, VmmBug
from vilab.host.host import Host
from vilab.host.off_folder import OffFolder
from vilab.host.storage import StorageOptions
from vilab.host.vm_home import VmHome
from vilab.migration import agent_requests as ask
from vilab.migration import host_requests
from vilab.migration.host_agent import HostAgent
from vilab.migration.host_requests import request_words
from vilab.migration.host_tasks import Progress, Steps, Stepwise
from vilab.migration.line import MOST_TYPED_BYTES

WEB = 'displayName = "web"\nmemsize = "4"\nvilab.image = "kernel"\nvilab.engine = "svm"\n'


class Caller:
    """Somebody who has called, without a connection."""

    def __init__(self) -> None:
        self.heard: list[ask.Request] = []

    def answer(self, message: ask.Request, _body: Any = ()) -> None:
        self.heard.append(ask.readable(message))


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[HostAgent]:
    (tmp_path / "san" / "web").mkdir(parents=True)
    (tmp_path / "san" / "web" / "web.vmx").write_text(WEB)
    host = Host(32, "esx1", storage=StorageOptions(keeps="wall"))
    host.storage.add_local("san", tmp_path / "san")
    made = HostAgent(host, b"what all hosts of this datacenter know")
    yield made
    made.close()


def asked(agent: HostAgent, request: ask.Request) -> ask.Request:
    """The last word on it."""
    caller: Any = Caller()
    agent.requests.answer(caller, request)
    for _ in range(1000):
        if caller.heard and not isinstance(caller.heard[-1], ask.Progress):
            last: ask.Request = caller.heard[-1]
            return last
        agent.step()
    raise AssertionError(f"{request} was not answered")


def why(answer: ask.Request) -> str:
    assert isinstance(answer, ask.Refused), answer
    return answer.why


@pytest.mark.parametrize(
    "bad", ["\0", "a\0b", "[san] a\0b/web.vmx", "x" * 5000, "a\nb", "", "/", "..", "[san]", "[] x", "\0:80"]
)
@pytest.mark.parametrize(
    "request_of",
    [
        lambda bad: ask.PowerOn(1, bad),
        lambda bad: ask.Relocate(1, bad, "san"),
        lambda bad: ask.Relocate(1, "[san] web/web.vmx", bad),
        lambda bad: ask.Clone(1, bad, "copy", "san"),
        lambda bad: ask.Clone(1, "[san] web/web.vmx", "copy", bad),
        lambda bad: ask.MoveFolder(1, bad, "127.0.0.1:1", "far"),
        lambda bad: ask.MoveFolder(1, "[san] web/web.vmx", bad, "far"),
        lambda bad: ask.AskFolder(1, bad),
        lambda bad: ask.AskFolder(1, bad, here=True),
        lambda bad: ask.Move(1, "web", bad),
        lambda bad: ask.MoveStorage(1, "web", bad),
        lambda bad: ask.MoveStorage(1, "web", "san", method=bad),
        lambda bad: ask.Suspend(1, bad),
        lambda bad: ask.PowerOff(1, bad),
    ],
)
def test_whatever_is_asked_for_is_refused_with_a_sentence(
    agent: HostAgent, request_of: Callable[[str], ask.Request], bad: str
) -> None:
    defects: list[Exception] = []
    agent.on_defect = defects.append
    assert isinstance(asked(agent, ask.PowerOn(7, "[san] web/web.vmx")), ask.Done)
    sentence = why(asked(agent, request_of(bad)))
    assert sentence.endswith((".", " ..."))
    assert not defects
    assert agent.host.vms["web"].runs


@pytest.mark.parametrize("error", [KeyError("scsi9:9"), VmmBug("an invariant broke"), RecursionError("too deep")])
def test_a_defect_in_a_request_ends_that_request(
    agent: HostAgent, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    defects: list[Exception] = []
    agent.on_defect = defects.append
    asked(agent, ask.PowerOn(7, "[san] web/web.vmx"))

    def broken(*_words: Any) -> str:
        raise error

    monkeypatch.setattr(host_requests, "suspend_file", broken)
    sentence = why(asked(agent, ask.Suspend(8, "web")))
    assert sentence.startswith(f"A defect of vilab on esx1 has ended suspend: {type(error).__name__}: ")
    assert defects == [error]
    asked(agent, ask.Suspend(9, "web"))
    assert defects == [error], "the same one is not said again and again"
    assert agent.host.vms["web"].runs


def test_a_defect_in_a_task_ends_that_task_and_lets_it_clear_up(agent: HostAgent) -> None:
    defects: list[Exception] = []
    closed: list[str] = []
    agent.on_defect = defects.append
    caller = Caller()

    def steps() -> Steps[str]:
        try:
            yield Progress(0.0, 0, "the disk")
            raise LookupError("no such block")
        finally:
            closed.append("closed")

    agent.requests.tasks.append(Stepwise("web", 3, steps(), caller.answer))
    for _ in range(3):
        agent.step()
    assert agent.requests.tasks == []
    assert "has ended what was being done with web: LookupError: no such block" in why(caller.heard[-1])
    assert closed == ["closed"]
    assert len(defects) == 1


def test_an_error_of_the_computer_is_a_sentence_and_no_defect(
    agent: HostAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent.on_defect = lambda error: pytest.fail(f"{error!r} is no defect")

    def full(*_words: Any) -> str:
        raise OSError(28, "No space left on device", "/srv/san/web/web.vmx.kept")

    monkeypatch.setattr(host_requests, "say_here", full)
    answer = asked(agent, ask.AskFolder(1, "[san] web/web.vmx", here=True))
    assert why(answer) == "esx1: No space left on device: /srv/san/web/web.vmx.kept."


def test_what_fails_at_the_end_does_not_keep_the_host_from_ending(agent: HostAgent) -> None:
    class Stubborn:
        about, doing, over = "web", "", False

        def pump(self) -> bool:
            return False

        def end(self) -> None:
            raise AssertionError("it was given up, which failed")

        def give_up(self, why: str) -> None:
            raise AdminError(why)

    agent.requests.tasks.append(Stubborn())
    asked(agent, ask.PowerOn(7, "[san] web/web.vmx"))
    agent.close()
    assert agent.host.vms == {}


def test_names_that_are_no_text_can_be_said() -> None:
    said = ask.readable(ask.Copying(1, "disk\udcff.vmdk", 1.0, 2))
    assert isinstance(said, ask.Copying)
    assert said.phase == "disk\\udcff.vmdk"
    long = ask.readable(ask.Refused(1, "x" * 10_000_000))
    assert isinstance(long, ask.Refused)
    assert len(long.why) < 5000
    lines = ask.readable(ask.Done(1, "a\nb\x1b[2J is powered off."))
    assert isinstance(lines, ask.Done)
    assert lines.what == "a\\nb\\x1b[2J is powered off."
    plain = ask.Done(1, "web is powered off, on ésx1.")
    assert ask.readable(plain) is plain


def test_requests_are_called_as_a_person_does() -> None:
    assert request_words(ask.PowerOff(1, "web")) == "power off"
    assert request_words(ask.ListMachines(1)) == "list machines"


def test_while_a_folder_is_being_worked_on_others_are_told_what_is_done_with_it(agent: HostAgent) -> None:
    def slow() -> Steps[str]:
        while True:
            yield None

    where = "[san] web/web.vmx"
    agent.requests.tasks.append(Stepwise(where, 3, slow(), lambda _said: None, "is being moved to ds2"))
    for request in (
        ask.PowerOn(1, "[san] web//web.vmx"), ask.Relocate(1, where, "san"), ask.Clone(1, where, "copy", "san"),
        ask.MoveFolder(1, where, "127.0.0.1:1", "far"),
    ):  # fmt: skip
        assert why(asked(agent, request)) == f"{where} is being moved to ds2 by esx1: ask again when that is over."
    agent.requests.tasks.clear()
    caller: Any = Caller()
    for number in (1, 2):
        agent.requests.answer(caller, ask.PowerOn(number, where))
    agent.step()
    assert caller.heard == [
        ask.Refused(2, f"{where} is being powered on by esx1: ask again when that is over."),
        ask.Done(1, "web is powered on on esx1."),
    ]
    for request in (ask.PowerOn(3, where), ask.MoveFolder(3, where, "127.0.0.1:1", "far")):
        sentence = why(asked(agent, request))
        assert sentence == f"{where} is powered on already, on host esx1: ask for web by its name, or power it off."


def test_a_machine_that_is_held_is_not_sent_to_another_host(agent: HostAgent) -> None:
    asked(agent, ask.PowerOn(1, "[san] web/web.vmx"))
    disks = agent.host.vms["web"].disks
    assert disks is not None
    assert disks.snapshots is not None
    disks.snapshots.held = "web is being cloned; wait until that has been done."
    sentence = why(asked(agent, ask.Move(2, "web", "127.0.0.1:1")))
    assert sentence == "web does not move to another host now: web is being cloned; wait until that has been done."


def test_no_more_is_typed_than_can_go_along(agent: HostAgent) -> None:
    asked(agent, ask.PowerOn(1, "[san] web/web.vmx"))
    agent.host.vms["web"].stunned = True
    assert isinstance(asked(agent, ask.Type(2, "web", b"x" * MOST_TYPED_BYTES)), ask.Done)
    assert f"and {MOST_TYPED_BYTES} that it has not read yet" in why(asked(agent, ask.Type(3, "web", b"x")))


def test_a_rule_with_too_many_digits_is_none(agent: HostAgent) -> None:
    asked(agent, ask.PowerOn(1, "[san] web/web.vmx"))
    sentence = why(asked(agent, ask.Move(2, "web", "127.0.0.1:1", rule="downtime:" + "9" * 5000)))
    assert "is not a number of milliseconds" in sentence


def test_a_file_whose_name_is_no_text_is_not_sent(agent: HostAgent, tmp_path: Path) -> None:
    (tmp_path / "san" / "web" / "a\udcff.dat").write_bytes(b"")
    home = VmHome(agent.host.storage, "[san] web/web.vmx")
    with pytest.raises(AdminError, match=r"web was not moved to esx2: the name of its file 'a\\udcff.dat' is no text"):
        OffFolder(home, "web was not moved to esx2")
    assert isinstance(asked(agent, ask.PowerOn(1, "[san] web/web.vmx")), ask.Done), "its lock is free"


def test_where_nobody_listens_that_is_all_that_is_said(agent: HostAgent) -> None:
    for request in (
        ask.MoveFolder(1, "[san] web/web.vmx", "127.0.0.1:1", "far"), ask.PowerOn(1, "[san] web/web.vmx"),
        ask.Move(1, "web", "127.0.0.1:1"),
    ):  # fmt: skip
        answer = asked(agent, request)
        assert isinstance(request, ask.PowerOn) or why(answer) == (
            "The connection of host esx1 with 127.0.0.1:1 could not be made (Connection refused): look whether an "
            "agent listens there."
        )


def test_a_host_is_not_asked_to_send_to_itself_nor_a_name_taken_for_a_file(agent: HostAgent) -> None:
    asked(agent, ask.PowerOn(1, "[san] web/web.vmx"))
    sentence = why(asked(agent, ask.Move(2, "web", agent.address)))
    assert sentence == f"{agent.address} is esx1 itself: say the address of another host."
    asked(agent, ask.PowerOff(3, "web"))
    sentence = why(asked(agent, ask.MoveFolder(4, "[san] web/web.vmx", agent.address, "far")))
    assert sentence == f"{agent.address} is esx1 itself: relocate and clone are for datastores of one host."
    for request in (ask.PowerOn(5, "web"), ask.Relocate(5, "web", "san")):
        assert "'web' is not the configuration file of a machine" in why(asked(agent, request))
    assert why(asked(agent, ask.Suspend(6, "web"))) == "There is no virtual machine web on esx1 that is powered on."
