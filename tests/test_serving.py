"""Which of several dispatchers serves which leg: some of them, in a bus that loses and brings as it is told.

| claim | and in reverse |
| --- | --- |
| each leg has one server soon, whoever comes, goes, leaves, sleeps or is cut off | |
| legs are shared evenly, and stay where they are when nothing happens | |
| a take that leaves another one without is newer than its | one that is cut off yields when that heals |
| who leaves gives up only what another one has taken | the last one that is ready stays |
| a data plane goes by the newest take, and a former process's numbers do not win | |
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from trunkline.units.serving import SLEEP, Heard, Serving
from trunkline.units.watch import INTERVAL, MISSES, PATIENT, Owners, Watch
from trunkline.units.words import ShardWord

LEGS = 2


@dataclass
class Unit:
    number: int
    serving: Serving
    watch: Watch = field(default_factory=Watch)
    ready: bool = True
    leaves: bool = False
    awake: bool = True
    beat: int = 0
    begun: bool = False

    def says(self) -> Heard:
        return Heard(tuple(self.serving.takes), self.ready, self.leaves, self.beat)


class Bus:
    """Dispatchers, and one data plane's numbers that all reach who are not cut off from it."""

    def __init__(self, *numbers: int) -> None:
        self.units: dict[int, Unit] = {}
        self.plane = [0] * LEGS
        #: Those on the one side of a cut; the data plane is on the other.
        self.cut: set[int] = set()
        self.now = 0.0
        for number in numbers:
            self.come(number)

    def come(self, number: int) -> None:
        self.units[number] = Unit(number, Serving(number, [0] * LEGS))
        for unit in self.units.values():
            unit.watch.members([n for n in self.units if n != unit.number])

    def go(self, number: int) -> None:
        """As `kill -9`: still a member, and silent."""
        del self.units[number]

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / INTERVAL)):
            self.now += INTERVAL
            for unit in self.units.values():
                if unit.awake:
                    self._interval(unit)

    def _interval(self, unit: Unit) -> None:
        for other in self.units.values():
            if other is not unit and (other.number in self.cut) == (unit.number in self.cut):
                unit.watch.heard(other.number)
                unit.serving.heard(other.number, other.says(), self.now)
        if unit.number not in self.cut:
            unit.serving.noticed(self.plane)
        unit.watch.interval(late=False)
        unit.begun = unit.begun or unit.watch.knows()
        if unit.begun:
            answering = [n for n in self.units if unit.watch.answers(n)]
            unit.serving.decide(answering, self.now, ready=unit.ready, leaves=unit.leaves)
        unit.beat += 1
        if unit.number not in self.cut:
            pairs = zip(self.plane, unit.serving.takes, strict=True)
            self.plane = [max(pair) for pair in pairs]

    def servers(self) -> list[list[int]]:
        return [[n for n, unit in self.units.items() if unit.serving.takes[leg]] for leg in range(LEGS)]

    def settled(self) -> list[int]:
        """Who serves each leg; it is one, and data planes go by it."""
        servers = self.servers()
        assert all(len(each) == 1 for each in servers), servers
        if not self.cut:
            assert [number % 256 for number in self.plane] == [each[0] for each in servers]
        return [each[0] for each in servers]


def test_the_one_that_is_there_serves_all() -> None:
    bus = Bus(9)
    bus.run(0.2)
    assert bus.settled() == [9, 9]


def test_two_share_and_nothing_moves_without_need() -> None:
    bus = Bus(8, 9)
    bus.run(0.5)
    assert sorted(bus.settled()) == [8, 9]
    before = list(bus.plane)
    bus.run(20)
    assert bus.plane == before


def test_the_other_one_serves_what_a_dead_one_did_and_gives_back_a_share() -> None:
    bus = Bus(8, 9)
    bus.run(0.5)
    bus.go(8)
    bus.run(INTERVAL * (MISSES + 1))
    assert bus.settled() == [9, 9]
    bus.come(8)
    bus.run(0.5)
    assert bus.settled() == [9, 9]
    bus.run(2)
    assert sorted(bus.settled()) == [8, 9]


def test_who_leaves_gives_up_what_was_taken() -> None:
    bus = Bus(8, 9)
    bus.run(0.5)
    bus.units[9].leaves = True
    for _ in range(20):
        bus.run(INTERVAL)
        assert all(bus.servers())
    assert bus.settled() == [8, 8]
    bus.units[8].leaves = True
    bus.run(3)
    bus.settled()


def test_who_is_not_ready_takes_nothing() -> None:
    bus = Bus(8)
    bus.units[8].ready = False
    bus.run(1)
    assert bus.servers() == [[], []]
    bus.come(9)
    bus.run(1)
    assert bus.settled() == [9, 9]


def test_the_legs_of_one_that_sleeps_are_taken_and_it_yields_when_it_wakes() -> None:
    bus = Bus(8, 9)
    bus.run(0.5)
    bus.units[8].awake = False
    bus.run(SLEEP / 2)
    assert sorted(bus.settled()) == [8, 9]
    bus.run(SLEEP)
    assert 9 in bus.servers()[0]
    assert 9 in bus.servers()[1]
    bus.units[8].awake = True
    bus.run(INTERVAL * 2)
    assert bus.settled() == [9, 9]


