"""Derivations: what follows from each object, worked out again only where something that was read is another.

    sources: objects by class and key ──▶ node: a function of one object ──▶ outputs by kind and key
                      │                              │ asks
                      └──────────────────────▶ query: a function of a key, its value remembered

A node or a query is a pure function ``f(view, key)``. What it wants to know of the sources it asks its
`View`, which notes it; after a change those run again that had asked for what is another now, and no
others. So a function

- reads nothing but by its view, and nothing that is only observed (`Flags.observed`): that wakes nobody;
- looks up what it needs by key (`View.get`) or by what an object has (`View.where`), and does not go
  through all objects: its cost is then that of its own surroundings, however large the region is;
- asks a query for what many share, or for a small part of an object that often changes otherwise: where
  the answer stays equal, who asked does not run again.

Everything from the beginning is the same with nothing remembered.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Generic, TypeVar, cast

from trunkline.persistent import changed_map, differing_keys

T = TypeVar("T")
V = TypeVar("V")

#: So many derivations run in a row, a millisecond or so, before others get their turn.
_IN_A_ROW = 16

#: Objects by class and key. Nobody changes one: of what has changed there are new dictionaries.
Sources = Mapping[type[Any], Mapping[str, Any]]
#: What an object is looked up by: the name of an attribute, or a function to any number of values.
Field = str | Callable[[T], Iterable[Hashable]]
#: What was read: (class, key), (class, field, value) or (query, key).
Token = tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Node:
    """What follows from each object of a class: ``derive(view, key)`` for the key of every one."""

    over: type[Any]
    derive: Callable[[View, str], Iterable[Any]]


@dataclass(frozen=True)
class Outcome(Generic[V]):
    """What follows from the sources."""

    #: By kind and key. Nobody changes one: a kind in which something changed has another map.
    outputs: Mapping[Hashable, Mapping[str, V]] = field(default_factory=dict)
    #: Kind to the keys that came, went or differ since the outcome before.
    changed: Mapping[Hashable, Collection[str]] = field(default_factory=dict)


class View:
    """The sources, as one derivation sees them. What it is asked is noted for the derivation that runs."""

    def __init__(self, engine: Derivations[Any]) -> None:
        self._engine = engine
        #: What the derivation that runs now has read.
        self.reads: set[Token] = set()

    def get(self, cls: type[T], key: str | None) -> T | None:
        """The object of a key, or None."""
        if not key:
            return None
        self.reads.add((cls, key))
        return cast("T | None", self._engine.sources.get(cls, {}).get(key))

    def need(self, cls: type[T], key: str) -> T:
        """The object of a key, which is there.

        Raises:
            KeyError: it is not.
        """
        self.reads.add((cls, key))
        return cast("T", self._engine.sources[cls][key])

    def has(self, cls: type[Any], key: str | None) -> bool:
        """Whether there is an object of a key; wakes only when it comes or goes."""
        return bool(key) and self.ask(_presence(cast("Hashable", cls)), key or "")

    def where(self, cls: type[T], field: Field[T], value: Hashable) -> list[T]:
        """The objects that have a value in a field, in the order of their keys.

        An attribute that is a list has each of its members; None is no value. A function must be one and
        the same at each call: one of a module. What it costs is what it finds.
        """
        self.reads.add((cls, field, value))
        found = self._engine.index(cls, field).get(value)
        if found is None:
            return []
        objects = self._engine.sources[cls]
        return [objects[key] for key in found]

    def count(self, cls: type[Any], field: Field[Any], value: Hashable) -> int:
        """How many objects `where` would find."""
        self.reads.add((cls, field, value))
        return len(self._engine.index(cls, field).get(value, ()))

    def ask(self, query: Callable[[View, str], T], key: str) -> T:
        """The answer of a query: a function of a module, whose answers are compared and remembered."""
        self.reads.add((query, key))
        return cast("T", self._engine.answer(query, key))


@cache
def _presence(cls: Hashable) -> Callable[[View, str], bool]:
    def present(view: View, key: str) -> bool:
        return view.get(cast("type[Any]", cls), key) is not None

    return present


@dataclass(slots=True)
class _Done:
    """What a derivation gave when it last ran: a query its answer, a node its outputs."""

    reads: Collection[Token]
    value: Any


class Derivations(Generic[V]):
    """Owns what follows from the last sources, and what was read for it.

    Args:
        nodes: everything that is derived.
        place: the kind and the key of an output. No two outputs have the same.
        breathe: called now and then during a long update, by which others may be waited for.
    """

    def __init__(
        self,
        nodes: Iterable[Node],
        place: Callable[[V], tuple[Hashable, str]],
        breathe: Callable[[], object] = lambda: None,
    ) -> None:
        self._nodes: defaultdict[type[Any], list[Node]] = defaultdict(list)
        for node in nodes:
            self._nodes[node.over].append(node)
        self._place = place
        self._breathe = breathe
        self._begin()

    def _begin(self) -> None:
        self.sources: Sources = {}
        self._outcome: Outcome[V] = Outcome()
        self._indexes: defaultdict[type[Any], dict[Any, _Index]] = defaultdict(dict)
        #: (node or query, key) to what it gave; no entry where a node gave and read nothing.
        self._done: dict[tuple[Any, str], _Done] = {}
        self._readers: dict[Token, set[tuple[Any, str]]] = {}
        self._stale_nodes: dict[tuple[Any, str], None] = {}
        self._stale_queries: dict[tuple[Any, str], None] = {}
        #: Queries that nobody may ask any more.
        self._unread: set[Token] = set()
        self._view = View(self)

    def update(
        self, sources: Sources, changed: Mapping[type[Any], Collection[str]] | None = None
    ) -> Outcome[V]:
        """What follows from `sources`.

        Args:
            changed: the keys that may differ from the last sources, by class, where the caller knows; None
                has all dictionaries compared that are not the same as before.
        """
        try:
            return self._update(sources, changed)
        except BaseException:
            self._begin()  # What was half done is worth nothing.
            raise

    def _update(self, sources: Sources, changed: Mapping[type[Any], Collection[str]] | None) -> Outcome[V]:
        before, self.sources = self.sources, sources
        if changed is None:
            changed = {
                cls: differing_keys(before.get(cls, {}), sources.get(cls, {})) for cls in {*before, *sources}
            }
        for cls, keys in changed.items():
            self._note(cls, keys, before.get(cls, {}), sources.get(cls, {}))
        self._answer_again()
        return self._collect()

    def _note(
        self, cls: type[Any], keys: Collection[str], before: Mapping[str, Any], after: Mapping[str, Any]
    ) -> None:
        """Finds what is to run again because objects of a class changed."""
        nodes, indexes = self._nodes.get(cls, ()), self._indexes.get(cls, {})
        for key in keys:
            for node in nodes:
                self._stale_nodes[node, key] = None
            self._wake((cls, key))
            for field_, index in indexes.items():
                for value in index.move(key, before.get(key), after.get(key)):
                    self._wake((cls, field_, value))

    def _wake(self, token: Token) -> None:
        for reader in self._readers.get(token, ()):
            (self._stale_nodes if isinstance(reader[0], Node) else self._stale_queries)[reader] = None

    def index(self, cls: type[Any], field: Any) -> Mapping[Hashable, tuple[str, ...]]:
        """Value to the keys of the objects that have it, in order."""
        indexes = self._indexes[cls]
        found = indexes.get(field)
        if found is None:
            found = indexes[field] = _Index(field, self.sources.get(cls, {}))
        return found.keys

    def answer(self, query: Callable[[View, str], Any], key: str) -> Any:
        """The answer of a query, remembered or not."""
        asked = (query, key)
        done = self._done.get(asked)
        if done is None or asked in self._stale_queries:
            self._stale_queries.pop(asked, None)
            done = self._answered(asked, done)
        return done.value

    def _answered(self, asked: tuple[Any, str], old: _Done | None) -> _Done:
        value, reads = self._run(asked)
        self._reads(asked, old.reads if old is not None else (), reads)
        if old is not None and old.value == value:
            value = old.value
        elif old is not None:
            self._wake(asked)
        done = self._done[asked] = _Done(reads, value)
        return done

    def _answer_again(self) -> None:
        """Brings the answers of all queries up to date. Who asked one whose answer is another runs again."""
        while self._stale_queries:
            asked, _ = self._stale_queries.popitem()
            done = self._done.get(asked)
            if done is None:
                continue
            try:
                self._answered(asked, done)
            except LookupError:
                # What it is about is gone, and who asked for it may not ask again.
                self._wake(asked)
                self._reads(asked, done.reads, ())
                del self._done[asked]

    def _run(self, derivation: tuple[Any, str]) -> tuple[Any, Collection[Token]]:
        function, key = derivation
        view = self._view
        outer, view.reads = view.reads, set()
        try:
            if isinstance(function, Node):
                value: Any = tuple(function.derive(view, key))
                view.reads.discard((function.over, key))  # Noted without it.
            else:
                value = function(view, key)
            return value, tuple(view.reads)
        finally:
            view.reads = outer

    def _reads(self, reader: tuple[Any, str], before: Collection[Token], after: Collection[Token]) -> None:
        """Notes what a derivation reads now instead of before."""
        if before == after:
            return
        for token in set(before).difference(after):
            readers = self._readers[token]
            readers.discard(reader)
            if not readers:
                del self._readers[token]
                self._unread.add(token)
        for token in after:
            self._readers.setdefault(token, set()).add(reader)

    def _collect(self) -> Outcome[V]:
        """Runs the nodes that are stale, and puts what they give in its place."""
        come: dict[tuple[Hashable, str], V] = {}
        gone: dict[tuple[Hashable, str], None] = {}
        stale, self._stale_nodes = self._stale_nodes, {}
        for number, derivation in enumerate(stale, 1):
            if not number % _IN_A_ROW:
                self._breathe()
            node, key = derivation
            old = self._done.pop(derivation, None)
            value: tuple[V, ...] = ()
            reads: Collection[Token] = ()
            if key in self.sources.get(node.over, {}):
                value, reads = self._run(derivation)
            if old is not None:
                gone.update(dict.fromkeys(map(self._place, old.value)))
            self._reads(derivation, old.reads if old is not None else (), reads)
            if value or reads:
                kept = tuple(self._kept(one) for one in value)
                come.update((self._place(one), one) for one in kept)
                self._done[derivation] = _Done(reads, kept)
        self._forget_unread()
        self._outcome = self._following(come, gone.keys() - come.keys())
        return self._outcome

    def _following(
        self, come: Mapping[tuple[Hashable, str], V], gone: Iterable[tuple[Hashable, str]]
    ) -> Outcome[V]:
        """The outcome with the outputs that came, and without those that are gone."""
        before = self._outcome.outputs
        new: defaultdict[Hashable, dict[str, V]] = defaultdict(dict)
        old: defaultdict[Hashable, set[str]] = defaultdict(set)
        for kind, key in gone:
            old[kind].add(key)
        for (kind, key), one in come.items():
            if before.get(kind, {}).get(key) is not one:
                new[kind][key] = one
        changed = {kind: old[kind].union(new[kind]) for kind in (*new, *old)}
        kinds = {kind: changed_map(before.get(kind, {}), new[kind], old[kind]) for kind in changed}
        empty = [kind for kind, outputs in kinds.items() if not outputs]
        return Outcome(changed_map(before, kinds, empty), changed)

    def _kept(self, output: V) -> V:
        """The object that is there already, where it is equal."""
        kind, key = self._place(output)
        known = self._outcome.outputs.get(kind, {}).get(key)
        return known if known == output and known is not None else output

    def _forget_unread(self) -> None:
        """Drops the answers that nobody asks for any more."""
        while self._unread:
            asked = cast("tuple[Any, str]", self._unread.pop())
            if asked not in self._readers and (done := self._done.pop(asked, None)) is not None:
                self._reads(asked, done.reads, ())


class _Index:
    """Value to the keys of the objects that have it in a field."""

    def __init__(self, field: Any, objects: Mapping[str, Any]) -> None:
        self._values = _of_attribute(field) if isinstance(field, str) else field
        gathered: defaultdict[Hashable, list[str]] = defaultdict(list)
        for key, one in objects.items():
            for value in set(self._values(one)):
                gathered[value].append(key)
        self.keys: dict[Hashable, tuple[str, ...]] = {v: tuple(sorted(keys)) for v, keys in gathered.items()}

    def move(self, key: str, before: Any, after: Any) -> set[Hashable]:
        """Takes a change of one object; returns the values that it has or had."""
        old = set() if before is None else set(self._values(before))
        new = set() if after is None else set(self._values(after))
        for value in old - new:
            keys = self.keys[value]
            at = bisect_left(keys, key)
            rest = keys[:at] + keys[at + 1 :]
            if rest:
                self.keys[value] = rest
            else:
                del self.keys[value]
        for value in new - old:
            keys = self.keys.get(value, ())
            at = bisect_left(keys, key)
            self.keys[value] = (*keys[:at], key, *keys[at:])
        return old | new


def _of_attribute(name: str) -> Callable[[Any], Iterable[Hashable]]:
    def values(one: Any) -> Iterable[Hashable]:
        value = getattr(one, name)
        if value is None:
            return ()
        return value if isinstance(value, list | tuple | set | frozenset) else (value,)

    return values
