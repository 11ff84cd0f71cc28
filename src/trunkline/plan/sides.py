"""Which dispatchers a manager goes by, where the in-band bus is cut between them. No input or output.

    d1, plane 5  ──╳──  d2, planes 6 and 7

Each of the two hears data planes still, would serve all legs, and would take those that it does not hear for
dead: connections would be handed to and fro for as long as the cut lasts. A manager hears both. Whoever hears
more data planes goes on; the other one stands aside, and serves nothing, until they hear each other again.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass

#: How long one stands aside that is told so, seconds: again and again, for its manager may be gone.
ASIDE = 3.0
#: How long it may take until both ends of a cut have told of it, seconds.
_HOLD = 1.0


@dataclass(frozen=True)
class View:
    """What a dispatcher says that is connected."""

    #: Units that do not answer it.
    silent: frozenset[int]
    #: How many legs it serves.
    serves: int
    #: It was heard a moment ago. Of one that was not, this may be over.
    fresh: bool


class Sides:
    """`aside` are the dispatchers that are not to serve."""

    def __init__(self) -> None:
        self.aside: frozenset[int] = frozenset()
        #: When each of those that were told is to be told again.
        self._again: dict[int, float] = {}
        #: What was found last; since when it is not clear what is to be found now.
        self._silent: frozenset[int] = frozenset()
        self._unclear: float | None = None

    def look(self, views: Mapping[int, View], planes: Set[int], now: float) -> frozenset[int]:
        """Those of whom dispatchers hear nothing, if they hear of anybody.

        Args:
            views: by dispatcher. planes: all data planes.
            now: of a clock that does not jump, seconds.
        """
        if any(_alone(views, number, self.aside) for number in views):
            # The one of whom it hears nothing is gone, or is about to say the same.
            self._unclear = now if self._unclear is None else self._unclear
            if now < self._unclear + _HOLD:
                return self._silent
        else:
            self._unclear = None
        hearing = {number for number, view in views.items() if not planes <= view.silent}

        def merit(number: int) -> tuple[int, bool, int, int]:
            view = views[number]
            return len(planes & view.silent), number in self.aside, -view.serves, number

        heeded: list[int] = []
        for number in sorted(hearing, key=merit):
            sides = (_apart(views, number, other, still=number in self.aside) for other in heeded)
            if not any(sides):
                heeded.append(number)
        self.aside = frozenset(hearing.difference(heeded))
        # Where there is only one data plane, whoever has nobody else to hear is believed.
        believed = heeded if len(planes) != 1 else views.keys() - self.aside
        self._silent = frozenset().union(*(views[number].silent for number in believed))
        return self._silent

    def due(self, now: float) -> tuple[list[int], list[int]]:
        """Who stands aside, and did not when this was asked last; and who is to be told so now."""
        new = sorted(self.aside - self._again.keys())
        due = sorted(number for number in self.aside if self._again.get(number, now) <= now)
        later = dict.fromkeys(due, now + ASIDE / 3)
        self._again = {n: when for n, when in self._again.items() if n in self.aside} | later
        return new, due


def _apart(views: Mapping[int, View], one: int, other: int, *, still: bool) -> bool:
    """Neither hears the other, and both are there; `still` so, where the first one alone says so."""
    first, second = views[one], views[other]
    mutual = one in second.silent or still
    return first.fresh and second.fresh and other in first.silent and mutual


def _alone(views: Mapping[int, View], number: int, aside: Set[int]) -> bool:
    """It alone says that it and another one do not hear each other."""
    if number in aside:
        return False
    others = [other for other in views[number].silent if other in views and views[other].fresh]
    return any(number not in views[other].silent for other in others)
