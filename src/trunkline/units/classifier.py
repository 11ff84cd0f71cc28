"""Ordered rules as tables that a packet is looked up in: few of them, however many rules there are.

A rule is made of *boxes*: one range in each of several dimensions (source, target, service). Boxes that do
not meet can stand in one table in any order. So each box gets a *layer*: 0, or one more than the highest
layer of those boxes of earlier rules that it meets. Whoever looks a packet up layer by layer finds the rule
that is first: the boxes that a packet is in all meet there, so their layers are in the rules' order.

What overlaps costs layers: rules of which each covers the one before give as many layers as there are rules.
Usual policies have a handful.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import reduce
from operator import or_

#: Per dimension the first value and the last.
Box = tuple[tuple[int, int], ...]


def layers(boxes: Sequence[tuple[int, Box]]) -> list[int]:
    """The layer of each box, for boxes given as (number of the rule, box), rules in their order.

    Boxes of one rule do not meet each other. Sets of boxes are integers, with a bit for each.
    """
    if not boxes:
        return []
    meets = _Meetings([box for _, box in boxes])
    found: list[int] = []
    members: list[int] = []
    for number, _ in enumerate(boxes):
        earlier = meets.of(number) & ((1 << number) - 1)
        layer = len(members)
        while layer and not members[layer - 1] & earlier:
            layer -= 1
        if layer == len(members):
            members.append(0)
        members[layer] |= 1 << number
        found.append(layer)
    return found


def depth(spans: Sequence[tuple[int, int]]) -> int:
    """How many of these ranges have one value in common, at the most."""
    steps = sorted([(first, 0) for first, _ in spans] + [(last, 1) for _, last in spans])
    most = now = 0
    for _, ends in steps:
        now += -1 if ends else 1
        most = max(most, now)
    return most


class _Meetings:
    """Which boxes meet a given one."""

    def __init__(self, boxes: Sequence[Box]) -> None:
        self._boxes = boxes
        self._dimensions = [_Dimension([box[place] for box in boxes]) for place in range(len(boxes[0]))]

    def of(self, number: int) -> int:
        found = -1
        for dimension, span in zip(self._dimensions, self._boxes[number], strict=True):
            found &= dimension.meeting(*span)
        return found


class _Dimension:
    """Ranges along one line."""

    def __init__(self, spans: Sequence[tuple[int, int]]) -> None:
        self._begin = _Points((first, number) for number, (first, _) in enumerate(spans))
        self._end = _Points((last, number) for number, (_, last) in enumerate(spans))

    def meeting(self, first: int, last: int) -> int:
        """Those that begin no later than `last`, and do not end before `first`."""
        return self._begin.below(last + 1) & ~self._end.below(first)


class _Points:
    """Boxes at values: which of them are below one. What is remembered is 2,000 answers, or all."""

    def __init__(self, points: Iterable[tuple[int, int]]) -> None:
        at: dict[int, int] = {}
        for value, number in points:
            at[value] = at.get(value, 0) | 1 << number
        self._values = sorted(at)
        self._at = [at[value] for value in self._values]
        self._below = [0]
        self._step = max(1, len(self._at) // 2000)
        for start in range(0, len(self._at), self._step):
            self._below.append(reduce(or_, self._at[start : start + self._step], self._below[-1]))

    def below(self, value: int) -> int:
        count = bisect_left(self._values, value)
        whole = count // self._step
        return reduce(or_, self._at[whole * self._step : count], self._below[whole])
