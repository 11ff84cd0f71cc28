"""How long things took, counted; and since which mark."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping

from trunkline.traffic.words import Delays, Period

#: Each bucket is 2% wider than the one below.
_PER_E = 1 / math.log(1.02)
#: What is shorter is in the lowest bucket, seconds.
_SHORTEST = 1e-6


class Histogram:
    """Spans of time, known to within 2%, however many."""

    def __init__(self, buckets: Mapping[int, int] | None = None, longest: float = 0.0) -> None:
        """One that is empty, or again what another one's `buckets` and longest were."""
        self._buckets = Counter(buckets)
        self._longest = longest

    def add(self, seconds: float) -> None:
        self._buckets[int(math.log(max(seconds, _SHORTEST) / _SHORTEST) * _PER_E)] += 1
        if seconds > self._longest:
            self._longest = seconds

    def join(self, others: Iterable[Histogram]) -> Histogram:
        """Itself, with all of theirs."""
        for other in others:
            self._buckets.update(other._buckets)
            self._longest = max(self._longest, other._longest)
        return self

    def buckets(self) -> dict[int, int]:
        """How many there are in each."""
        return dict(self._buckets)

    def delays(self) -> Delays:
        """What is told of it."""
        count = self._buckets.total()
        if not count:
            return Delays()
        parts = (0.5, 0.99, 0.999)
        found: list[float] = []
        below = 0
        for bucket in sorted(self._buckets):
            below += self._buckets[bucket]
            # The upper edge: never less than it was, nor more than the longest.
            edge = min(_SHORTEST * math.exp((bucket + 1) / _PER_E), self._longest)
            while len(found) < len(parts) and below >= parts[len(found)] * count:
                found.append(edge)
        return Delays(count=count, median=found[0], p99=found[1], p999=found[2], longest=self._longest)


class Counts:
    """Three histograms and a gap, of one span of the run."""

    def __init__(self, name: str, began: float) -> None:
        self.name, self.began = name, began
        self.connections, self.flows, self.own = Histogram(), Histogram(), Histogram()
        self.longest_gap, self.flow = 0.0, -1

    def gap(self, flow: int, seconds: float) -> None:
        """A time without an answer."""
        if seconds > self.longest_gap:
            self.longest_gap, self.flow = seconds, flow

    def period(self) -> Period:
        """What is told of it."""
        return Period(
            name=self.name,
            began=self.began,
            longest_gap=self.longest_gap,
            flow=self.flow,
            connections=self.connections.delays(),
            flows=self.flows.delays(),
            own=self.own.delays(),
            flow_buckets=self.flows.buckets(),
        )


class Periods:
    """The run, from mark to mark; `now` is the one that goes on."""

    def __init__(self, began: float) -> None:
        self.all = [Counts("", began)]
        self.now = self.all[0]

    def mark(self, name: str, at: float) -> None:
        """A new one begins."""
        self.now = Counts(name, at)
        self.all.append(self.now)

    def at(self, when: float) -> Counts:
        """The one that went on then."""
        return next((each for each in reversed(self.all) if each.began <= when), self.all[0])

    def since(self, when: float) -> tuple[str, ...]:
        """The names of the one that went on then, and of all later."""
        found: list[str] = []
        for each in reversed(self.all):
            found.append(each.name)
            if each.began <= when:
                break
        return tuple(reversed(found))

    def total(self) -> Counts:
        """The whole run as one."""
        whole = Counts("", self.all[0].began)
        whole.connections.join(each.connections for each in self.all)
        whole.flows.join(each.flows for each in self.all)
        whole.own.join(each.own for each in self.all)
        for each in self.all:
            whole.gap(each.flow, each.longest_gap)
        return whole


class Turns:
    """Who is due: of `count`, each once in `period` seconds, spread evenly.

    Whoever calls too late is told of all that were due, but not of those older than `forgotten` seconds: they
    are left out, so that what comes then is no burst.
    """

    def __init__(self, count: int, period: float, began: float, forgotten: float = 0.25) -> None:
        self._count, self._period, self._began = count, period, began
        self._forgotten = forgotten
        self._turn = 0

    def due(self, now: float, most: int = 256) -> list[tuple[int, float]]:
        """At most so many: who, and how late it is; the first one as late as the oldest that is left out."""
        if not self._count:
            return []
        step = self._period / self._count
        oldest = math.ceil((now - self._forgotten - self._began) / step)
        late = now - self._began - self._turn * step
        self._turn = max(self._turn, oldest)
        last = min(int((now - self._began) / step) + 1, self._turn + most)
        found = [(turn % self._count, now - self._began - turn * step) for turn in range(self._turn, last)]
        self._turn = max(self._turn, last)
        return [(found[0][0], late), *found[1:]] if found else []

    def next(self) -> float:
        """When somebody is due again."""
        return self._began + self._turn * self._period / self._count if self._count else math.inf
