"""Shards move with their flows, whoever comes, goes, dies, refuses or is slow meanwhile.

The units here are a second implementation of the contract, in memory: planes that know flows, tell their
seconds, hand over what they do not know; dispatchers that send past who is dead. What they are asked takes as
long as it likes, or fails. Some flows end in a plane's sockets: nobody else ever knows those.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trunkline.units import shard_moves
from trunkline.units.shard_moves import Drop, Give, Moves, Task, Tell
from trunkline.units.words import NOBODY, ShardWord

SHARDS = 16


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("SHARDS", SHARDS), ("MOVING", 8), ("FILLING", 6), ("BATCH", 4)):
            patch.setattr(shard_moves, name, value)
        yield


class Unit:
    """A data plane, or a dispatcher; what it has."""

    def __init__(self) -> None:
        self.table: dict[int, ShardWord] = {}
        self.flows: dict[int, set[int]] = {shard: set() for shard in range(SHARDS)}
        #: Those that end in its sockets.
        self.ends: dict[int, set[int]] = {shard: set() for shard in range(SHARDS)}
        #: Whom it keeps informed since it gave its flows.
        self.handed: dict[int, int] = {}


class Appliance:
    """Units, a manager's table, and what they were asked and have not answered."""

    def __init__(self, seed: int, planes: int, dispatchers: int = 2) -> None:
        self.chance = random.Random(seed)
        self.planes = {number: Unit() for number in range(planes)}
        self.dispatchers = {100 + number: Unit() for number in range(dispatchers)}
        self.leaving: set[int] = set()
        self.moves = Moves()
        self.asked: list[Task] = []
        self.tracked: set[tuple[int, int]] = set()
        #: Those that end in sockets: shard, flow, plane, and the dispatcher by which it comes.
        self.ending: set[tuple[int, int, int, int]] = set()
        #: There was a time since the last fault in which every copy was whole.
        self.whole = False
        self._names = iter(range(10**9))
        #: No unit has the number of one that was.
        self._numbers = itertools.filterfalse(self.dispatchers.__contains__, itertools.count(planes))
        self.takeover()

    @property
    def units(self) -> dict[int, Unit]:
        return self.planes | self.dispatchers

    # What happens.

    def takeover(self) -> None:
        """The manager dies; what it asked may be done still, and another one learns."""
        self.whole = False
        for task in self.asked:
            if self.chance.random() < 0.5:
                self._do(task)
        self.asked = []
        self.moves = Moves()
        tables = {n: unit.table for n, unit in self.units.items()}
        self.moves.learned(tables, self.dispatchers.keys(), self.units.keys())
        self.want()

    def want(self) -> None:
        self.moves.want({n: f"h{n % 2}" for n in self.planes.keys() - self.leaving or self.planes})

    def join(self) -> None:
        number = next(self._numbers)
        # Of one that was alone nobody has copies yet.
        self.whole = self.whole and len(self.planes) > 1
        self.planes[number] = Unit()
        self.moves.joined(number, {}, spreads=False, fresh=True)
        self.want()

    def leave(self) -> None:
        able = [n for n in self.planes if n not in self.leaving]
        if len(able) > 1:
            self.leaving.add(self.chance.choice(able))
            self.want()

    def go(self) -> None:
        """Whoever has nothing more goes."""
        whole = self.whole
        for number in [n for n in self.leaving if not self.moves.busy_with(n)]:
            assert not any(self.planes[number].flows.values())
            assert not any(self.planes[number].ends.values())
            self.leaving.discard(number)
            self.die(number)
        self.whole = whole

    def die(self, number: int) -> None:
        """What it alone knew is lost; dispatchers send to the seconds."""
        others = self.planes.keys() - self.leaving - {number}
        gone = self.planes.pop(number)
        if others and self.moves.uncopied() == 0:
            known = {
                (s, f) for unit in self.planes.values() for s, flows in unit.flows.items() for f in flows
            }
            assert self.tracked <= known, "it is said that all would survive"
        self.leaving.discard(number)
        self.ending = {each for each in self.ending if each[2] != number}
        self.tracked = {(s, f) for s, f in self.tracked if self._needed(s, f) or f not in gone.flows[s]}
        self._switch(number)
        self.asked = [task for task in self.asked if task.unit != number]
        self.moves.lost(number)
        self.want()

    def hush(self, number: int) -> None:
        """It is there, and does not answer dispatchers any more."""
        self.ending = {each for each in self.ending if each[2] != number}
        self._switch(number)
        self.moves.silent(number)
        self.moves.want({n: "h" for n in self.planes if n not in self.leaving | {number}}, {number})

    def _switch(self, number: int) -> None:
        self.whole = False
        for dispatcher, unit in self.dispatchers.items():
            for shard, word in unit.table.items():
                if word.owner == number and word.second in self.planes:
                    unit.table[shard] = ShardWord(shard, word.second)
            if self.chance.random() < 0.5:
                self.moves.switched(dispatcher, unit.table)

    def restart_dispatcher(self) -> None:
        number = self.chance.choice([*self.dispatchers])
        if not all(unit.table for n, unit in self.dispatchers.items() if n != number):
            return
        self.dispatchers[number] = Unit()
        self.asked = [task for task in self.asked if task.unit != number]
        self.moves.lost(number)
        self.moves.joined(number, {}, spreads=True)

    # What units do.

    def ask(self) -> None:
        found = self.moves.tasks()
        self.whole = self.whole or self.moves.steady()
        asked = {task.unit for task in self.asked}
        assert not any(task.unit in asked for task in found)
        for held in self.moves.held:
            assert not held.litter & held.parts()
        self.asked += found

    def answer(self, *, may_fail: bool = True) -> None:
        """One of what was asked is done, or not, and the manager is told, or not."""
        if self.asked:
            task = self.asked.pop(self.chance.randrange(len(self.asked)))
            fails = may_fail and self.chance.random() < 0.2
            done = (not fails or self.chance.random() < 0.5) and self._do(task)
            self.moves.done(task, well=done and not fails)

    def _do(self, task: Task) -> bool:
        unit = self.units[task.unit]
        match task:
            case Tell():
                unit.table |= {word.shard: word for word in task.shards}
                for word in task.shards:
                    if word.owner == task.unit or word.former != task.unit:
                        unit.handed.pop(word.shard, None)
            case Give():
                to = self.planes.get(task.to)
                if to is None:
                    return False
                for shard in task.shards:
                    to.flows[shard] |= unit.flows[shard]
                    unit.handed[shard] = task.to
            case Drop():
                for shard in task.shards:
                    unit.flows[shard].clear()
        return True

    # Traffic.

    def begin_flow(self) -> bool:
        """Returns whether all others of its shard are known where it begins: its port is none of theirs."""
        shard = self.chance.randrange(SHARDS)
        plane = self._sends(self.chance.choice([*self.dispatchers.values()]), shard)
        word = self.planes[plane].table.get(shard) if plane is not None else None
        if word is not None and word.begins:
            plane = word.former if word.former in self.planes else None
        if plane is None:
            return True
        unit, name = self.planes[plane], next(self._names)
        others = {flow for of, flow in self.tracked if of == shard}
        knows = others <= unit.flows[shard]
        word = unit.table.get(shard)
        told = {unit.handed.get(shard, NOBODY)}
        if word is not None and word.owner == plane:
            told.add(word.second)
        for number in {plane, *told} & self.planes.keys():
            self.planes[number].flows[shard].add(name)
        self.tracked.add((shard, name))
        return knows

    def begin_ending(self) -> None:
        """A flow that ends in a socket of the plane that it comes to."""
        shard = self.chance.randrange(SHARDS)
        dispatcher = self.chance.choice([*self.dispatchers])
        owner = self._sends(self.dispatchers[dispatcher], shard)
        if owner is not None:
            name = next(self._names)
            self.planes[owner].ends[shard].add(name)
            self.ending.add((shard, name, owner, dispatcher))

    def end_ending(self, count: int = 1) -> None:
        for each in self.chance.sample(sorted(self.ending), min(count, len(self.ending))):
            self.ending.discard(each)
            shard, name, plane, _ = each
            self.planes[plane].ends[shard].discard(name)

    def say(self) -> None:
        """Each plane says of which shards that are not its own something ends there."""
        for number, unit in self.planes.items():
            self.moves.ends(number, {shard for shard, ends in unit.ends.items() if ends})

    def reaches(self, shard: int, plane: int, *by: int) -> bool:
        """What these dispatchers send gets to the plane where it ends."""
        for dispatcher in (self.dispatchers[number] for number in by):
            owner = self._sends(dispatcher, shard)
            if owner is None and dispatcher.table.get(shard) is None:
                continue
            word = self.planes[owner].table.get(shard) if owner is not None else None
            if plane not in (owner, NOBODY if word is None else word.former):
                return False
        return True

    def _sends(self, dispatcher: Unit, shard: int) -> int | None:
        word = dispatcher.table.get(shard)
        return word.owner if word is not None and word.owner in self.planes else None

    def passes(self, shard: int, flow: int) -> bool:
        """Wherever a packet of it arrives, a plane that knows it gets it."""
        for dispatcher in self.dispatchers.values():
            owner = self._sends(dispatcher, shard)
            if owner is None:
                if dispatcher.table.get(shard) is None:
                    continue  # It began anew, and sends nothing yet.
                return False
            word = self.planes[owner].table.get(shard, ShardWord(shard, NOBODY))
            knows = [
                n for n in (owner, word.former) if n in self.planes and flow in self.planes[n].flows[shard]
            ]
            if not knows:
                return False
        return True

    def _needed(self, shard: int, flow: int) -> bool:
        """Somebody knows it whom the manager counts on."""
        parts = self.moves.held[shard].parts() & self.planes.keys()
        return any(flow in self.planes[number].flows[shard] for number in parts)

    def calm(self) -> None:
        """All is done that can be; what ends in sockets keeps shards where they are."""
        self.want()
        for _ in range(600):
            self.say()
            self.ask()
            if not self.asked:
                return
            self.answer(may_fail=False)
        raise AssertionError(f"there is no end of it: {self.moves.held}")

    def settle(self) -> None:
        """All is as it is to be, after a bounded number of answers."""
        self.want()
        for _ in range(600):
            self.say()
            self.ask()
            if self.moves.steady() and all(held.ends == NOBODY for held in self.moves.held):
                break
            self.answer(may_fail=False)
        assert self.moves.steady(), self.moves.held
        before = self.moves.held
        self.want()
        self.ask()
        assert self.moves.held == before, "assign wants what is there"
        assert not self.asked