def test_a_cut_that_heals_ends_with_one() -> None:
    bus = Bus(8, 9)
    bus.run(0.5)
    bus.cut = {8}
    bus.run(1)
    assert all(9 in each for each in bus.servers())
    bus.cut = set()
    bus.run(0.5)
    bus.settled()
    bus.run(3)
    assert sorted(bus.settled()) == [8, 9]


def test_numbers_of_a_former_process_do_not_win() -> None:
    bus = Bus(8)
    bus.plane = [5 * 256 + 8, 7 * 256 + 3]
    bus.run(1.5)
    assert bus.settled() == [8, 8]
    assert bus.plane == [6 * 256 + 8, 8 * 256 + 8]


@pytest.mark.parametrize("seed", range(30))
def test_whatever_happens_each_leg_has_one_server_soon(seed: int) -> None:
    chance = random.Random(seed)
    bus = Bus(7, 8, 9)
    for _ in range(15):
        number = chance.choice([7, 8, 9])
        match chance.choice(["go", "come", "sleep", "wake", "cut", "heal", "leave", "stay"]):
            case "go" if len(bus.units) > 1 and number in bus.units:
                bus.go(number)
            case "come" if number not in bus.units:
                bus.come(number)
            case "sleep" | "wake" as what if number in bus.units:
                bus.units[number].awake = what == "wake"
            case "cut" | "heal" as what:
                bus.cut = {number} if what == "cut" else set()
            case "leave" | "stay" as what if number in bus.units:
                bus.units[number].leaves = what == "leave"
        bus.run(chance.random())
    bus.cut = set()
    for unit in bus.units.values():
        unit.awake = True
    bus.run(8)
    before = bus.settled()
    numbers = list(bus.plane)
    bus.run(5)
    assert (bus.settled(), bus.plane) == (before, numbers)


@pytest.mark.parametrize("gone", [True, False])
def test_what_one_took_that_ended_since_is_taken_back_at_once(gone: bool) -> None:
    # Only a data plane has heard of the take; of one that is not known to have ended, it may go on.
    serving = Serving(8, [0])
    assert [change.take for change in serving.decide([], 0.0, ready=True, leaves=False)] == [0x108]
    serving.noticed([0x209])
    (change,) = serving.decide([], 0.1, ready=True, leaves=False, gone=[9] if gone else [])[:1]
    assert change.take == (0x308 if gone else 0)
    takes = [serving.decide([], 0.1 + n / 10, ready=True, leaves=False) for n in range(9)]
    assert not any(takes)


def test_who_yielded_to_one_that_ends_takes_the_leg_back_at_once() -> None:
    serving = Serving(8, [0])
    serving.decide([], 0.0, ready=True, leaves=False)
    serving.heard(9, Heard((0x209,), ready=True, leaves=False, beat=1), 0.1)
    # It is not heard any more when its take is, and may go on: but for what its kernel says then.
    assert [change.take for change in serving.decide([], 0.1, ready=True, leaves=False)] == [0]
    assert serving.decide([], 0.11, ready=True, leaves=False) == []
    back = serving.decide([], 0.12, ready=True, leaves=False, gone=[9])
    assert [change.take for change in back] == [0x308]


@pytest.mark.parametrize("heard", [True, False])
def test_who_yielded_to_one_that_is_missed_since_takes_the_leg_back_at_once(heard: bool) -> None:
    # Data planes told of its take before its own answer did. Of one that was not heard then, it may go on.
    serving = Serving(8, [0])
    serving.decide([], 0.0, ready=True, leaves=False)
    answering = [9] if heard else []
    serving.heard(9, Heard((0,), ready=True, leaves=False, beat=1), 0.1)
    serving.noticed([0x209])
    assert [change.take for change in serving.decide(answering, 0.1, ready=True, leaves=False)] == [0]
    assert serving.decide(answering, 0.13, ready=True, leaves=False) == []
    back = serving.decide([], 0.17, ready=True, leaves=False)
    assert [change.take for change in back] == ([0x308] if heard else [])


def test_a_unit_is_silent_after_some_misses_and_not_where_the_prober_was_late() -> None:
    watch = Watch()
    watch.members([1])
    watch.heard(1)
    assert watch.interval(late=False) == ([], [])
    for _ in range(10):
        assert watch.interval(late=True) == ([], [])
    assert [watch.interval(late=False)[0] for _ in range(MISSES + 1)] == [[], [1], []]
    watch.heard(1)
    assert watch.interval(late=True) == ([], [1])
    for _ in range(MISSES - 1):
        assert watch.last([1]) == []
        watch.interval(late=False)
    assert watch.suspects == [1]
    # It has been asked for a moment only.
    assert watch.last([]) == []
    assert watch.last([1]) == [1]
    assert watch.interval(late=False) == ([], [])


