"""Compares all rows that should be with those that are, and says how to get from these to those.

What is ours is told by its mark; of the unmarked, a row with a name or a UUID that was ours is
ours too. No other row is touched: a set of references of a row of ours loses none but our own
members, a map of external_ids keeps the keys of others.
"""

from __future__ import annotations

import hashlib
import uuid as uuids
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trunkline.backends.ovn.names import CHILDREN, MARK, NAMED, Ref, Row, Tables, is_ours
from trunkline.devices.ovsdb import Column, Operation, Operations, Schema
from trunkline.devices.ovsdb import Row as Found

Database = Mapping[str, Mapping[str, Found]]


@dataclass
class Memory:
    """What was right after the last application: how drift is told from news."""

    wanted: Tables = field(default_factory=dict)
    #: The key of each row of ours, by UUID.
    keys: dict[str, str] = field(default_factory=dict)


@dataclass
class Plan:
    """Operations that lead to the rows wanted, in one transaction."""

    operations: list[Operation] = field(default_factory=list)
    inserted: int = 0
    changed: int = 0
    removed: int = 0
    #: Of the inserted and changed: what was right before.
    healed: int = 0
    #: The key of each row of ours that is there and stays, by UUID.
    keys: dict[str, str] = field(default_factory=dict)
    #: Where each row wanted is: its UUID, or its name in the transaction.
    places: dict[Ref, str] = field(default_factory=dict)


def compare(wanted: Tables, database: Database, schema: Schema, memory: Memory) -> Plan:
    """What to do, so that `database` holds `wanted`.

    Tables and columns that the schema does not know are left out. What hangs on a row that goes
    (the ports of a switch) goes with it, whosever it is: the database would have it no other way.
    """
    return _Comparison(wanted, database, schema, memory).plan()


def place_of(ref: Ref, database: Database, number: int) -> str:
    """The UUID that a new row gets; a name of that number where another row has it.

    It is the same whenever the row is made: where it was lost and comes back, northd, which goes by UUIDs,
    finds nothing new.
    """
    digest = hashlib.blake2b(f"{ref.table}/{ref.key}".encode(), digest_size=16, person=b"trunkline row")
    uuid = str(uuids.UUID(bytes=digest.digest(), version=5))
    return f"new{number}" if uuid in database.get(ref.table, {}) else uuid


def resolved(value: Any, places: Mapping[Ref, str]) -> Any:
    """A value with the UUIDs, or the names in the transaction, of the rows that it refers to."""
    if isinstance(value, Ref):
        return places.get(value)
    if isinstance(value, frozenset):
        return frozenset(places[one] if isinstance(one, Ref) else one for one in value)
    return value


def marked(found: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str]:
    """The external_ids of a row of ours: what others put there stays."""
    return {key: value for key, value in found.items() if not is_ours(key)} | dict(wanted)


