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


#: Two boxes may meet where they do so in one dimension: for each box so many are looked at, or sets are used.
_FEW = 32


def layers(boxes: Sequence[tuple[int, Box]]) -> list[int]:
    """The layer of each box, for boxes given as (number of the rule, box), rules in their order.

    Boxes of one rule do not meet each other.
    """
    found = layers_of_few(boxes)
    return layers_of_many(boxes) if found is None else found


def layers_of_few(boxes: Sequence[tuple[int, Box]]) -> list[int] | None:
    """As `layers`, in a time and a memory that go with the number of boxes; None where too many may meet.

    A line is swept along the dimension in which the fewest have a value in common.
    """
    if not boxes:
        return []
    columns = sorted(zip(*(box for _, box in boxes), strict=True), key=depth)
    spans, others = columns[0], columns[1:]
    earlier: dict[int, list[int]] = {}
    open_: list[tuple[int, int]] = []
    left = _FEW * len(boxes)
    for number in sorted(range(len(boxes)), key=spans.__getitem__):
        first, last = spans[number]
        open_ = [each for each in open_ if each[0] >= first]
        left -= len(open_)
        if left < 0:
            return None
        for _, other in open_:
            if all(c[number][0] <= c[other][1] and c[other][0] <= c[number][1] for c in others):
                earlier.setdefault(max(number, other), []).append(min(number, other))
        open_.append((last, number))
    found: list[int] = []
    for number in range(len(boxes)):
        found.append(1 + max((found[other] for other in earlier.get(number, ())), default=-1))
    return found


def layers_of_many(boxes: Sequence[tuple[int, Box]]) -> list[int]:
    """As `layers`, however many meet. Sets of boxes are integers, with a bit for each."""
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
    if spans.count(spans[0]) == len(spans):
        return len(spans)
    begin, end = (sorted(column) for column in zip(*spans, strict=True))
    most = ended = 0
    for begun, first in enumerate(begin, 1):
        while end[ended] < first:
            ended += 1
        most = max(most, begun - ended)
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