def must_be_well(appliance: Appliance) -> None:
    """Every shard has an owner that is there, all agree, and no flow is lost, nor kept by who has no part."""
    appliance.calm()
    broken = [
        each for each in appliance.ending if not appliance.reaches(each[0], each[2], *appliance.dispatchers)
    ]
    assert not broken, (broken, appliance.moves.held[broken[0][0]])
    appliance.end_ending(len(appliance.ending))
    for unit in appliance.planes.values():
        for ends in unit.ends.values():
            ends.clear()
    appliance.settle()
    for shard, held in enumerate(appliance.moves.held):
        if appliance.planes:
            assert held.owner in appliance.planes, (shard, held)
        if len(appliance.planes.keys() - appliance.leaving) > 1:
            assert held.second in appliance.planes.keys() - {held.owner}
        for unit in appliance.dispatchers.values():
            nothing = ShardWord(shard, NOBODY)
            assert unit.table.get(shard, nothing) == ShardWord(shard, held.owner, held.second)
        for number, unit in appliance.planes.items():
            assert number in held.parts() or not unit.flows[shard], (shard, number, held)
    for shard, flow in appliance.tracked:
        held = appliance.moves.held[shard]
        assert flow in appliance.planes[held.owner].flows[shard], (shard, flow, held)
        if held.second != NOBODY:
            assert flow in appliance.planes[held.second].flows[shard], (shard, flow, held)
    counts = appliance.moves.owners()
    assert not counts or max(counts.values()) - min(counts.values()) <= 1


