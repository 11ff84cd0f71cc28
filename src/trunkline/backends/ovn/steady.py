"""Compares what has changed since everything was right, at a cost that is that of the changes.

What changed in what is wanted (`News`) and which rows changed in the database are looked at, and nothing
else. Whatever is out of the ordinary, a row of ours that somebody deleted, one more with our mark, is not
dealt with here: then everything is compared (`diff`).
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Mapping, Set
from typing import Any

from trunkline.backends.ovn.diff import Database, Memory, Plan, marked, place_of, resolved
from trunkline.backends.ovn.names import MARK, NAMED, OWNED, Owner, Ref, Row
from trunkline.backends.ovn.rows import News, Wanted
from trunkline.devices.ovsdb import Operation, Operations, Schema
from trunkline.devices.ovsdb import Row as Found
from trunkline.persistent import differing_members


class Unhandled(Exception):
    """What happened is not dealt with here."""


class Steady:
    """Owns the places of our rows, from when all of them were right.

    Args:
        wanted: what the database holds.
        places: the UUID of each of its rows.
        schema: the database's.
    """

    def __init__(self, wanted: Wanted, places: Mapping[Ref, str], schema: Schema) -> None:
        self._wanted = wanted
        self._schema = schema
        self._places = dict(places)
        self._refs = {uuid: ref for ref, uuid in places.items()}
        #: By column that is gathered, of the rows that have a place: the members that have one.
        self._gathered: dict[Owner, set[str]] = {}
        #: The same columns, as the database had them when they were last found right.
        self._right: dict[Owner, Set[str]] = {}
        for ref in places:
            self._gather(ref, wanted)

    def memory(self) -> Memory:
        """What was right, for a comparison of everything."""
        return Memory(self._wanted.tables(), {uuid: ref.key for uuid, ref in self._refs.items()})

    def plan(
        self,
        wanted: Wanted,
        news: News,
        touched: Iterable[tuple[str, str]],
        database: Database,
        schema: Schema,
    ) -> Plan:
        """What to do so that the database holds `wanted`.

        Args:
            news: what is another than when it was right.
            touched: table and UUID of the rows of the database that are.
        Raises:
            Unhandled: that cannot be told from this. `memory` tells what was right; this object is spent.
        """
        if schema is not self._schema:
            raise Unhandled("the database was converted")
        seen = self._seen(wanted, touched, database)
        self._follow(wanted, news)
        for ref in [ref for ref in seen if not self._there(ref, database)]:
            seen.discard(ref)
            self._forget(ref)
        return _Step(
            wanted, news, seen, database, schema, self._places, self._refs, self._gathered, self._right
        ).plan()

    def confirm(
        self, wanted: Wanted, news: News, touched: Iterable[tuple[str, str]], database: Database
    ) -> None:
        """Takes it that the database holds `wanted`, `touched` as of `plan`."""
        self._wanted = wanted
        for ref in news.rows:
            if wanted.row(ref) is None:
                self._forget(ref)
        for table, uuid in touched:
            row, known = database[table].get(uuid), self._refs.get(uuid)
            if row is not None and known is not None:
                owners = (owner for owner in wanted.owners(known) if owner.column in row)
                self._right.update((owner, row[owner.column]) for owner in owners)

    def _seen(self, wanted: Wanted, touched: Iterable[tuple[str, str]], database: Database) -> set[Ref]:
        """The rows of ours that changed in the database. New ones get their place."""
        seen, admitted = set(), []
        for table, uuid in touched:
            row, ref = database[table].get(uuid), self._refs.get(uuid)
            if ref is None:
                ref = self._new(wanted, table, row)
                if ref is None:
                    continue
                self._places[ref], self._refs[uuid] = uuid, ref
                admitted.append(ref)
            elif row is None and wanted.row(ref) is not None:
                raise Unhandled("somebody deleted a row of ours")
            elif row is not None and row["external_ids"].get(MARK, ref.key) != ref.key:
                raise Unhandled("somebody marked a row of ours as another")
            seen.add(ref)
        for ref in admitted:
            self._gather(ref, wanted)
        return seen

    def _new(self, wanted: Wanted, table: str, row: Found | None) -> Ref | None:
        """Which row of ours it is that has come, if any."""
        if row is None:
            return None
        key = row["external_ids"].get(MARK)
        ref = Ref(table, key or (row["name"] if table in NAMED else ""))
        free = wanted.row(ref) is not None and ref not in self._places
        if free != (key is not None):
            raise Unhandled("a row has come that may be ours, or is marked as ours and is not wanted")
        return ref if free else None

    def _follow(self, wanted: Wanted, news: News) -> None:
        """Takes the members that came and went."""
        for owner, keys in news.members.items():
            gathered = self._gathered.get(owner)
            if gathered is None:
                continue
            members, table = wanted.members(owner), owner.children
            for key in keys:
                place = self._places.get(Ref(table, key))
                if place is not None:
                    (gathered.add if key in members else gathered.discard)(place)

    def _gather(self, ref: Ref, wanted: Wanted) -> None:
        for owner in wanted.owners(ref):
            places = (self._places.get(Ref(owner.children, key)) for key in wanted.members(owner))
            self._gathered[owner] = {place for place in places if place is not None}

    def _there(self, ref: Ref, database: Database) -> bool:
        return self._places[ref] in database[ref.table]

    def _forget(self, ref: Ref) -> None:
        uuid = self._places.pop(ref, None)
        if uuid is not None:
            del self._refs[uuid]
        for owner in self._wanted.owners(ref):
            self._gathered.pop(owner, None)
            self._right.pop(owner, None)


class _Step:
    """One comparison of what has changed."""

    def __init__(
        self,
        wanted: Wanted,
        news: News,
        seen: set[Ref],
        database: Database,
        schema: Schema,
        places: dict[Ref, str],
        refs: Mapping[str, Ref],
        gathered: Mapping[Owner, set[str]],
        right: Mapping[Owner, Set[str]],
    ) -> None:
        self._wanted = wanted
        self._news = news
        self._seen = seen
        self._database = database
        self._schema = schema
        self._operations = Operations(schema)
        self._refs = refs
        self._gathered = gathered
        self._right = right
        self._there = places
        #: The rows to look at, in the order of the tables.
        known = [ref for ref in news.rows | seen if ref.table in schema.tables]
        self._rows = sorted(known, key=lambda ref: (_ORDER[ref.table], ref.key))
        self._new = {
            ref: place_of(ref, database, number)
            for number, ref in enumerate(self._rows)
            if ref not in places and wanted.row(ref) is not None
        }
        self._places = ChainMap(self._new, places)

    def plan(self) -> Plan:
        plan = Plan()
        whole = {owner for ref in self._seen for owner in self._wanted.owners(ref)}
        mutations = {
            owner: found
            for owner in dict.fromkeys([*self._news.members, *sorted(whole)])
            if (found := self._mutations(owner, whole=owner in whole))
        }
        for ref in dict.fromkeys([*self._rows, *(Ref(owner.table, owner.key) for owner in mutations)]):
            row, place = self._wanted.row(ref), self._there.get(ref)
            if row is None:
                if place is not None:
                    plan.removed += 1
                    if self._schema.tables[ref.table].is_root:
                        plan.operations.append(self._operations.delete(ref.table, place))
                continue
            if place is None:
                plan.operations.append(self._insert(ref, row))
                plan.inserted += 1
            elif operations := self._changes(ref, place, row, mutations):
                plan.operations += operations
                plan.changed += 1
            else:
                continue
            owners = self._wanted.owners(ref)
            plan.healed += ref not in self._news.rows and not any(o in self._news.members for o in owners)
        return plan

    def _insert(self, ref: Ref, row: Row) -> Operation:
        columns = self._schema.tables[ref.table].columns
        values = {name: self._resolved(value) for name, value in row.items() if name in columns}
        for owner in self._wanted.owners(ref):
            if owner.column in columns:
                members = frozenset(Ref(owner.children, key) for key in self._wanted.members(owner))
                values[owner.column] = self._resolved(members)
        return self._operations.insert(ref.table, values, self._new[ref])

    def _changes(
        self, ref: Ref, place: str, row: Row, gathered: Mapping[Owner, list[tuple[str, str, Any]]]
    ) -> list[Operation]:
        found, columns = self._database[ref.table][place], self._schema.tables[ref.table].columns
        update: dict[str, Any] = {}
        mutations: list[tuple[str, str, Any]] = []
        for name, value in row.items():
            if name not in columns:
                continue
            value = self._resolved(value)
            if found[name] == value:
                continue
            if columns[name].key_table is not None and columns[name].max > 1:
                mutations += self._difference(name, value, found[name])
            elif name != "external_ids" or (value := marked(found[name], value)) != found[name]:
                update[name] = value
        for owner in self._wanted.owners(ref):
            mutations += gathered.get(owner, ())
        operations = [self._operations.update(ref.table, place, update)] if update else []
        if mutations:
            operations.append(self._operations.mutate(ref.table, place, mutations))
        return operations

    def _mutations(self, owner: Owner, *, whole: bool) -> list[tuple[str, str, Any]]:
        """What to do with the members of a row that is there and stays."""
        ref = Ref(owner.table, owner.key)
        place, table = self._there.get(ref), self._schema.tables.get(owner.table)
        if place is None or self._wanted.row(ref) is None or table is None:
            return []
        if owner.column not in table.columns:
            return []
        found: Set[str] = self._database[owner.table][place][owner.column]
        members, gathered = self._wanted.members(owner), self._gathered[owner]
        added, dropped = set[str](), set[str]()
        for key in self._news.members.get(owner, ()):
            child = Ref(owner.children, key)
            where = self._places.get(child)
            if key in members:
                if where is None:
                    raise Unhandled("a member has no place")
                if where not in found:
                    added.add(where)
            elif where is not None and where in found:
                dropped.add(where)
        if whole:
            # What has not changed since all of it was right, and is not among the news, is right.
            right = self._right.get(owner)
            for one in differing_members(gathered if right is None else right, found):
                if one in gathered and one not in found:
                    added.add(one)
                elif one in found and one not in gathered and one in self._refs:
                    dropped.add(one)
        return _mutations(owner.column, added, dropped)

    def _difference(self, column: str, wanted: frozenset[str], found: Set[str]) -> list[Any]:
        dropped = {one for one in found - wanted if one in self._refs}
        return _mutations(column, wanted - found, dropped)

    def _resolved(self, value: Any) -> Any:
        if not isinstance(value, _REFERRING):
            return value
        try:
            return resolved(value, self._places)
        except KeyError:
            raise Unhandled("a row refers to one that has no place") from None


#: What has references in it, if any.
_REFERRING = (Ref, frozenset)
_ORDER = {table: number for number, table in enumerate(OWNED)}


def _mutations(column: str, added: Iterable[str], dropped: Iterable[str]) -> list[tuple[str, str, Any]]:
    steps = (("insert", sorted(added)), ("delete", sorted(dropped)))
    return [(column, mutator, members) for mutator, members in steps if members]
