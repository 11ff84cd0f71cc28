"""Which units answer a dispatcher's probes, and which unit it uses for each shard meanwhile.

Nothing here sends or waits: it is told what was heard, and says what follows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from trunkline.units.words import NOBODY, ShardWord

#: How often all are probed, seconds. BFD of FRR gave false alarms at 10 ms where it gave none at 30.
INTERVAL = 0.03
#: Who did not answer so many in a row is silent.
MISSES = 2
#: And who answers on the other bus meanwhile, after so many: its kernel is alive, and may only be slow. That
#: is who has said nothing there for fewer intervals than these.
PATIENT, BESIDE = 10, 2
#: How long the last of these may take. Who missed one is asked every few milliseconds, on both buses, so that
#: this is some ten probes.
LAST = 0.025


@dataclass
class _Unit:
    answered: bool = False
    misses: int = 0
    #: It answered on the other bus in this interval; how many intervals have passed without.
    beside: bool = False
    mute: int = 0
    #: It is said to have died, in this interval: in what is left of it, it may not have been asked.
    suspected: bool = False
    #: None: not known yet.
    silent: bool | None = None
    #: The rounds of the newest probe that it answered, and of the newest of which its kernel said that the
    #: unit's program has ended.
    round: int = 0
    ended: int = -1

    @property
    def gone(self) -> bool:
        return self.ended >= self.round


class Watch:
    """Who answers."""

    def __init__(self) -> None:
        self._units: dict[int, _Unit] = {}

    def members(self, units: Collection[int], new: Collection[int] = ()) -> None:
        """Those who are probed; of one that comes, or is `new`, nothing is known yet."""
        known = {number: unit for number, unit in self._units.items() if number not in new}
        self._units = {number: known.get(number) or _Unit() for number in units}

    def heard(self, unit: int, round_: int | None = None) -> None:
        """A sign of life; an answer to a probe of that round, or something else.

        The kernel of one that is gone forwards still: only a newer answer says that it is there again.
        """
        known = self._units.get(unit)
        if known is not None and self._lives(known, round_):
            known.answered = True

    def heard_beside(self, unit: int, round_: int | None = None) -> None:
        """A sign of life on the other bus, as `heard`."""
        known = self._units.get(unit)
        if known is not None and self._lives(known, round_):
            known.beside = True

    @staticmethod
    def _lives(known: _Unit, round_: int | None) -> bool:
        if round_ is not None and round_ > known.ended:
            known.round = max(known.round, round_)
        return not known.gone

    def gone(self, unit: int, round_: int) -> bool:
        """Its kernel has answered a probe of that round: the unit's program has ended.

        Returns: whether it is silent by that, and was not.
        """
        known = self._units.get(unit)
        if known is None:
            return False
        known.ended = max(known.ended, round_)
        if not known.gone:
            # This is of the process before.
            return False
        was, known.silent = known.silent, True
        known.answered = known.beside = False
        known.misses = max(known.misses, 1)
        return was is False

    def suspect(self, unit: int) -> None:
        """It may have died just now: what was heard of it is of before."""
        known = self._units.get(unit)
        if known is not None and known.silent is False:
            known.answered, known.misses = False, max(known.misses, 1)
            known.beside, known.mute = False, max(known.mute, 1)
            known.suspected = True

    def unheard(self) -> list[int]:
        """Those of whom nothing was heard since the last interval ended."""
        return [number for number, unit in self._units.items() if not (unit.answered or unit.gone)]

    def interval(self, *, late: bool) -> tuple[list[int], list[int]]:
        """An interval has ended: who is silent since, and who is not any more.

        Args:
            late: whoever waits for answers was late himself; then nobody has missed one.
        """
        lost, back = [], []
        for number, unit in self._units.items():
            if unit.answered:
                if unit.silent:
                    back.append(number)
                unit.misses, unit.mute, unit.silent = 0, 0, False
            elif not late:
                unit.misses += not unit.suspected
                unit.mute = 0 if unit.beside else unit.mute + (not unit.suspected)
                enough = MISSES if unit.mute >= BESIDE else PATIENT
                if unit.misses >= enough and not unit.silent:
                    if unit.silent is False:
                        lost.append(number)
                    unit.silent = True
            unit.answered = unit.beside = unit.suspected = False
        return lost, back

    def last(self, asked: Collection[int]) -> list[int]:
        """These were asked for as long as the last one may take: who missed all before is silent since."""
        lost = [
            number
            for number, unit in self._units.items()
            if number in asked
            and unit.misses >= MISSES - 1
            and unit.mute >= BESIDE - 1
            and unit.silent is False
            and not (unit.answered or unit.beside)
        ]
        for number in lost:
            self._units[number].misses += 1
            self._units[number].silent = True
        return lost

    def misses(self, unit: int) -> int:
        """How many it did not answer, in a row."""
        return self._units[unit].misses if unit in self._units else 0

    def is_gone(self, unit: int) -> bool:
        """Whether its program has ended, as its kernel says."""
        return unit in self._units and self._units[unit].gone

    def answers(self, unit: int) -> bool:
        return unit in self._units and self._units[unit].silent is False

    def knows(self) -> bool:
        """Of each unit, whether it answers is known."""
        return all(unit.silent is not None for unit in self._units.values())

    @property
    def silent(self) -> frozenset[int]:
        """Those who were there and do not answer, or were never heard."""
        return frozenset(number for number, unit in self._units.items() if unit.silent)

    @property
    def suspects(self) -> list[int]:
        """Those who missed the last one, or are said to have died, and are not silent yet."""
        return [number for number, unit in self._units.items() if unit.misses and not unit.silent]


class Owners:
    """Which unit is used for each shard.

    What a manager says holds, until the unit is silent and the other one of owner and second is not. It stays
    so when the unit answers again, for it may have lost its state: then again a manager decides.
    """

    def __init__(self) -> None:
        self._told: dict[int, ShardWord] = {}
        self._used: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._told)

    @property
    def moved(self) -> dict[int, int]:
        """The shards for which another unit is used than was told, and that."""
        return {n: used for n, used in self._used.items() if used != self._told[n].owner}

    @property
    def used(self) -> Mapping[int, int]:
        return self._used

    def tell(
        self, words: Iterable[ShardWord], silent: Collection[int], moved: Mapping[int, int] | None = None
    ) -> dict[int, int]:
        """What a manager says: the units to be used for these shards. `moved` as another one left it."""
        found = {}
        for word in words:
            self._told[word.shard] = word
            found[word.shard] = self._used[word.shard] = (moved or {}).get(word.shard, word.owner)
        return found | self.without(silent)

    def without(self, silent: Collection[int]) -> dict[int, int]:
        """The shards whose unit is another one now, since these are silent, and those units."""
        found = {}
        for shard, word in self._told.items():
            used = self._used[shard]
            other = word.second if used == word.owner else word.owner
            if used in silent and other != NOBODY and other not in silent:
                found[shard] = self._used[shard] = other
        return found
