"""Maps and sets that never change, of which a changed one shares nearly all with the one before.

To copy a dictionary of 10,000 entries costs some tenths of a millisecond, and so does to let go of the old
one. Here a large one is a base, which many share, and the few keys in which this one is another. After some
hundred changes there is a new base: spread over them, a change costs what it changes.

Small ones are plain dictionaries and frozensets.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Set
from typing import Any, TypeVar, cast

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

#: What has fewer entries is copied as a whole.
SMALL = 256
#: In so many keys one may differ from its base.
_MOST = 256
_MISSING: Any = object()


def changed_map(old: Mapping[K, V], come: Mapping[K, V], gone: Collection[K] = ()) -> Mapping[K, V]:
    """The map with the entries of `come` in place of its own, and without the keys of `gone`."""
    base, own = _map_layers(old)
    if len(base) < SMALL:
        small = {**old, **come}
        for key in gone:
            small.pop(key, None)
        return small
    own = {**own, **come, **dict.fromkeys(gone, _MISSING)}
    if len(own) <= _MOST:
        # Counted by what changes: to look at each of `own` costs more than all else here.
        keys = come.keys() | gone
        more = sum(own[key] is not _MISSING for key in keys) - sum(key in old for key in keys)
        return _Map(base, own, len(old) + more)
    whole = {**base, **own}
    for key in [key for key, value in own.items() if value is _MISSING]:
        del whole[key]
    return whole


def changed_set(old: Set[K], flipped: Set[K]) -> Set[K]:
    """The set without those of `flipped` that it had, and with those that it had not."""
    base, own = _set_layers(old)
    if len(base) < SMALL:
        return frozenset(old ^ flipped)
    own = own ^ flipped
    if len(own) <= _MOST:
        return _Set(base, own, len(old) + sum(-1 if key in old else 1 for key in flipped))
    # The right one of both is copied, and what is in the left one is looked up.
    return frozenset(own ^ base)


def differing_keys(one: Mapping[K, V], other: Mapping[K, V]) -> list[K]:
    """The keys that one of them has alone, or whose values are not the same object."""
    if one is other:
        return []
    (base, own), (other_base, other_own) = _map_layers(one), _map_layers(other)
    keys: Iterable[K] = {**own, **other_own} if base is other_base else {**one, **other}
    return [key for key in keys if one.get(key, _MISSING) is not other.get(key, _MISSING)]


def differing_members(one: Set[K], other: Set[K]) -> Set[K]:
    """The members that one of them has alone."""
    (base, own), (other_base, other_own) = _set_layers(one), _set_layers(other)
    return own ^ other_own if base is other_base else frozenset(one) ^ frozenset(other)


def _map_layers(map: Mapping[K, V]) -> tuple[Mapping[K, V], Mapping[K, V]]:
    return (map.base, map.own) if isinstance(map, _Map) else (map, {})


def _set_layers(set: Set[K]) -> tuple[Set[K], Set[K]]:
    return (set.base, set.own) if isinstance(set, _Set) else (set, frozenset())


class _Map(Mapping[K, V]):
    """A base, and what is another here: a value, or `_MISSING` for a key that is not here."""

    __slots__ = ("_length", "base", "own")

    def __init__(self, base: Mapping[K, V], own: Mapping[K, V], length: int) -> None:
        self.base = base
        self.own = own
        self._length = length

    def __getitem__(self, key: K) -> V:
        value = self.get(key, _MISSING)
        if value is _MISSING:
            raise KeyError(key)
        return cast("V", value)

    def get(self, key: K, default: Any = None) -> Any:
        """As of any mapping; this one is asked often."""
        own = self.own
        if key in own:
            value = own[key]
            return default if value is _MISSING else value
        return self.base.get(key, default)

    def __contains__(self, key: object) -> bool:
        found = self.own.get(cast("K", key), self)
        return key in self.base if found is self else found is not _MISSING

    def __iter__(self) -> Iterator[K]:
        own = self.own
        yield from (key for key in self.base if own.get(key, self) is not _MISSING)
        yield from (key for key, value in own.items() if key not in self.base and value is not _MISSING)

    def __len__(self) -> int:
        return self._length

    def __repr__(self) -> str:
        return repr(dict(self))


class _Set(Set[K]):
    """A base, and what is otherwise here: members that only one of both has."""

    __slots__ = ("_length", "base", "own")

    def __init__(self, base: Set[K], own: Set[K], length: int) -> None:
        self.base = base
        self.own = own
        self._length = length

    @classmethod
    def _from_iterable(cls, members: Iterable[Any]) -> Set[Any]:
        return frozenset(members)

    def __contains__(self, key: object) -> bool:
        return (key in self.base) != (key in self.own)

    def __iter__(self) -> Iterator[K]:
        yield from (key for key in self.base if key not in self.own)
        yield from (key for key in self.own if key not in self.base)

    def __len__(self) -> int:
        return self._length

    def __hash__(self) -> int:
        return hash(frozenset(self))

    def __repr__(self) -> str:
        return repr(frozenset(self))
