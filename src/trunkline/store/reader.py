"""What can be read: resources, claims and the change log, as of one moment."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection, CursorResult, Row

from trunkline.resources.schema import R, Resource
from trunkline.store.prepared import Prepared
from trunkline.store.tables import CHANGE, CLAIM, META, model_of

Op = Literal["insert", "update", "observe", "delete"]


#: How many ids one statement names.
_AT_ONCE = 500
#: So many are sooner read one by one, by a statement that is compiled.
_FEW = 8


class Change(NamedTuple):
    """What one revision did to one resource, taken as a whole."""

    revision: int
    kind: str
    id: str
    #: "observe": only what was seen of it changed, by `Tx.observe`.
    op: Op


class Written(NamedTuple):
    """A change, and the resource as it is after it; None where it is gone."""

    change: Change
    resource: Resource | None


_META = Prepared(sa.select(META.c.value).where(META.c.key == sa.bindparam("of_key")))
_CHANGES = Prepared(
    sa.select(CHANGE.c.revision, CHANGE.c.kind, CHANGE.c.id, CHANGE.c.op)
    .where(CHANGE.c.revision > sa.bindparam("after"))
    .order_by(CHANGE.c.revision, CHANGE.c.kind, CHANGE.c.id)
)
_OWNER = Prepared(
    sa.select(CLAIM.c.owner).where(
        CLAIM.c.scope == sa.bindparam("of_scope"), CLAIM.c.value == sa.bindparam("of_value")
    )
)
_CLAIMED = (
    sa.select(CLAIM.c.value)
    .where(CLAIM.c.scope == sa.bindparam("of_scope"), CLAIM.c.value >= sa.bindparam("at_least"))
    .order_by(CLAIM.c.value)
)
_ALL_CLAIMED, _SOME_CLAIMED = Prepared(_CLAIMED), Prepared(_CLAIMED.limit(sa.bindparam("at_most")))
_CLAIMS_OF = Prepared(
    sa.select(CLAIM.c.scope, CLAIM.c.value)
    .where(CLAIM.c.owner == sa.bindparam("of_owner"))
    .order_by(CLAIM.c.scope, CLAIM.c.value)
)


class Reader:
    """A snapshot of the store. Any thread may use it, one at a time."""

    def __init__(self, connection: Connection, revision: int) -> None:
        self._connection = connection
        #: The newest revision that it shows.
        self.revision = revision

    @classmethod
    def snapshot(cls, connection: Connection) -> Reader:
        """A reader of a transaction that just began."""
        # A transaction's snapshot is that of its first read, which this one is.
        return cls(connection, int(_META.run(connection, {"of_key": "revision"})[0][0]))

    def get(self, cls: type[R], id: str) -> R | None:
        """The resource of that id."""
        model = model_of(cls)
        rows = self._rows(model.by_id, {"of_id": id})
        return model.build(rows[0]) if rows else None

    def get_all(self, cls: type[R], ids: Collection[str]) -> list[R]:
        """The resources of these ids that are there, in no order."""
        model, wanted = model_of(cls), list(ids)
        if len(wanted) <= _FEW:
            one_by_one = (self.get(cls, id) for id in wanted)
            return [each for each in one_by_one if each is not None]
        found: list[R] = []
        for start in range(0, len(wanted), _AT_ONCE):
            some = wanted[start : start + _AT_ONCE]
            found += model.build_all(self._execute(model.by_ids, {"of_ids": some}))
        return found

    def find(self, cls: type[R], **equals: Any) -> list[R]:
        """The resources whose attributes equal the values (None too), in no order."""
        model = model_of(cls)
        given = {name: value for name, value in equals.items() if value is not None}
        return model.build_all(self._rows(model.equal(equals), given))

    def first(self, cls: type[R], **equals: Any) -> R | None:
        """One resource whose attributes equal the values, where there is one."""
        model = model_of(cls)
        given = {name: value for name, value in equals.items() if value is not None}
        rows = self._rows(model.equal(equals), given)
        return model.build(rows[0]) if rows else None

    def select(
        self,
        cls: type[R],
        *where: sa.ColumnElement[bool],
        order_by: Sequence[sa.ColumnElement[Any]] = (),
        limit: int | None = None,
        offset: int | None = None,
    ) -> list[R]:
        """The resources that satisfy every clause, clauses being over ``table_of(cls).c``."""
        model = model_of(cls)
        statement = model.all.where(*where).order_by(*order_by)
        if limit is not None:
            statement = statement.limit(limit)
        if offset is not None:
            statement = statement.offset(offset)
        return model.build_all(self._execute(statement))

    def count(self, cls: type[Resource], *where: sa.ColumnElement[bool], **equals: Any) -> int:
        """How many resources satisfy the clauses, and equal the values."""
        model = model_of(cls)
        if not where:
            given = {name: value for name, value in equals.items() if value is not None}
            return int(self._rows(model.count_equal(equals), given)[0][0])
        statement = sa.select(sa.func.count()).select_from(model.table).where(*where)
        for name, value in equals.items():
            statement = statement.where(model.column(name) == value)
        return int(self._execute(statement).scalar_one())

    def rows(self, statement: sa.Select[Any]) -> Sequence[Row[Any]]:
        """The rows of a select of single columns, of joins, of aggregates."""
        return self._execute(statement).all()

    def changes(self, after: int) -> list[Change] | None:
        """What happened after a revision, in order; one entry for a resource in a revision.

        Returns: None where it cannot be told (the log was pruned, or `after` is of another
            store's future): read everything, and go on from `revision`.
        """
        floor = int(self._rows(_META, {"of_key": "floor"})[0][0])
        if not floor <= after <= self.revision:
            return None
        return [Change(*row) for row in self._rows(_CHANGES, {"after": after})]

    def claimed(self, scope: str, *, at_least: str = "", limit: int | None = None) -> list[str]:
        """The values that are claimed in a scope, sorted as text, from `at_least` on."""
        given = {"of_scope": scope, "at_least": at_least, "at_most": limit}
        return [row[0] for row in self._rows(_ALL_CLAIMED if limit is None else _SOME_CLAIMED, given)]

    def count_claims(self, prefix: str) -> dict[str, int]:
        """How many values are claimed in each scope whose name begins so; a scope without is left out."""
        end = prefix + chr(sys.maxunicode)
        statement = sa.select(CLAIM.c.scope, sa.func.count()).where(CLAIM.c.scope.between(prefix, end))
        return {row[0]: row[1] for row in self._execute(statement.group_by(CLAIM.c.scope))}

    def claim_owner(self, scope: str, value: str) -> str | None:
        """Who claimed it."""
        rows = self._rows(_OWNER, {"of_scope": scope, "of_value": value})
        return rows[0][0] if rows else None

    def claims_of(self, owner: str) -> list[tuple[str, str]]:
        """The (scope, value) that an owner claimed, sorted."""
        return [(row[0], row[1]) for row in self._rows(_CLAIMS_OF, {"of_owner": owner})]

    def _rows(self, statement: Prepared, values: Mapping[str, Any]) -> list[Sequence[Any]]:
        return statement.run(self._connection, values)

    def _execute(self, statement: sa.Executable, values: Any = None) -> CursorResult[*tuple[Any, ...]]:
        return self._connection.execute(statement, values)
