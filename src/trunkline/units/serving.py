"""Which of an appliance's dispatchers serves which leg: each decides for itself, by what all can hear.

Who takes a leg does so with a number above all that were heard of for that leg, with its own in the lowest 8
bits, so that no two are the same. Data planes send what leaves by the leg to the newest; of two who serve it,
the older yields. So there is nobody to ask, and a cut of the bus that heals ends with one.

    nobody serves it              the one with the fewest legs takes it, of those the lowest number
    who serves it leaves,         the same, before that one yields: it does so when it hears of the newer take
    or sleeps, or cannot
    who serves it has more        the same, after a while
    than its share

The others of that order do so a little later each, so that a leg is taken though the first is not well.
Nothing here sends or waits: it is told what was heard and the time, and says what follows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

_UNITS = 256
#: How long a dispatcher's prober may stand still, whose kernel answers, before others take its legs.
SLEEP = 3.0
#: How long a share that is not fair stands before it is mended, and one that serves though it cannot.
_SHARE, _UNABLE = 1.0, 1.0
#: How much later the next one takes what the one before should have taken.
_RANK = 0.15
#: Who yielded takes nothing back before the other one's answer tells; longer, where that does not answer.
_PAUSE, _LONG_PAUSE = 0.2, 1.0


@dataclass(frozen=True)
class Heard:
    """What a dispatcher's answer says."""

    #: By leg: the number of its take, 0 where it does not serve it.
    takes: tuple[int, ...]
    #: It knows the shards, and reaches data planes.
    ready: bool
    leaves: bool
    #: Changes as long as its process runs.
    beat: int


@dataclass(frozen=True)
class Change:
    """A leg is to be served from now on, with this number; or, with 0, not any more."""

    leg: int
    take: int
    cause: str


@dataclass
class _Other:
    heard: Heard
    beat_at: float


@dataclass(frozen=True)
class _Pause:
    """Of a leg that was yielded: until when, and to whom, where that one was heard then."""

    until: float
    to: int | None

    def over(self, now: float, others: Collection[int]) -> bool:
        """Who is missed since will not answer: nobody waits for it."""
        return now >= self.until or (self.to is not None and self.to not in others)


class Serving:
    """The legs that a dispatcher serves. `takes` are its numbers, by leg; 0 where it does not."""

    def __init__(self, unit: int, takes: Sequence[int]) -> None:
        self._unit = unit
        self.takes = list(takes)
        self._newest = list(takes)
        self._others: dict[int, _Other] = {}
        #: Since when a leg is to be taken from somebody, and why.
        self._since: dict[int, tuple[str, float]] = {}
        self._pauses = [_Pause(0.0, None)] * len(self.takes)

    def noticed(self, takes: Sequence[int]) -> None:
        """The numbers that a data plane goes by."""
        self._newest = [max(pair) for pair in zip(self._newest, takes, strict=False)]

    def heard(self, unit: int, heard: Heard, now: float) -> None:
        """A dispatcher has answered."""
        self.noticed(heard.takes)
        known = self._others.get(unit)
        slept = known is not None and known.heard.beat == heard.beat
        self._others[unit] = _Other(heard, known.beat_at if known is not None and slept else now)

    def give_up(self, cause: str) -> list[Change]:
        """Serves nothing any more: who reaches nobody has nothing to serve with."""
        given = [Change(leg, 0, cause) for leg, take in enumerate(self.takes) if take]
        self.takes = [0] * len(self.takes)
        return given

    def again(self) -> list[Change]:
        """Takes what it serves anew, above what another one may have taken that it does not hear."""
        changes = []
        for leg, take in enumerate(self.takes):
            if take:
                self._newest[leg] += _UNITS
                changes.append(self._take(leg, "another one may have taken it"))
        return changes

    def decide(
        self, answering: Collection[int], now: float, *, ready: bool, leaves: bool, gone: Collection[int] = ()
    ) -> list[Change]:
        """What changes, when these other dispatchers answer; asked again and again.

        Args:
            ready, leaves: as of `Heard`, its own.
            gone: whose programs have ended, as their kernels say: nobody waits for them.
        """
        others = {unit: self._others[unit] for unit in answering if unit in self._others}
        changes = self._yield(others, now, gone)
        takes = {unit: other.heard.takes for unit, other in others.items()} | {self._unit: tuple(self.takes)}
        able = {unit for unit, other in others.items() if other.heard.ready and not other.heard.leaves}
        if ready and not leaves:
            able.add(self._unit)
        if not able:
            able = {unit for unit, other in others.items() if other.heard.ready}
            able |= {self._unit} if ready else set()
        awake = {unit for unit in able if unit == self._unit or now - others[unit].beat_at < SLEEP}
        holders: list[int | None] = []
        for leg in range(len(self.takes)):
            serve = [(numbers[leg], unit) for unit, numbers in takes.items() if leg < len(numbers)]
            number, unit = max(serve)
            holders.append(unit if number else None)
        counts = Counter(dict.fromkeys(awake, 0))
        counts.update(holder for holder in holders if holder is not None)
        for leg, holder in enumerate(holders):
            why, patience = self._why(holder, able, awake, counts, len(holders))
            order = sorted(awake - {holder}, key=lambda unit: (counts[unit], unit)) if why else []
            if not order:
                self._since.pop(leg, None)
                continue
            counts[order[0]] += 1
            if holder is not None:
                counts[holder] -= 1
            since = self._since.get(leg)
            if since is None or since[0] != why:
                since = self._since[leg] = (why, now)
            if self._unit in order:
                patience += _RANK * order.index(self._unit)
                waited = self._pauses[leg].over(now, others) or self._newest[leg] % _UNITS in gone
                if now >= since[1] + patience and waited:
                    del self._since[leg]
                    changes.append(self._take(leg, why))
        return changes

    def _why(
        self, holder: int | None, able: set[int], awake: set[int], counts: Counter[int], legs: int
    ) -> tuple[str, float]:
        """Why a leg is to be another one's, "" where it is not, and how long that is to stand before."""
        if holder is None:
            return "nobody serves it", 0.0
        if holder not in able:
            leaves = holder in self._others and self._others[holder].heard.leaves
            return (f"unit {holder} leaves", 0.0) if leaves else (f"unit {holder} cannot serve it", _UNABLE)
        if holder not in awake:
            return f"unit {holder} stands still", 0.0
        if counts[holder] > -(-legs // len(awake)):
            return f"unit {holder} serves more than its share", _SHARE
        return "", 0.0

    def _take(self, leg: int, why: str) -> Change:
        number = (self._newest[leg] // _UNITS + 1) * _UNITS + self._unit
        self.takes[leg] = self._newest[leg] = number
        return Change(leg, number, why)

    def _yield(self, others: dict[int, _Other], now: float, gone: Collection[int]) -> list[Change]:
        """Of two who serve a leg, the older one does not any more."""
        changes = []
        for leg, mine in enumerate(self.takes):
            newest = self._newest[leg]
            if not mine or newest <= mine:
                continue
            by = newest % _UNITS
            if by == self._unit:
                # A former process of this unit took it.
                changes.append(self._take(leg, "an earlier take of its own"))
                continue
            if by in gone:
                # Only data planes have heard of that.
                changes.append(self._take(leg, f"unit {by} had taken it, and ended"))
                continue
            self.takes[leg] = 0
            heard = by in others
            self._pauses[leg] = _Pause(now + (_PAUSE if heard else _LONG_PAUSE), by if heard else None)
            changes.append(Change(leg, 0, f"unit {by} has taken it"))
        return changes