PEACE = (
    "flow",
    "flow",
    "ending",
    "ended",
    "say",
    "answer",
    "answer",
    "answer",
    "answer",
    "join",
    "leave",
    "go",
    "dispatcher",
    "takeover",
)
WAR = (*PEACE, "die", "hush")


def play(appliance: Appliance, event: str, *, peace: bool = False) -> bool:
    """Returns False where a flow began that may have got another one's port.

    In `peace` some begin after each step, too: what begins after its shard's move was announced is lost with
    the former owner, until that has given its flows.
    """
    match event:
        case "flow":
            return appliance.begin_flow()
        case "ending":
            appliance.begin_ending()
        case "ended":
            appliance.end_ending()
        case "say":
            appliance.say()
        case "answer":
            well = []
            for _ in range(4):
                appliance.ask()
                appliance.answer()
                well.append(not peace or appliance.begin_flow())
            return all(well)
        case "join":
            appliance.join()
        case "leave":
            appliance.leave()
        case "go":
            appliance.go()
        case "dispatcher":
            appliance.restart_dispatcher()
        case "takeover":
            appliance.takeover()
        case "die" if (appliance.whole or appliance.moves.uncopied() == 0) and len(appliance.planes) > 1:
            appliance.die(appliance.chance.choice([*appliance.planes]))
        case "hush" if appliance.whole and len(appliance.planes) > 1:
            appliance.hush(appliance.chance.choice([*appliance.planes]))
    return True


@given(st.integers(0, 1 << 32), st.integers(1, 4), st.lists(st.sampled_from(PEACE), max_size=40))
@settings(max_examples=60, deadline=None)
def test_no_flow_is_lost_at_any_time_while_units_come_and_go(
    seed: int, planes: int, events: list[str]
) -> None:
    appliance = Appliance(seed, planes)
    appliance.settle()
    for event in events:
        assert play(appliance, event, peace=True), appliance.moves.held
        lost = [pair for pair in appliance.tracked if not appliance.passes(*pair)]
        assert not lost, (event, appliance.moves.held[lost[0][0]])
        broken = [each for each in appliance.ending if not appliance.reaches(each[0], *each[2:])]
        assert not broken, (event, broken, appliance.moves.held[broken[0][0]])
    must_be_well(appliance)


@given(st.integers(0, 1 << 32), st.integers(1, 5), st.lists(st.sampled_from(WAR), max_size=40))
@settings(max_examples=80, deadline=None)
def test_what_a_living_unit_knows_survives_one_fault_at_a_time(
    seed: int, planes: int, events: list[str]
) -> None:
    appliance = Appliance(seed, planes)
    appliance.settle()
    for event in events:
        play(appliance, event)
    must_be_well(appliance)