def test_who_is_said_to_have_died_is_asked_at_once_and_silent_sooner() -> None:
    watch = Watch()
    watch.members([1, 2])
    for _ in range(2):
        watch.heard(1)
        watch.heard(2)
        watch.interval(late=False)
    watch.heard(1)
    for unit in (1, 2, 3):
        watch.suspect(unit)
    assert watch.suspects == [1, 2]
    watch.heard(2)
    assert watch.interval(late=False) == ([], [])
    assert watch.suspects == [1]
    assert watch.last([1]) == [1]
    watch.heard(2)
    assert watch.interval(late=False) == ([], [])


def test_who_is_gone_is_silent_at_once_until_it_answers_again() -> None:
    watch = Watch()
    watch.members([1, 2])
    for unit in (1, 2):
        watch.heard(unit, 5)
    watch.interval(late=False)
    watch.heard(1, 6)
    assert watch.gone(1, 6)
    assert (watch.silent, watch.answers(1), watch.is_gone(1)) == ({1}, False, True)
    # It is told once, and is not waited for.
    assert not watch.gone(1, 6)
    assert (watch.unheard(), watch.suspects, watch.last([1])) == ([2], [], [])
    # It sends, others hear it, and an answer was on its way: its kernel forwards.
    watch.heard(1)
    watch.heard(1, 6)
    watch.heard_beside(1, 6)
    watch.suspect(1)
    watch.heard(2, 6)
    assert watch.interval(late=False) == ([], [])
    assert watch.silent == {1}
    # A new process; what the one before left on its way is not of it.
    watch.heard(1, 7)
    assert not watch.gone(1, 6)
    watch.heard(2, 7)
    assert watch.interval(late=False) == ([], [1])
    assert (watch.silent, watch.is_gone(1)) == (frozenset(), False)


def test_who_is_gone_may_answer_on_the_other_bus_first() -> None:
    watch = Watch()
    watch.members([1])
    watch.heard(1, 1)
    watch.interval(late=False)
    assert watch.gone(1, 2)
    watch.heard_beside(1, 3)
    assert watch.interval(late=False) == ([], [])
    assert (watch.silent, watch.is_gone(1)) == ({1}, False)
    watch.heard(1)
    assert watch.interval(late=False) == ([], [1])


def test_of_who_never_answered_it_is_no_news_that_it_is_gone() -> None:
    watch = Watch()
    watch.members([1])
    assert not watch.gone(1, 0)
    assert not watch.gone(3, 0)
    assert watch.knows()
    assert watch.silent == {1}
    # One of the same number that is new.
    watch.members([1], new=[1])
    assert not watch.knows()
    watch.heard(1)
    assert watch.interval(late=False) == ([], [])
    assert watch.answers(1)


def test_who_answers_on_the_other_bus_alone_is_silent_later() -> None:
    watch = Watch()
    watch.members([1])
    watch.heard(1)
    watch.interval(late=False)
    for missed in range(1, PATIENT):
        # What was asked there was asked because of the first miss, and one answer may be lost.
        if missed > 1 and missed != 4:
            watch.heard_beside(1)
        assert (watch.last([1]), watch.interval(late=False)) == ([], ([], []))
        assert watch.misses(1) == missed
    watch.heard_beside(1)
    assert watch.last([1]) == []
    assert watch.interval(late=False) == ([1], [])
    # It dies while it is slow: nobody waits for the rest.
    watch.heard(1)
    assert watch.interval(late=False) == ([], [1])
    for _ in range(5):
        watch.heard_beside(1)
        watch.interval(late=False)
    assert watch.interval(late=False) == ([], [])
    assert watch.interval(late=False) == ([1], [])


def test_who_is_said_to_have_died_and_answers_on_the_other_bus_is_not_silent() -> None:
    watch = Watch()
    watch.members([1])
    for _ in range(2):
        watch.heard(1)
        watch.interval(late=False)
    watch.heard_beside(1)
    watch.suspect(1)
    # That was before.
    assert watch.interval(late=False) == ([], [])
    assert watch.last([1]) == [1]
    watch.heard(1)
    watch.interval(late=False)
    watch.suspect(1)
    watch.heard_beside(1)
    assert watch.interval(late=False) == ([], [])
    assert watch.last([1]) == []


def test_of_whom_nothing_was_ever_heard_nothing_is_suspected() -> None:
    watch = Watch()
    watch.members([1])
    watch.suspect(1)
    assert watch.suspects == []


def test_shards_go_to_their_seconds_and_stay_there_until_a_manager_says() -> None:
    owners = Owners()
    assert owners.tell([ShardWord(0, 1, 2), ShardWord(1, 2, 1), ShardWord(2, 1)], []) == {0: 1, 1: 2, 2: 1}
    assert owners.without([1]) == {0: 2}
    assert owners.without([]) == {}
    assert owners.moved == {0: 2}
    # The other one is silent, and the first one answers again.
    assert owners.without([2]) == {0: 1, 1: 1}
    assert owners.without([1, 2]) == {}
    assert owners.tell([ShardWord(1, 2, 1)], []) == {1: 2}
    # What a manager says holds, but not against what is seen.
    assert owners.tell([ShardWord(2, 2, 1)], [2]) == {1: 1, 2: 1}
