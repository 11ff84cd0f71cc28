"""Persistent maps and sets are what dictionaries and sets would be, and share what did not change."""

from __future__ import annotations

import random
import sys

import pytest

from trunkline import persistent
from trunkline.persistent import changed_map, changed_set, differing_keys, differing_members

KEYS = [f"k{number}" for number in range(60)]


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is large is so with few entries."""
    monkeypatch.setattr(persistent, "SMALL", 8)
    monkeypatch.setattr(persistent, "_MOST", 12)


@pytest.mark.parametrize("seed", range(20))
def test_maps_along_a_walk_are_dictionaries(seed: int) -> None:
    chance = random.Random(seed)
    known: dict[str, object] = {key: object() for key in KEYS[:20]}
    steps = [(known, changed_map({}, known))]
    for _ in range(60):
        come = {key: object() for key in chance.sample(KEYS, chance.randrange(4))}
        gone = set(chance.sample(KEYS, chance.randrange(4))) - come.keys()
        known = {key: one for key, one in {**known, **come}.items() if key not in gone}
        steps.append((known, changed_map(steps[-1][1], come, gone)))
    for want, have in steps:  # Also those that others were made of.
        assert (have, len(have)) == (want, len(want))
        assert [have.get(key) for key in KEYS] == [want.get(key) for key in KEYS]
        assert [key for key in KEYS if key in have] == [key for key in KEYS if key in want]
    for (one, first), (other, second) in zip(steps, chance.sample(steps, len(steps)), strict=True):
        differing = {key for key in KEYS if one.get(key) is not other.get(key)}
        assert set(differing_keys(first, second)) == differing


@pytest.mark.parametrize("seed", range(20))
def test_sets_along_a_walk_are_sets(seed: int) -> None:
    chance = random.Random(seed)
    known = frozenset(KEYS[:20])
    steps = [(known, changed_set(frozenset(), known))]
    for _ in range(60):
        flipped = frozenset(chance.sample(KEYS, chance.randrange(4)))
        known ^= flipped
        steps.append((known, changed_set(steps[-1][1], flipped)))
    for want, have in steps:
        assert (have, len(have), hash(have)) == (want, len(want), hash(want))
        assert want - have == have - want == frozenset()
    for (one, first), (other, second) in zip(steps, chance.sample(steps, len(steps)), strict=True):
        assert differing_members(first, second) == one ^ other


def test_a_missing_key_is_an_error_whether_it_was_there_or_never() -> None:
    gone = changed_map(dict.fromkeys(KEYS, 1), {}, [KEYS[0]])
    for key in (KEYS[0], "never"):
        with pytest.raises(KeyError):
            gone[key]


def test_a_change_of_a_large_one_copies_no_entry_that_stays() -> None:
    stays = object()
    many: dict[object, object] = {number: number for number in range(1000)} | {stays: stays}
    members = frozenset(many)
    before = sys.getrefcount(stays)
    kept = changed_map(many, {"new": 1}, [5]), changed_set(members, {"new", 5})
    assert [len(one) for one in kept] == [1001, 1001]
    assert (set(differing_keys(many, kept[0])), differing_members(members, kept[1])) == (
        {"new", 5},
        {"new", 5},
    )
    assert sys.getrefcount(stays) == before
