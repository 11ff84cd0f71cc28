"""What can be written: one `Tx` is one caller's part of a group of transactions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy.engine import Connection, CursorResult
from sqlalchemy.exc import DBAPIError, IntegrityError

from trunkline.errors import Conflict, NotFound
from trunkline.resources.schema import R, Resource
from trunkline.store import sqlite
from trunkline.store.prepared import Prepared
from trunkline.store.reader import Change, Op, Reader, Written
from trunkline.store.tables import CHANGE, CLAIM, Model, model_of

T = TypeVar("T")

_LOG = Prepared(CHANGE.insert(), keys=CHANGE.c.keys())
_CLAIM = Prepared(sqlite.insert_if_absent(CLAIM), keys=CLAIM.c.keys())
_OWNED = CLAIM.delete().where(CLAIM.c.owner == sa.bindparam("of_owner"))
_OWNED_IN = _OWNED.where(CLAIM.c.scope == sa.bindparam("of_scope"))
_RELEASE, _RELEASE_IN = Prepared(_OWNED), Prepared(_OWNED_IN)
_RELEASE_ONE = Prepared(_OWNED_IN.where(CLAIM.c.value == sa.bindparam("of_value")))


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
        #: What each of these is now; None for what is gone.
        self._left: dict[tuple[str, str], Resource | None] = {}
        self._claims_changed = False
        #: What was read or written by its id; None for what is not there.
        self._seen: dict[tuple[type[Resource], str], Resource | None] = {}
        #: What `find` found, by class and values, until one of the class is written.
        self._found: dict[type[Resource], dict[tuple[tuple[str, Any], ...], list[Any]]] = {}

    def get(self, cls: type[R], id: str) -> R | None:
        """The resource of that id; the same object each time, until it is written."""
        key = cls, id
        if key not in self._seen:
            self._seen[key] = super().get(cls, id)
        return cast("R | None", self._seen[key])

    def find(self, cls: type[R], **equals: Any) -> list[R]:
        """As of any reader; the same objects each time, until one of the class is written."""
        known, key = self._found.setdefault(cls, {}), tuple(equals.items())
        if key not in known:
            known[key] = super().find(cls, **equals)
        return list(known[key])

    def insert(self, obj: R) -> R:
        """Adds a resource.

        Raises:
            Conflict: its id, or what its spec declares unique, is there already.
        """
        model = model_of(type(obj))
        try:
            self._change(model.insert, model.values(obj))
        except IntegrityError as error:
            conflict = _conflict(model, obj, error)
            if conflict is None:
                raise
            raise conflict from error
        self._wrote(model, obj.id, obj, "insert")
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
        if not self._change(model.delete, {"of_id": id}):
            raise _absent(model, id)
        self._wrote(model, id, None, "delete")

    def claim(self, scope: str, value: str, owner: str) -> bool:
        """Claims a value in a scope.

        Returns: whether it is the owner's now; False where another has it.
        """
        if self._change(_CLAIM, {"scope": scope, "value": value, "owner": owner}):
            self._claims_changed = True
            return True
        return self.claim_owner(scope, value) == owner

    def release(self, owner: str, scope: str | None = None, value: str | None = None) -> int:
        """Gives up what an owner claimed: all, in one scope, or one value of that scope.

        Returns: how many claims there were.
        """
        statement = _RELEASE if scope is None else _RELEASE_IN if value is None else _RELEASE_ONE
        released = self._change(statement, {"of_owner": owner, "of_scope": scope, "of_value": value})
        self._claims_changed |= released > 0
        return released

    @property
    def written(self) -> list[Written]:
        """What it changed."""
        return [
            Written(Change(self.next_revision, *key, op), self._left[key])
            for key, op in self._changes.items()
            if op is not None
        ]

    def finish(self) -> bool:
        """Writes the change log, for the writer alone. Returns whether anything changed."""
        rows = [
            {"revision": self.next_revision, "kind": kind, "id": id, "op": op}
            for (kind, id), op in self._changes.items()
            if op is not None
        ]
        if rows:
            self._change(_LOG, *rows)
        return bool(rows) or self._claims_changed

    def _replace(self, obj: R, op: Op) -> bool:
        model = model_of(type(obj))
        # Read anew: what `get` remembers may be what somebody changed to make `obj` of it.
        before = super().get(model.cls, obj.id)
        if before is None:
            raise _absent(model, obj.id)
        if before == obj:
            return False
        try:
            self._change(model.update, model.changes(obj))
        except IntegrityError as error:
            conflict = _conflict(model, obj, error)
            if conflict is None:
                raise
            raise conflict from error
        self._wrote(model, obj.id, obj, op)
        return True

    def _wrote(self, model: Model[Any], id: str, obj: Resource | None, op: Op) -> None:
        """Notes a change of one resource, for the log and for what is remembered."""
        self._seen[model.cls, id] = obj
        self._found.pop(model.cls, None)
        key = (model.kind, id)
        self._left[key] = obj
        self._changes[key] = _together(self._changes[key], op) if key in self._changes else op

    def _execute(self, statement: sa.Executable, values: Any = None) -> CursorResult[*tuple[Any, ...]]:
        return self._watched(partial(super()._execute, statement, values))

    def _rows(self, statement: Prepared, values: Mapping[str, Any]) -> list[Sequence[Any]]:
        return self._watched(partial(statement.run, self._connection, values))

    def _change(self, statement: Prepared, *values: Mapping[str, Any]) -> int:
        return self._watched(partial(statement.change, self._connection, *values))

    def _watched(self, execute: Callable[[], T]) -> T:
        if self.failure is not None:
            raise self.failure
        try:
            return execute()
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
