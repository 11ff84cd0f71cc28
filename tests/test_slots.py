"""Who has which slots.

| claim | and in reverse |
| --- | --- |
| each has its part, evenly among the others | who has no weight has none |
| by a hash, who goes leaves his own slots alone, and who comes takes from all | |
| new connections bring all nearer to their share | |
"""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.units.slots import by_hash, by_load, in_turn, size

NAMES = [f"10.0.0.{n} 80" for n in range(1, 7)]


def test_there_are_enough_slots_for_each() -> None:
    assert [size(n) for n in (0, 1, 2, 3, 16, 1000)] == [1, 1, 128, 256, 1024, 4096]


@given(st.lists(st.integers(0, 20), min_size=1, max_size=8), st.integers(1, 200))
def test_each_has_its_part(weights: list[int], slots: int) -> None:
    row = in_turn(weights, slots)
    assert len(row) == (slots if any(weights) else 0)
    for number, count in Counter(row).items():
        assert abs(count - slots * weights[number] / sum(weights)) <= len(weights)
        assert weights[number]


def test_parts_are_even_at_any_time() -> None:
    row = in_turn([3, 1], 256)
    assert all(Counter(row[at : at + 4]) == {0: 3, 1: 1} for at in range(0, 256, 4))
    assert in_turn([1, 1, 1], 9) == [0, 1, 2] * 3


def test_who_goes_leaves_his_slots_alone() -> None:
    before = by_hash(NAMES, [1] * 6, 1024)
    after = by_hash(NAMES, [1, 1, 0, 1, 1, 1], 1024)
    assert {one for one, other in zip(before, after, strict=True) if one != other} == {2}
    assert 2 not in after
    # What others get is spread over them.
    assert min(Counter(after).values()) > 150
    assert by_hash(NAMES, [0] * 6, 16) == []


def test_a_weight_is_so_many_times_as_many_slots() -> None:
    found = Counter(by_hash(NAMES[:2], [3, 1], 4096))
    assert 2.5 < found[0] / found[1] < 3.5


@pytest.mark.parametrize(
    ("weights", "busy", "coming", "parts"),
    [
        ([1, 1], [0, 0], 0, [0.5, 0.5]),
        ([1, 1], [10, 0], 5, [0.0, 1.0]),
        ([1, 1], [10, 0], 20, [0.25, 0.75]),
        ([2, 1], [0, 0], 30, [2 / 3, 1 / 3]),
        ([1, 0], [7, 0], 1, [1.0, 0.0]),
    ],
)
def test_new_connections_even_out(
    weights: list[float], busy: list[int], coming: int, parts: list[float]
) -> None:
    assert by_load(weights, busy, coming) == pytest.approx(parts)