class _Comparison:
    def __init__(self, wanted: Tables, database: Database, schema: Schema, memory: Memory) -> None:
        self._wanted = {table: rows for table, rows in wanted.items() if table in schema.tables}
        self._database = database
        self._schema = schema
        self._memory = memory
        self._operations = Operations(schema)
        self._plan = Plan()
        #: By table: every row of ours, by UUID, those too that must go.
        self._ours: dict[str, dict[str, str]] = {}
        #: The UUID, or the name in this transaction, of each row wanted, by table and key (as of a `Ref`).
        self._places = self._plan.places
        self._new: set[tuple[str, str]] = set()
        self._dropped: set[tuple[str, str]] = set()

    def plan(self) -> Plan:
        for table in self._wanted:
            self._locate(table)
        for table, rows in self._wanted.items():
            for key, row in rows.items():
                self._settle(table, key, row)
        self._prune()
        return self._plan

    def _locate(self, table: str) -> None:
        """Finds the rows of ours, and gives each row wanted its place."""
        wanted, chosen = self._wanted[table], dict[str, str]()
        ours = self._ours[table] = self._owned(table)
        for uuid, key in ours.items():
            # Of several with one key, the same one is kept every time.
            if key in wanted and (key not in chosen or uuid < chosen[key]):
                chosen[key] = uuid
        for key in wanted:
            uuid = chosen.get(key, "")
            if uuid:
                self._plan.keys[uuid] = key
            else:
                self._new.add((table, key))
                uuid = place_of(Ref(table, key), self._database, len(self._new))
            self._places[Ref(table, key)] = uuid

    def _owned(self, table: str) -> dict[str, str]:
        """The key of each row of ours, by UUID."""
        ours: dict[str, str] = {}
        unmarked: dict[str, Found] = {}
        for uuid, row in self._database.get(table, {}).items():
            key = row["external_ids"].get(MARK) or self._memory.keys.get(uuid)
            if key is None:
                unmarked[uuid] = row
            else:
                ours[uuid] = key
        if table in NAMED and unmarked:
            missing = self._wanted[table].keys() - ours.values()
            ours |= {uuid: row["name"] for uuid, row in unmarked.items() if row["name"] in missing}
        return ours

    def _settle(self, table: str, key: str, row: Row) -> None:
        """Inserts a row, or makes the one that is there like it."""
        place, known = self._places[Ref(table, key)], self._memory.wanted.get(table, {}).get(key)
        columns = self._schema.tables[table].columns
        values = {name: resolved(value, self._places) for name, value in row.items() if name in columns}
        if (table, key) in self._new:
            self._plan.operations.append(self._operations.insert(table, values, place))
            self._plan.inserted += 1
        elif operations := self._changes(table, place, values, columns):
            self._plan.operations += operations
            self._plan.changed += 1
        else:
            return
        self._plan.healed += known == row

    def _changes(
        self, table: str, uuid: str, values: Mapping[str, Any], columns: Mapping[str, Column]
    ) -> list[Operation]:
        found = self._database[table][uuid]
        update: dict[str, Any] = {}
        mutations: list[tuple[str, str, Any]] = []
        for name, value in values.items():
            column = columns[name]
            if found[name] == value:
                continue
            if column.key_table is not None and column.max > 1:
                mutations += self._members(table, uuid, column, value)
            elif name != "external_ids" or (value := marked(found[name], value)) != found[name]:
                update[name] = value
        operations = [self._operations.update(table, uuid, update)] if update else []
        return [*operations, self._operations.mutate(table, uuid, mutations)] if mutations else operations

    def _members(
        self, table: str, uuid: str, column: Column, wanted: frozenset[str]
    ) -> list[tuple[str, str, Any]]:
        found = self._database[table][uuid][column.name]
        assert column.key_table is not None
        ours = self._ours.get(column.key_table, {})
        added = wanted - found
        dropped = {member for member in found - wanted if member in ours}
        if column.name in CHILDREN.get(table, ()):
            self._dropped |= {(column.key_table, member) for member in dropped}
        return [
            (column.name, mutator, sorted(members))
            for mutator, members in (("insert", added), ("delete", dropped))
            if members
        ]

    def _prune(self) -> None:
        """Removes what is ours and not wanted, with what only it refers to."""
        for table, ours in self._ours.items():
            if self._schema.tables[table].is_root:
                for uuid in ours:
                    if uuid not in self._plan.keys:
                        self._plan.operations.append(self._operations.delete(table, uuid))
                        self._dropped.add((table, uuid))
        gone, open = set[tuple[str, str]](), list(self._dropped)
        while open:
            table, uuid = open.pop()
            if uuid in self._plan.keys or (table, uuid) in gone:
                continue
            gone.add((table, uuid))
            row, columns = self._database[table][uuid], self._schema.tables[table].columns
            for name in CHILDREN.get(table, ()):
                child = columns[name].key_table or ""
                open += (
                    (child, member) for member in row.get(name, ()) if member in self._ours.get(child, {})
                )
        self._plan.removed = len(gone)
