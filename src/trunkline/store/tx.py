"""What can be written: one `Tx` is one caller's part of a group of transactions."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, CursorResult
from sqlalchemy.exc import DBAPIError, IntegrityError

from trunkline.errors import Conflict, NotFound
from trunkline.resources.schema import R, Resource
from trunkline.store import sqlite
from trunkline.store.reader import Op, Reader
from trunkline.store.tables import CHANGE, CLAIM, Model, model_of

_LOG = CHANGE.insert()
_CLAIM = CLAIM.insert()
_RELEASE = CLAIM.delete().where(CLAIM.c.owner == sa.bindparam("of_owner"))


class Tx(Reader):
    """Reads and writes, all of it or nothing.

    It sees what it wrote itself, except in `changes`. A refusal that one of its methods raises
    should end it: databases differ in what may be done after one.
    """

    #: Set where the database failed us, and not the caller: the whole group is lost then.
    failure: DBAPIError | None = None

    def __init__(self, connection: Connection, revision: int, now: datetime) -> None:
        super().__init__(connection, revision - 1)
        #: When the transaction began, UTC.
        self.now = now
        #: The revision that this write spends, if it changes anything.
        self.next_revision = revision
        self._changes: dict[tuple[str, str], Op | None] = {}
        self._claims_changed = False

    def insert(self, obj: R) -> R:
        """Adds a resource.

        Raises:
            Conflict: its id, or what its spec declares unique, is there already.
        """
        model = model_of(type(obj))
        try:
            self._execute(model.insert, model.values(obj))
        except IntegrityError as error:
            conflict = _conflict(model, obj, error)
            if conflict is None:
                raise
            raise conflict from error
        self._log(model.kind, obj.id, "insert")
        return obj

    def replace(self, obj: R) -> bool:
        """Writes a resource over the one of the same id.

        Returns: whether it differs from what was there; if not, nothing is written.
        Raises:
            NotFound: there is none.
            Conflict: what its spec declares unique is there already.
        """
        return self._replace(obj, "update")

    def observe(self, obj: R) -> bool:
        """As `replace`, for what was seen in the world; the change feed tells it apart."""
        return self._replace(obj, "observe")

    def delete(self, cls: type[Resource], id: str) -> None:
        """Removes a resource.

        Raises:
            NotFound: there is none.
        """
        model = model_of(cls)
        if not self._execute(model.delete, {"of_id": id}).rowcount:
            raise _absent(model, id)
        self._log(model.kind, id, "delete")

    def claim(self, scope: str, value: str, owner: str) -> bool:
        """Claims a value in a scope.

        Returns: whether it is the owner's now; False where another has it.
        """
        holder = self.claim_owner(scope, value)
        if holder is None:
            self._execute(_CLAIM, {"scope": scope, "value": value, "owner": owner})
            self._claims_changed = True
            return True
        return holder == owner

    def release(self, owner: str, scope: str | None = None, value: str | None = None) -> int:
        """Gives up what an owner claimed: all, in one scope, or one value of it.

        Returns: how many claims there were.
        """
        statement = _RELEASE
        if scope is not None:
            statement = statement.where(CLAIM.c.scope == scope)
        if value is not None:
            statement = statement.where(CLAIM.c.value == value)
        released = self._execute(statement, {"of_owner": owner}).rowcount
        self._claims_changed |= released > 0
        return released

    @property
    def kinds(self) -> set[str]:
        """The kinds of the resources that it changed."""
        return {kind for (kind, _), op in self._changes.items() if op is not None}

    def finish(self) -> bool:
        """Writes the change log, for the writer alone. Returns whether anything changed."""
        rows = [
            {"revision": self.next_revision, "kind": kind, "id": id, "op": op}
            for (kind, id), op in self._changes.items()
            if op is not None
        ]
        if rows:
            self._execute(_LOG, rows)
        return bool(rows) or self._claims_changed

    def _replace(self, obj: R, op: Op) -> bool:
        model = model_of(type(obj))
        before = self.get(model.cls, obj.id)
        if before is None:
            raise _absent(model, obj.id)
        if before == obj:
            return False
        try:
            self._execute(model.update, model.changes(obj))
        except IntegrityError as error:
            conflict = _conflict(model, obj, error)
            if conflict is None:
                raise
            raise conflict from error
        self._log(model.kind, obj.id, op)
        return True

    def _log(self, kind: str, id: str, op: Op) -> None:
        key = (kind, id)
        self._changes[key] = _together(self._changes[key], op) if key in self._changes else op

    def _execute(self, statement: sa.Executable, values: Any = None) -> CursorResult[*tuple[Any, ...]]:
        if self.failure is not None:
            raise self.failure
        try:
            return super()._execute(statement, values)
        except DBAPIError as error:
            if sqlite.is_storage_failure(error):
                self.failure = error
            raise


def _together(first: Op | None, then: Op) -> Op | None:
    """What two changes of one resource in one revision amount to; None for nothing."""
    if first is None:
        return then
    if then == "delete":
        return None if first == "insert" else "delete"
    if first == "delete":
        return "update"
    if first == "observe":
        return then
    return first


def _absent(model: Model[Any], id: str) -> NotFound:
    return NotFound(f"No {_words(model.kind)} has the id {id}.")


def _conflict(model: Model[R], obj: R, error: IntegrityError) -> Conflict | None:
    names = sqlite.violated(error, model.table)
    if not names:
        return None
    fields = [model.spec.fields[name] for name in names]
    given = ", ".join(f"{f.wire} = '{getattr(obj, f.name)}'" if f.flags.shown else f.wire for f in fields)
    return Conflict(
        f"A {_words(model.kind)} with {given} exists already. Choose another value, or use that one.",
        field=fields[0].wire,
    )


def _words(kind: str) -> str:
    return kind.replace("_", " ")
