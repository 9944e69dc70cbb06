"""Two hosts that hand a machine over to each other, step by step, and a third one that looks at what is left.

::

    choices      source, destination                        the next step of that side
                 source dies, destination dies              it has no power any more, in the middle of its work
                 source sleeps, destination sleeps          it stands still, without heartbeats, until the other one is
                                                            done; then it goes on as if nothing had been

``explore`` tries every order of choices, with at most one death or sleep in each, and asks ``World.judge`` every time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from tests.host.storage_helpers import SECOND
from tests.migration.handover_site import EARLIER, LATER, NODE, SESSION, Died, Fuse, Site, open_disks
from vilab.errors import AdminError
from vilab.host.host import Host
from vilab.host.mounted import MountedLocal, MountedNfs, MountedVmfs
from vilab.host.storage_time import pass_time
from vilab.host.vm_disks import VmDisks
from vilab.migration.handover import Answer, Lost, Offer, Reclaimed, TakenOver, Waiting, reattach
from vilab.migration.handover_destination import DestinationSide
from vilab.migration.handover_source import SourceSide
from vilab.storage.luns.fc_hba import HostBusAdapter
from vilab.storage.nfs.locks import LockedError


class Side:
    """A host, and what it does step by step. ``disks``: it runs the machine, with these."""

    def __init__(self, host: Host, fuse: Fuse) -> None:
        self.host, self.fuse = host, fuse
        self.dead = self.asleep = self.done = False
        self.disks: VmDisks | None = None
        self.why = ""
        self.steps: list[str] = []
        self.work: Iterator[str] = iter(())

    @property
    def reason(self) -> str:
        """Why it does not run the machine."""
        return "it has died" if self.dead else self.why or (self.disks.lost if self.disks is not None else "")

    @property
    def runs(self) -> bool:
        return self.disks is not None and not self.disks.lost and not self.dead

    def step(self) -> None:
        try:
            self.steps.append(next(self.work))
        except StopIteration:
            self.done = True
        except Died:
            self.die()

    def die(self) -> None:
        self.dead = self.done = True
        if self.disks is not None:
            self.disks.abandon()
        self.host.cut_power()
        for adapter in self.host.storage.adapters.adapters:
            if isinstance(adapter, HostBusAdapter):  # the array hears of it, and ends a reservation
                adapter.fabric.link(adapter.wwpn, False)

    def sleep(self) -> None:
        """No heartbeat and no renewal leaves it."""
        self.asleep = True
        mounted = self.host.storage.mounted("san1")
        if isinstance(mounted, MountedVmfs):
            mounted._stop()
        elif isinstance(mounted, MountedNfs):
            for locks in mounted._held:
                locks.abandon()
            mounted.nfs.health.stop()

    def wake(self) -> None:
        self.asleep = False
        mounted = self.host.storage.mounted("san1")
        if isinstance(mounted, MountedVmfs):
            mounted._arm()
        elif isinstance(mounted, MountedNfs):
            for locks in mounted._held:
                locks._arm()
            mounted.nfs.health.start()


class World:
    """The source and the destination of one hand-over, on a datastore of its own. ``steps``: the source does not wait
    for locks, it asks for them again and again."""

    def __init__(self, site: Site, steps: bool = False) -> None:
        self.steps = steps
        hosts, fuses = site.hosts()
        self.hosts, self.clock = hosts, hosts[0].clock
        self.source, self.destination = Side(hosts[0], fuses[0]), Side(hosts[1], fuses[1])
        self.source.disks = open_disks(hosts[0])
        self.source.disks.devices()[NODE].write(0, EARLIER)
        self.moving = SourceSide(self.source.disks, SESSION, "esx2")
        self.offer: Offer | None = None
        self.dead_ns = (40 if isinstance(hosts[0].storage.mounted("san1"), MountedNfs) else 20) * SECOND
        """Who is silent for so long has no locks any more."""
        self.slept = False
        self.patience = 0
        """How often the destination asks again where the locks are on a file server."""
        self.answer: Answer | None = None
        self.source.work, self.destination.work = self._source(), self._destination()

    def close(self) -> None:
        for host in self.hosts:
            with contextlib.suppress(AdminError):
                host.storage.cut_power()

    # --- what they do -------------------------------------------------------------------------------------------------

    def _source(self) -> Iterator[str]:
        before = self.source.disks
        assert before is not None
        giving = self.moving.give_back_steps()
        while True:
            try:
                name = next(giving)
            except StopIteration as stop:
                self.offer = stop.value
                break
            if self.moving.given_back:
                self.source.disks = None
            yield name
        yield "offer sent"
        for _ in range(2):  # it hears nothing
            asking = self.moving.reclaim_steps()
            while True:
                try:
                    with self.hosts[0].storage.stepwise(self.steps):
                        name = next(asking)
                except StopIteration as stop:
                    self.answer = stop.value
                    break
                yield name
            if isinstance(self.answer, Reclaimed):
                reattach(before, self.answer.disks)
                self.source.disks = self.answer.disks
                return
            assert self.answer is not None
            self.source.why = self.answer.sentence
            if not isinstance(self.answer, Waiting):
                return
            yield "refused"

    def _destination(self) -> Iterator[str]:
        assert self.offer is not None
        side = DestinationSide(self.hosts[1].storage, self.offer, SESSION, self.clock, self.hosts[1].log)
        for _ in range(1 + self.patience):
            try:
                yield from side.take_steps()
                disks = yield from side.commit_steps()
                self.destination.disks = disks
                return
            except LockedError as error:
                self.destination.why = str(error)
                if self.patience:
                    pass_time(self.clock, 10 * SECOND)
            except AdminError as error:
                self.destination.why = str(error)
                return

    # --- what is chosen -----------------------------------------------------------------------------------------------

    def choices(self, disturbed: bool) -> list[str]:
        """What may come next. ``disturbed``: one of them has died or slept already."""
        if self.source.dead or self.destination.dead:
            return []  # ``finish`` lets the other one go on
        sides = [("source", self.source)]
        if self.offer is not None:
            sides.append(("destination", self.destination))
        moves = [name for name, side in sides if not side.done]
        if disturbed or not moves:
            return moves
        never_lapse = isinstance(self.hosts[0].storage.mounted("san1"), MountedLocal)  # whoever sleeps
        whats = ("dies",) if never_lapse else ("dies", "sleeps")
        return moves + [f"{name} {what}" for name, side in sides for what in whats if not side.done]

    def at(self, choice: str) -> tuple[object, ...]:
        """Where both of them are, and what comes next."""
        return *self.source.steps, "|", *self.destination.steps, "|", choice

    def choose(self, choice: str) -> None:
        name, _, what = choice.partition(" ")
        side: Side = getattr(self, name)
        if not what:
            side.step()
        elif what == "dies":
            side.die()
        else:
            self.nap(side)
        self.at_most_one()

    def nap(self, side: Side) -> None:
        """It stands still until the other one is done, and longer than anybody waits."""
        side.sleep()
        self._let(self.destination if side is self.source else self.source)
        pass_time(self.clock, self.dead_ns)
        side.wake()
        self.slept = True

    def _let(self, side: Side) -> None:
        """It goes on to its end, and is patient."""
        if side is self.destination and self.offer is None:
            return
        while not side.done and not side.dead:
            side.step()
            self.at_most_one()
        if side is self.source and isinstance(self.answer, Waiting) and not side.dead:
            before = self.moving.disks
            with self.hosts[0].storage.stepwise(self.steps):
                self.answer = self.moving.settle(lambda ns: pass_time(self.clock, ns), interval_ns=10 * SECOND)
            if isinstance(self.answer, Reclaimed):
                reattach(before, self.answer.disks)
                side.disks = self.answer.disks
            else:
                side.why = self.answer.sentence

    def finish(self) -> None:
        for side in (self.destination, self.source):
            if side is self.source or self.offer is not None:
                self._let(side)
        if isinstance(self.answer, Waiting) and not self.source.dead:
            self._let(self.source)
        if self.slept:  # its next heartbeat tells it
            pass_time(self.clock, 20 * SECOND)
        self.at_most_one()

    # --- what has to be true ------------------------------------------------------------------------------------------

    def at_most_one(self) -> None:
        assert not (self.source.runs and self.destination.runs), "both run it"

    def runner(self) -> Side | None:
        return next((side for side in (self.source, self.destination) if side.runs), None)

    def judge(self) -> None:
        """One runs it, and what it writes is on the disk, and the lock is its own; or none does, and the disk is clean,
        anybody may power it on, and there is a reason."""
        runner, third = self.runner(), self.hosts[2]
        if runner is None:
            for side in (self.source, self.destination):
                started = side is self.source or self.offer is not None
                assert side.reason or not started, "off, and nobody says why"
            self._open_and_check(third, EARLIER)
            return
        assert runner.disks is not None
        runner.disks.devices()[NODE].write(0, LATER)
        runner.disks.devices()[NODE].flush()
        other = self.destination if runner is self.source else self.source
        for host in (third, *(() if other.dead else (other.host,))):
            with pytest.raises(AdminError, match=f"{runner.host.name}|is lost to this host"):
                open_disks(host)
        pass_time(self.clock, self.dead_ns)
        assert runner.runs
        if not other.dead and runner is self.destination:
            assert isinstance(self.answer, TakenOver | Lost), self.answer
            if isinstance(self.answer, TakenOver):
                assert self.answer.host == runner.host.name
            else:
                assert "Whether esx2 runs it is not known here" in self.answer.sentence
        assert runner.disks.close() == []
        self._open_and_check(third, LATER)

    def _open_and_check(self, host: Host, content: bytes) -> None:
        for _ in range(6):
            try:
                disks = open_disks(host)
                break
            except AdminError:
                pass_time(self.clock, 10 * SECOND)
        else:
            raise AssertionError("the files stay locked")
        assert disks.devices()[NODE].read(0, 512) == content
        disks.close()


def explore(make: Callable[[], World], judge: Callable[[World, list[str]], None], disturbances: bool) -> int:
    """Every order of choices there is; how many. With ``disturbances``: to every point that the two sides can come to,
    by one of the orders that lead there, and every disturbance from there."""
    left: list[list[str]] = [[]]
    seen: set[tuple[object, ...]] = set()
    runs = 0
    while left:
        chosen = left.pop()
        world = make()
        begun = len(chosen)
        try:
            for choice in chosen:
                world.choose(choice)
            while choices := world.choices(not disturbances or any(" " in each for each in chosen)):
                new = [choice for choice in choices[1:] if not disturbances or world.at(choice) not in seen]
                seen.update(world.at(choice) for choice in choices)
                left += [[*chosen, other] for other in new]
                chosen = [*chosen, choices[0]]
                world.choose(choices[0])
            world.finish()
            judge(world, chosen)
        except BaseException as error:
            error.add_note(f"order: {', '.join(chosen)} (chosen anew from {begun})")
            raise
        finally:
            world.close()
        runs += 1
    return runs
