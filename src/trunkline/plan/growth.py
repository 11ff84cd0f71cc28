"""How many data planes an appliance is to have by its load. Pure: it is given what was seen, and the time.

    loads, look by look ──▶ Curve: the demand ──▶ wanted ──▶ how many

The demand is what data planes do together: the sum of their loads. When that of the last seconds is above
the target, there come as many as it wants, at once. When the highest of the whole cool-down would be well
below the target with one fewer, one goes. That gap, and the cool-down, keep it from going to and fro.
"""

from __future__ import annotations

import math
from collections import deque

from trunkline.resources.appliance import Scaling

#: The demand is the mean of so many seconds, and of so many looks at least.
SMOOTH, LOOKS = 5.0, 3
#: What is left after one goes has so much of the target at the most.
GAP = 0.9


class Curve:
    """The demand on one appliance as it was of late. Times are seconds of one clock that does not go back."""

    def __init__(self) -> None:
        self._looks: deque[tuple[float, float]] = deque()
        #: The highest means: each is later and lower than the one before.
        self._highest: deque[tuple[float, float]] = deque()
        #: Since when all of it has been seen.
        self._since: float | None = None

    def look(self, now: float, demand: float, *, whole: bool, keep: float) -> None:
        """Takes what is seen now.

        Args:
            whole: of all data planes, and not only of some.
            keep: for how long highest demands are to be remembered, seconds.
        """
        self._looks.append((now, demand))
        while self._looks[0][0] <= now - SMOOTH:
            self._looks.popleft()
        if not whole:
            self._since = None
        elif self._since is None:
            self._since = now
        if (mean := self.demand()) is not None:
            while self._highest and self._highest[-1][1] <= mean:
                self._highest.pop()
            self._highest.append((now, mean))
        while self._highest and self._highest[0][0] < now - keep:
            self._highest.popleft()

    def demand(self) -> float | None:
        """What data planes do together, in whole data planes; None where too little was seen."""
        if len(self._looks) < LOOKS:
            return None
        return sum(demand for _, demand in self._looks) / len(self._looks)

    def highest(self, now: float, span: float) -> float | None:
        """The highest demand of the last `span` seconds; None where that was not seen all the time."""
        if self._since is None or self._since > now - span:
            return None
        return next((demand for at, demand in self._highest if at >= now - span), None)


def needed(rule: Scaling, demand: float) -> int:
    """The least number of data planes whose load is not above the target."""
    return max(1, math.ceil(demand / rule.target_load - 1e-9))


def wanted(rule: Scaling, planes: int, curve: Curve, now: float, changed: float) -> int:
    """How many data planes there are to be, whatever the most is.

    Args:
        planes: how many there are to be until now.
        changed: for how long that has been so, seconds.
    """
    if planes < rule.least:
        return rule.least
    demand = curve.demand()
    if demand is None:
        return planes
    if (need := needed(rule, demand)) > planes:
        return need
    if planes > rule.most:
        return rule.most
    highest = curve.highest(now, rule.cool_down)
    if (
        planes > rule.least
        and changed >= rule.cool_down
        and highest is not None
        and fits(rule, planes - 1, highest)
    ):
        return planes - 1
    return planes


def fits(rule: Scaling, planes: int, demand: float) -> bool:
    """Whether so many have room to spare below the target."""
    return demand < GAP * rule.target_load * planes
