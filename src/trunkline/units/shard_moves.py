"""Who has which shard, who is to have it, and what units are to be told next for it.

A machine without input or output: it is told what happened, and says what is to be done. Each unit has one
task at a time; what failed, or is not known any more, is asked for again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, replace

from trunkline.plan.shards import SHARDS, Shard, assign
from trunkline.units import held as steps
from trunkline.units.held import Held, word_for
from trunkline.units.words import NOBODY, ShardWord

#: How many shards move at once, how many get a new second at once, and how many are in one word.
MOVING, FILLING, BATCH = 128, 64, 64


@dataclass(frozen=True)
class Tell:
    """A unit is to know who has these shards."""

    unit: int
    shards: tuple[ShardWord, ...]


@dataclass(frozen=True)
class Give:
    """A data plane is to give all flows of these shards to another."""

    unit: int
    to: int
    shards: tuple[int, ...]


@dataclass(frozen=True)
class Drop:
    """A data plane is to forget these shards."""

    unit: int
    shards: tuple[int, ...]


Task = Tell | Give | Drop

#: The owner of a shard in what a unit knows when that is not known: no word that it is to know is like this.
_UNSURE = -2


class Moves:
    """The shards of an appliance. One that is new knows nothing, and is `learned` first."""

    def __init__(self) -> None:
        self.held = [Held() for _ in range(SHARDS)]
        self._want = [(NOBODY, NOBODY)] * SHARDS
        self._planes: set[int] = set()
        self._dispatchers: set[int] = set()
        #: What units know, by their numbers and those of shards.
        self._known: dict[int, dict[int, ShardWord]] = {}
        #: Shards of which what a unit knows may not be what it is to know.
        self._behind: dict[int, set[int]] = {}
        self._busy: dict[int, Task] = {}
        #: Units and shards whose task began for something that is not wanted any more.
        self._void: set[tuple[int, int]] = set()
        #: What was looked at last, and whether there may be something to do since.
        self._absent: Set[int] = frozenset()
        self._stirred = True
        #: Grows whenever something happened for which others may be wanted to have shards.
        self.turn = 0

    # What happened.

    def learned(
        self, tables: Mapping[int, Mapping[int, ShardWord]], dispatchers: Set[int], members: Set[int]
    ) -> None:
        """Takes the shards from what units have; those of dispatchers are the truth where they know any.

        `tables` are of those members that said what they have; what others had is gone.
        """
        for shard in range(SHARDS):
            said = {unit: table[shard] for unit, table in tables.items() if shard in table}
            self._set(shard, _learned(said, dispatchers & tables.keys(), tables.keys() - dispatchers))
        for unit in {unit for held in self.held for unit in held.parts()} - members:
            self.lost(unit)
        for unit, table in tables.items():
            self.joined(unit, table, spreads=unit in dispatchers)

    def joined(
        self, unit: int, table: Mapping[int, ShardWord], *, spreads: bool, fresh: bool = False
    ) -> None:
        """A unit can be told things, and has this table.

        Flows that it has for nothing it forgets first; one that is `fresh` has none.
        """
        self.turn += 1
        (self._dispatchers if spreads else self._planes).add(unit)
        self._known[unit], self._behind[unit] = dict(table), set(range(SHARDS))
        self._stirred = True
        if not spreads and not fresh:
            for shard, held in enumerate(self.held):
                if unit not in held.parts():
                    self._set(shard, replace(held, litter=held.litter | {unit}))

    def left(self, unit: int) -> None:
        """A unit cannot be told anything; what it has is there."""
        self.turn += 1
        self._stirred = True
        self._planes.discard(unit)
        self._dispatchers.discard(unit)
        self._known.pop(unit, None)
        self._behind.pop(unit, None)
        if self._busy.pop(unit, None) is not None:
            self._void = {pair for pair in self._void if pair[0] != unit}

    def lost(self, unit: int) -> int:
        """What a unit had is gone; returns of how many shards it was the owner."""
        owned = sum(held.owner == unit for held in self.held)
        for shard, held in enumerate(self.held):
            self._set(shard, steps.without(held, unit))
        self.left(unit)
        return owned

    def silent(self, unit: int) -> int:
        """Dispatchers send past a data plane, wherever another one has what it has; of how many shards."""
        self.turn += 1
        for shard, held in enumerate(self.held):
            if held.former == unit and held.begins:
                # What began there would not come through: better some port is another one's.
                self._set(shard, replace(held, begins=False))
        owned = [shard for shard, held in enumerate(self.held) if held.owner == unit]
        for shard in owned:
            self._set(shard, steps.passed(self.held[shard]))
        return sum(self.held[shard].owner != unit for shard in owned)

    def switched(self, unit: int, table: Mapping[int, ShardWord]) -> None:
        """A dispatcher says what it has, and may have changed it by itself."""
        task = self._busy.get(unit)
        told = {word.shard for word in task.shards} if isinstance(task, Tell) else set()
        known = self._known.get(unit, {})
        for shard, word in table.items():
            before = known.get(shard, word)
            if shard in told or before == word:
                continue
            known[shard] = word
            self._behind[unit].add(shard)
            self._stirred = True
            if before.owner == _UNSURE:
                continue
            held = self.held[shard]
            if word.owner in {held.former, held.second} - {NOBODY, held.owner}:
                self.turn += 1
                self._set(shard, steps.passed(held))

    def ends(self, unit: int, shards: Set[int]) -> None:
        """A data plane says of which other units' shards connections end in its sockets.

        What it was asked before, it had done by then. It may know better than a manager that is new.
        """
        for shard, held in enumerate(self.held):
            if held.owner == unit or held.owner == NOBODY:
                continue
            if held.ends == unit and shard not in shards:
                self._set(shard, steps.ended(held))
            elif held.ends == NOBODY and shard in shards and not held.moving:
                self._set(shard, replace(held, ends=unit, litter=held.litter - {unit}))

    def _set(self, shard: int, held: Held) -> None:
        before, self.held[shard] = self.held[shard], held
        self._stirred = True
        if before != held:
            for behind in self._behind.values():
                behind.add(shard)
        if (before.owner, before.former, before.filling) != (held.owner, held.former, held.filling):
            tasks = self._busy.values()
            self._void |= {
                (task.unit, shard) for task in tasks if isinstance(task, Give) and shard in task.shards
            }

    def done(self, task: Task, *, well: bool) -> None:
        """A task ended; `well`: as it was meant to, and not in a way that is not known."""
        if self._busy.get(task.unit) is not task:
            return
        self._stirred = True
        del self._busy[task.unit]
        if isinstance(task, Tell):
            if well:
                self._known[task.unit] |= {word.shard: word for word in task.shards}
            return
        void, self._void = self._void, {pair for pair in self._void if pair[0] != task.unit}
        for shard in task.shards:
            if (task.unit, shard) not in void:
                self._set(shard, _after(self.held[shard], task, well=well))

    # What is wanted.

    def want(self, hosts: Mapping[int, str], silent: Set[int] = frozenset()) -> None:
        """These data planes, and where they are, are to have the shards.

        Shards of a unit that cannot be told anything stay: what it has cannot be had. Those that are silent
        may keep copies, where nobody else could have them.
        """
        self._stirred = True
        units = {f"{unit:03d}": host for unit, host in hosts.items()}
        free, before = [], []
        for shard, held in enumerate(self.held):
            owner = held.owner if held.heir == NOBODY else held.heir
            self._want[shard] = (held.owner, held.second)
            if units and (owner == NOBODY or owner in self._planes):
                free.append(shard)
                # Who is filled already is as good as the second that it replaces.
                second = held.second if held.filling == NOBODY else held.filling
                before.append(Shard(_name(owner), _name(second)))
        for shard, after in zip(free, assign(units, before), strict=True):
            second = _number(after.second)
            if second == NOBODY and self.held[shard].second in silent:
                second = self.held[shard].second
            self._want[shard] = (_number(after.owner), second)

    # What is to be done.

    def tasks(self, absent: Set[int] = frozenset()) -> list[Task]:
        """What units are to be told now. `absent`: dispatchers that may send, and cannot be told."""
        if absent == self._absent and not self._stirred:
            return []
        moving = sum(held.moving for held in self.held)
        filling = sum(held.filling != NOBODY for held in self.held)
        for shard in range(SHARDS):
            while True:
                held = self.held[shard]
                after = self._advanced(shard, absent, moving < MOVING, filling < FILLING)
                if after == held:
                    break
                self._set(shard, after)
                moving += after.moving - held.moving
                filling += (after.filling != NOBODY) - (held.filling != NOBODY)
        found: list[Task] = []
        for unit in sorted(self._known.keys() - self._busy.keys()):
            task = self._tell(unit) or self._give(unit, absent) or self._drop(unit, absent)
            if task is not None:
                self._busy[unit] = task
                self._doubt(task)
                found.append(task)
        self._absent, self._stirred = absent, False
        return found

    def _doubt(self, task: Task) -> None:
        """What is on its way may have been heard, or not."""
        if isinstance(task, Tell):
            self._known[task.unit] |= {word.shard: ShardWord(word.shard, _UNSURE) for word in task.shards}
            self._behind[task.unit].update(word.shard for word in task.shards)

    def steady(self) -> bool:
        """Nothing is under way, and nothing is to be done."""
        return not self._busy and all(
            (held.owner, held.second) == self._want[shard]
            and not (held.moving or held.stale or held.litter & self._planes or held.filling != NOBODY)
            and all(self._knows(unit, shard) for unit in self._known)
            for shard, held in enumerate(self.held)
        )

    def busy_with(self, unit: int) -> bool:
        """Whether a data plane has a part in any shard."""
        return any(unit in held.parts() or unit in held.litter for held in self.held)

    def under_way(self) -> int:
        """How many shards are not yet with their owners."""
        return sum(
            held.moving or held.owner != want for held, (want, _) in zip(self.held, self._want, strict=True)
        )

    def uncopied(self) -> int:
        """Of how many shards connections are lost with a unit that dies now, though there are others."""
        return sum(not self._copied(shard) for shard in range(SHARDS))

    def copied(self) -> bool:
        """Whether no connection is lost with one unit."""
        return all(map(self._copied, range(SHARDS)))

    def taken(self) -> bool:
        """Dispatchers send to those who are to have the shards."""
        return all(
            held.owner == want and all(self._knows(unit, shard) for unit in self._dispatchers)
            for shard, (held, (want, _)) in enumerate(zip(self.held, self._want, strict=True))
        )

    def owners(self) -> Counter[int]:
        return Counter(held.owner for held in self.held if held.owner != NOBODY)

    def _advanced(self, shard: int, absent: Set[int], may_move: bool, may_fill: bool) -> Held:
        held, (owner, second) = self.held[shard], self._want[shard]
        if held.heir not in (NOBODY, owner):
            return steps.next_step(held, owner, second, room=False)
        if held.heir != NOBODY:
            ready = self._knows(held.heir, shard) and not absent
            if held.owner in self._planes:
                ready = ready and self._knows(held.owner, shard)
            return steps.switched(held) if ready else held
        if held.former != NOBODY:
            return steps.settled(held) if held.handed >= steps.HANDS else held
        if owner != held.owner and held.filling in self._planes:
            # The second misses what the one knows that is being filled: who dies now would take that with it.
            return held
        room = may_move if owner != held.owner else may_fill
        able = second == NOBODY or second in self._planes
        return steps.next_step(held, owner, second if able else held.second, room=room)

    def _knows(self, unit: int, shard: int) -> bool:
        behind = self._behind.get(unit)
        if behind is None:
            return False
        if shard in behind:
            known = self._known[unit].get(shard) or _nobody(shard)
            if known.owner == _UNSURE or known != self._word(unit, shard):
                return False
            behind.discard(shard)
        return True

    def _word(self, unit: int, shard: int) -> ShardWord:
        return word_for(shard, self.held[shard], unit, spreads=unit in self._dispatchers)

    def _ready(self, shard: int, unit: int, to: int) -> bool:
        """Both data planes know what they are."""
        return to in self._planes and self._knows(unit, shard) and self._knows(to, shard)

    def _told(self, shard: int, absent: Set[int], *planes: int) -> bool:
        """No dispatcher thinks otherwise of a shard, nor do these."""
        return not absent and all(self._knows(unit, shard) for unit in (*self._dispatchers, *planes))

    def _copied(self, shard: int) -> bool:
        """Whether it is copied as it is to be, and who sends past the dead knows where to."""
        held = self.held[shard]
        owner = (held.owner,) if held.owner in self._planes else ()
        if held.moving or not self._told(shard, frozenset(), *owner):
            return False
        return self._want[shard] == (held.owner, NOBODY) or (held.second != NOBODY and not held.stale)

    def _tell(self, unit: int) -> Tell | None:
        shards = [shard for shard in sorted(self._behind[unit]) if not self._knows(unit, shard)]
        return Tell(unit, tuple(self._word(unit, shard) for shard in shards)) if shards else None

    def _give(self, unit: int, absent: Set[int]) -> Give | None:
        """What moves goes before what is copied."""
        if unit not in self._planes:
            return None
        moving, filling = [], []
        for shard, held in enumerate(self.held):
            if held.former == unit and self._ready(shard, unit, held.owner) and self._told(shard, absent):
                moving.append((held.owner, held.handed, shard))
            elif held.owner == unit and self._ready(shard, unit, held.filling):
                filling.append((held.filling, 0, shard))
        able = sorted(moving or filling)
        if not able:
            return None
        to, handed, _ = able[0]
        same = [shard for other, times, shard in able if (other, times) == (to, handed)]
        return Give(unit, to, tuple(same[:BATCH]))

    def _drop(self, unit: int, absent: Set[int]) -> Drop | None:
        if unit not in self._planes:
            return None
        shards = []
        for shard, held in enumerate(self.held):
            # An owner that is away may go on telling it.
            owner = (held.owner,) if held.owner != NOBODY else ()
            if unit in held.litter and unit not in held.parts() and self._told(shard, absent, unit, *owner):
                shards.append(shard)
        return Drop(unit, tuple(shards)) if shards else None


def _after(held: Held, task: Give | Drop, *, well: bool) -> Held:
    """The shard when its flows were given, or forgotten; or, not `well`, that was tried."""
    if isinstance(task, Give) and (held.owner, held.filling) == (task.unit, task.to):
        return steps.filled(held) if well else steps.unfilled(held)
    if not well:
        return held
    if isinstance(task, Drop):
        return held if task.unit in held.parts() else replace(held, litter=held.litter - {task.unit})
    if (held.former, held.owner) == (task.unit, task.to):
        # The owner knows them all: what begins from when it is told is its own.
        return replace(held, handed=held.handed + 1, begins=False)
    return held


def _learned(said: Mapping[int, ShardWord], dispatchers: Set[int], planes: Set[int]) -> Held:
    """A shard, from what units say of it."""
    words = [said[unit] for unit in sorted(dispatchers & said.keys()) if said[unit].owner != NOBODY]
    if not words:
        words = [said[unit] for unit in sorted(planes & said.keys()) if said[unit].owner == unit]
    if not words:
        return Held()
    counted = Counter(word.owner for word in words)

    def newest(word: ShardWord) -> tuple[bool, bool, int]:
        # An owner that another one follows is told before dispatchers are.
        own = said.get(word.owner)
        sure = own is not None and own.owner == word.owner
        return sure, word.former != NOBODY, counted[word.owner]

    word = max(words, key=newest)
    held = Held(word.owner, word.second, former=word.former, begins=_begins(said.get(word.owner), word))
    if word.former != NOBODY != word.second != word.former:
        # As long as a shard moves, whoever had it is the second: so it has moved.
        held = replace(held, former=NOBODY, ends=word.former)
    for unit in held.parts() & planes:
        if unit not in said or said[unit].owner == NOBODY:
            # It began anew meanwhile.
            held = steps.without(held, unit)
    # Whether the second has everything was known to a manager that is no more.
    return replace(held, stale=held.second != NOBODY)


def _begins(own: ShardWord | None, word: ShardWord) -> bool:
    """Whether what begins does so at the former owner, as far as the owner says."""
    return own is not None and own.begins and (own.owner, own.former) == (word.owner, word.former)


def by_shard(shards: Iterable[ShardWord]) -> dict[int, ShardWord]:
    """A table as units tell it, by the numbers of shards."""
    return {word.shard: word for word in shards}


def _nobody(shard: int) -> ShardWord:
    """What a unit has that was never told of a shard."""
    return ShardWord(shard, NOBODY)


def _name(unit: int) -> str | None:
    return None if unit == NOBODY else f"{unit:03d}"


def _number(name: str | None) -> int:
    return NOBODY if name is None else int(name)
