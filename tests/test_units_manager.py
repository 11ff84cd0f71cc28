"""Which manager leads, and when a policy comes into force: against managers and units made up here.

| claim | and in reverse |
| --- | --- |
| alone it leads at once; of two, the one with the higher number | who hears a leader waits |
| when the leader falls silent the other one leads, in a higher epoch | it does not lead again below that |
| one that begins takes an epoch above what units tell | one that units followed steps down |
| one that is to leave yields to the other | alone it leads on |
| all have a policy, dispatchers first | one refuses: nobody has it, and what was in force stays |
| who learns of a network later than of the policy is asked again | |
| who does not answer gets it later | ... and has no part before |
| units are told the tables that came with a policy | one without them is a policy, too |
| a revision that any unit has is in force | an older one is not taken |
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from trunkline.compiler.unit_slices import PolicySlice
from trunkline.errors import Refusal, Unavailable
from trunkline.resources.appliance_policy import parse
from trunkline.units.documents import read, said
from trunkline.units.election import BEAT, PATIENCE, Election
from trunkline.units.policy_rounds import PolicyRounds
from trunkline.units.words import Commit, Prepare, Recite, Recited, Word


class Pair:
    """Two managers that hear each other, unless one is dead or they are cut off."""

    def __init__(self, *numbers: int) -> None:
        self.now = 100.0
        self.managers = {number: Election(number, self.now) for number in numbers}
        self.dead: set[int] = set()
        self.cut = False

    def run(self, seconds: float) -> None:
        for _ in range(int(seconds / BEAT)):
            self.now += BEAT
            alive = [manager for number, manager in self.managers.items() if number not in self.dead]
            for manager in alive:
                for other in alive:
                    if other is not manager and not self.cut:
                        other.heard(manager.beat(), self.now)
            for manager in alive:
                manager.tick(self.now, self.managers.keys() - {manager.number})

    def leaders(self) -> list[int]:
        return [n for n, manager in self.managers.items() if manager.leads and n not in self.dead]


def test_alone_it_leads_at_once() -> None:
    one = Election(7, 0.0)
    one.tick(0.0, set())
    assert (one.leads, one.epoch) == (True, 1)


def test_of_two_the_higher_number_leads_and_stays_when_the_other_comes_back() -> None:
    pair = Pair(1, 2)
    pair.run(PATIENCE / 2)
    assert pair.leaders() == []
    pair.run(2 * PATIENCE)
    assert pair.leaders() == [2]
    pair.dead = {2}
    pair.run(2 * PATIENCE)
    assert pair.leaders() == [1]
    epoch = pair.managers[1].epoch
    assert epoch == 2
    # It comes back, and remembers nothing.
    pair.dead, pair.managers[2] = set(), Election(2, pair.now)
    pair.run(3 * PATIENCE)
    assert (pair.leaders(), pair.managers[1].epoch) == ([1], epoch)


def test_two_that_lead_apart_are_one_when_they_meet() -> None:
    pair = Pair(1, 2)
    pair.cut = True
    pair.run(2 * PATIENCE)
    assert pair.leaders() == [1, 2]
    pair.cut = False
    pair.run(BEAT)
    assert pair.leaders() == [2]


def begun(epoch: int, leader: int) -> Election:
    """Manager 1: it began, was told of an epoch that units had of a leader, and is followed now."""
    one = Election(1, 0.0)
    one.tick(PATIENCE, {2})
    one.refused(epoch, leader, PATIENCE)
    assert (one.leads, one.epoch) == (True, epoch + 1)
    one.followed()
    return one


def test_one_that_begins_goes_above_what_units_tell_and_a_deposed_one_waits() -> None:
    one = begun(7, 2)
    one.refused(9, 2, PATIENCE)
    assert not one.leads
    one.tick(PATIENCE + BEAT, {2})
    assert not one.leads
    one.tick(20 * PATIENCE, {2})
    assert (one.leads, one.epoch) == (True, 10)


def test_one_that_began_anew_goes_above_what_it_was_itself() -> None:
    one = begun(3, 1)
    one.refused(3, 1, PATIENCE)
    assert (one.leads, one.epoch) == (True, 4)


def test_one_that_leaves_yields_to_the_other_if_there_is_one() -> None:
    pair = Pair(1, 2)
    pair.run(2 * PATIENCE)
    pair.managers[2].willing = False
    pair.run(2 * BEAT)
    assert pair.leaders() == [1]
    pair.dead, pair.managers[2].willing = {1}, False
    pair.run(3 * PATIENCE)
    assert pair.leaders() == [2]


class Units:
    """Dispatchers from 200 on, data planes below; those that are dead, and those that refuse a revision."""

    def __init__(self, *numbers: int) -> None:
        self.revisions = dict.fromkeys(numbers, 0)
        self.prepared = dict.fromkeys(numbers, 0)
        self.dead: set[int] = set()
        self.refusing: dict[int, int] = {}
        #: Who refuses takes it when it is asked again.
        self.learns = False
        self.asked: list[tuple[int, str]] = []
        self.told: list[str] = []
        #: What came with each policy.
        self.carried: list[tuple[bytes, ...]] = []
        self.rounds = PolicyRounds(self.ask, lambda what, cause: self.told.append(f"{what} {cause}"))
        for number in numbers:
            self.join(number)

    def join(self, number: int) -> None:
        revision = self.revisions.setdefault(number, 0)
        self.rounds.joined(number, spreads=number >= 200, revision=revision)

    async def ask(self, unit: int, word: Any, revision: int = 0, *rest: Any, patience: float) -> None:
        assert patience > 0
        await asyncio.sleep(0)
        if unit in self.dead:
            raise Unavailable("It is dead.")
        self.asked.append((unit, word.__name__))
        if word is Recite:
            has = self.revisions[unit]
            self.rounds.recited(Recited(has, said({"revision": has})))
            return
        if word is Prepare:
            if self.refusing.get(unit) == revision:
                if self.learns:
                    del self.refusing[unit]
                raise Refusal("Zone inside has no leg.")
            self.prepared[unit] = revision
            self.carried.append(tuple(map(bytes, rest)))
        else:
            assert word is Commit
            assert self.prepared[unit] == revision
            self.revisions[unit] = revision

    def act(self) -> None:
        async def until_idle() -> None:
            while await self.rounds.act():
                pass

        asyncio.run(until_idle())

    def want(self, revision: int) -> None:
        """Has them all told of a policy."""
        self.rounds.want(policy(revision))
        self.act()


def policy(revision: int) -> PolicySlice:
    return PolicySlice(revision=revision, document={"revision": revision})


def test_all_have_a_policy_and_dispatchers_first() -> None:
    units = Units(1, 2, 200)
    assert units.rounds.ready(1)
    units.rounds.want(policy(1))
    assert not units.rounds.ready(1)
    units.act()
    assert set(units.revisions.values()) == {units.rounds.revision} == {1}
    commits = [unit for unit, word in units.asked if word == "Commit"]
    assert commits[0] == 200
    assert units.asked.index((200, "Commit")) == 3
    assert units.rounds.ready(1)


def test_one_refuses_and_nothing_has_changed() -> None:
    units = Units(1, 2, 200)
    units.want(1)
    units.refusing = {2: 2}
    units.want(2)
    assert set(units.revisions.values()) == {units.rounds.revision} == {1}
    assert units.rounds.refused == "Zone inside has no leg."
    # One that comes gets what is in force.
    units.join(3)
    assert not units.rounds.ready(3)
    units.act()
    assert units.revisions[3] == 1
    units.want(3)
    assert set(units.revisions.values()) == {3}
    assert not units.rounds.refused


def test_who_knows_of_networks_later_than_of_the_policy_is_asked_again() -> None:
    units = Units(1, 2, 200)
    units.refusing, units.learns = {2: 1}, True
    units.want(1)
    assert set(units.revisions.values()) == {1}
    assert not units.rounds.refused
    assert not [line for line in units.told if "refused" in line]


def test_who_does_not_answer_gets_it_later() -> None:
    units = Units(1, 2, 200)
    units.dead = {2}
    units.want(1)
    assert units.revisions == {1: 1, 2: 0, 200: 1}
    assert not units.rounds.ready(2)
    units.dead = set()
    units.rounds.left(2)
    units.join(2)
    units.act()
    assert units.revisions[2] == 1
    assert units.rounds.ready(2)


def test_units_are_told_the_tables_that_came_with_the_policy() -> None:
    units = Units(1, 200)
    tables = b"tables"
    units.rounds.want(PolicySlice(revision=1, document={"firewall": {}}, tables=tables))
    units.act()
    assert set(units.carried) == {(msgspec.msgpack.encode({"firewall": {}}), tables)}
    # One that comes, too.
    units.carried.clear()
    units.join(2)
    units.act()
    assert units.carried == [(msgspec.msgpack.encode({"firewall": {}}), tables)]


def test_a_policy_without_tables_goes_between_versions_both_ways() -> None:
    class Before(msgspec.Struct, frozen=True, tag="Prepare"):
        n: int
        revision: int
        document: dict[str, Any]

    new = Prepare(1, 2, said({"firewall": {}}), b"tables")
    old = Before(1, 2, {"firewall": {}})
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(new), type=Before) == old
    heard = msgspec.msgpack.decode(msgspec.msgpack.encode(old), type=Word)
    assert isinstance(heard, Prepare)
    assert read(heard.document, heard.tables) == (parse({"firewall": {}}), None)


def test_what_a_unit_has_is_in_force() -> None:
    units = Units(1, 2, 200)
    units.revisions[200] = 5
    units.join(200)
    units.want(4)
    # What it is they learn from who has it.
    assert set(units.revisions.values()) == {5}
    units.want(6)
    assert set(units.revisions.values()) == {6}
