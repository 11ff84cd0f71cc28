"""Store: first working version."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import msgspec
import sqlalchemy as sa

from trunkline.errors import Conflict, NotFound
from trunkline.resources.schema import Resource, Spec, spec_of, specs

R = TypeVar("R", bound=Resource)
T = TypeVar("T")

METADATA = sa.MetaData()
CLAIMS = sa.Table(
    "claim_",
    METADATA,
    sa.Column("scope", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, primary_key=True),
    sa.Column("owner", sa.Text, nullable=False, index=True),
)
CHANGES = sa.Table(
    "change_",
    METADATA,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("revision", sa.Integer, index=True),
    sa.Column("kind", sa.Text),
    sa.Column("id", sa.Text),
    sa.Column("op", sa.Text),
)
_COLUMN = {str: sa.Text, int: sa.BigInteger, bool: sa.Boolean, float: sa.Float}


class Change(NamedTuple):
    revision: int
    kind: str
    id: str
    op: str


class _Codec:
    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        columns = []
        for f in spec.fields.values():
            columns.append(
                sa.Column(
                    f.name,
                    _COLUMN.get(f.base, sa.Text),
                    primary_key=f.name == "id",
                    nullable=f.name != "id",
                    index=bool(f.flags.index or f.flags.refers or f.name == "project_id") and f.name != "id",
                )
            )
        uniques = [sa.UniqueConstraint(*names) for names in spec.unique]
        self.table = sa.Table(spec.kind, METADATA, *columns, *uniques)
        self.plan = [(f.name, None if f.scalar else msgspec.json.Decoder(f.annotation)) for f in spec.fields.values()]

    def row(self, obj: Resource) -> dict[str, Any]:
        return {
            n: getattr(obj, n) if d is None else msgspec.json.encode(getattr(obj, n)).decode() for n, d in self.plan
        }

    def obj(self, row: Any) -> Any:
        return self.spec.cls(
            **{n: v if d is None or v is None else d.decode(v) for (n, d), v in zip(self.plan, row, strict=True)}
        )


@cache
def codec(cls: type[Resource]) -> _Codec:
    return _Codec(spec_of(cls))


def table_of(cls: type[Resource]) -> sa.Table:
    return codec(cls).table


class Reader:
    def __init__(self, connection: sa.Connection, revision: int) -> None:
        self.connection = connection
        self.revision = revision

    def get(self, cls: type[R], id: str) -> R | None:
        found = self.select(cls, table_of(cls).c.id == id)
        return found[0] if found else None

    def find(self, cls: type[R], **equals: Any) -> list[R]:
        return self.select(cls, *[table_of(cls).c[k] == v for k, v in equals.items()])

    def first(self, cls: type[R], **equals: Any) -> R | None:
        found = self.find(cls, **equals)
        return found[0] if found else None

    def select(
        self, cls: type[R], *where: Any, order_by: Sequence[Any] = (), limit: int | None = None, offset: int | None = None
    ) -> list[R]:
        c = codec(cls)
        rows = self.connection.execute(sa.select(c.table).where(*where).order_by(*order_by).limit(limit).offset(offset))
        return [c.obj(row) for row in rows]

    def count(self, cls: type[R], *where: Any, **equals: Any) -> int:
        t = table_of(cls)
        clauses = [*where, *(t.c[k] == v for k, v in equals.items())]
        return int(self.connection.execute(sa.select(sa.func.count()).select_from(t).where(*clauses)).scalar_one())

    def changes(self, after: int) -> list[Change] | None:
        first = self.connection.execute(sa.select(sa.func.min(CHANGES.c.revision))).scalar()
        if first is not None and first > after + 1:
            return None
        rows = self.connection.execute(
            sa.select(CHANGES.c.revision, CHANGES.c.kind, CHANGES.c.id, CHANGES.c.op)
            .where(CHANGES.c.revision > after)
            .order_by(CHANGES.c.number)
        )
        return [Change(*row) for row in rows]

    def claimed(self, scope: str, *, at_least: str = "", limit: int | None = None) -> list[str]:
        q = sa.select(CLAIMS.c.value).where(CLAIMS.c.scope == scope, CLAIMS.c.value >= at_least)
        return list(self.connection.execute(q.order_by(CLAIMS.c.value).limit(limit)).scalars())

    def claim_owner(self, scope: str, value: str) -> str | None:
        q = sa.select(CLAIMS.c.owner).where(CLAIMS.c.scope == scope, CLAIMS.c.value == value)
        return cast("str | None", self.connection.execute(q).scalar())

    def claims_of(self, owner: str) -> list[tuple[str, str]]:
        q = sa.select(CLAIMS.c.scope, CLAIMS.c.value).where(CLAIMS.c.owner == owner)
        return [(s, v) for s, v in self.connection.execute(q)]


class Tx(Reader):
    def __init__(self, connection: sa.Connection, revision: int, now: datetime) -> None:
        super().__init__(connection, revision)
        self.now = now
        self.changed = False

    def _log(self, cls: type[Resource], id: str, op: str) -> None:
        self.changed = True
        self.connection.execute(
            sa.insert(CHANGES), {"revision": self.revision + 1, "kind": spec_of(cls).kind, "id": id, "op": op}
        )

    def insert(self, obj: Resource) -> None:
        c = codec(type(obj))
        try:
            self.connection.execute(sa.insert(c.table), c.row(obj))
        except sa.exc.IntegrityError as error:
            raise Conflict(f"A {c.spec.kind} with the same {error.orig} is there.") from None
        self._log(type(obj), obj.id, "insert")

    def _replace(self, obj: Resource, op: str) -> None:
        c = codec(type(obj))
        try:
            done = self.connection.execute(sa.update(c.table).where(c.table.c.id == obj.id), c.row(obj))
        except sa.exc.IntegrityError as error:
            raise Conflict(f"A {c.spec.kind} with the same {error.orig} is there.") from None
        if done.rowcount == 0:
            raise NotFound(f"{c.spec.kind} {obj.id} could not be found.")
        self._log(type(obj), obj.id, op)

    def replace(self, obj: Resource) -> None:
        self._replace(obj, "update")

    def observe(self, obj: Resource) -> None:
        self._replace(obj, "observe")

    def delete(self, cls: type[Resource], id: str) -> None:
        t = table_of(cls)
        if self.connection.execute(sa.delete(t).where(t.c.id == id)).rowcount == 0:
            raise NotFound(f"{spec_of(cls).kind} {id} could not be found.")
        self._log(cls, id, "delete")

    def claim(self, scope: str, value: str, owner: str) -> bool:
        found = self.claim_owner(scope, value)
        if found is None:
            self.connection.execute(sa.insert(CLAIMS), {"scope": scope, "value": value, "owner": owner})
            self.changed = True
            return True
        return found == owner

    def release(self, owner: str, scope: str | None = None, value: str | None = None) -> None:
        clauses = [CLAIMS.c.owner == owner]
        if scope is not None:
            clauses.append(CLAIMS.c.scope == scope)
        if value is not None:
            clauses.append(CLAIMS.c.value == value)
        if self.connection.execute(sa.delete(CLAIMS).where(*clauses)).rowcount:
            self.changed = True


class Store:
    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        with engine.connect() as c:
            self._revision = c.execute(sa.select(sa.func.max(CHANGES.c.revision))).scalar() or 0
        self._queue: queue.Queue[Any] = queue.Queue()
        self._waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @classmethod
    def open(cls, path: Path, **_: Any) -> Store:
        path.parent.mkdir(parents=True, exist_ok=True)
        for spec in specs().values():
            codec(spec.cls)
        engine = sa.create_engine(f"sqlite:///{path}", connect_args={"check_same_thread": False})

        @sa.event.listens_for(engine, "connect")
        def _connect(c: Any, _: Any) -> None:
            c.isolation_level = None
            c.execute("PRAGMA journal_mode=WAL")
            c.execute("PRAGMA synchronous=FULL")

        METADATA.create_all(engine)
        return cls(engine)

    @property
    def revision(self) -> int:
        return self._revision

    def close(self) -> None:
        self._queue.put(None)
        self._thread.join()
        self._engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Reader]:
        with self._engine.connect() as c:
            c.exec_driver_sql("BEGIN")
            revision = c.execute(sa.select(sa.func.max(CHANGES.c.revision))).scalar() or 0
            try:
                yield Reader(c, revision)
            finally:
                c.exec_driver_sql("ROLLBACK")

    def write_sync(self, fn: Callable[[Tx], T]) -> T:
        future: Future[T] = Future()
        self._queue.put((fn, future))
        return future.result()

    async def write(self, fn: Callable[[Tx], T]) -> T:
        future: Future[T] = Future()
        self._queue.put((fn, future))
        return await asyncio.wrap_future(future)

    async def changed(self, after: int) -> None:
        while self._revision <= after:
            event = asyncio.Event()
            entry = (asyncio.get_running_loop(), event)
            self._waiters.append(entry)
            try:
                if self._revision <= after:
                    await event.wait()
            finally:
                if entry in self._waiters:
                    self._waiters.remove(entry)

    def _run(self) -> None:
        with self._engine.connect() as c:
            while True:
                batch = [self._queue.get()]
                while len(batch) < 64 and not self._queue.empty():
                    batch.append(self._queue.get())
                stop = None in batch
                self._commit(c, [b for b in batch if b is not None])
                if stop:
                    return

    def _commit(self, c: sa.Connection, batch: list[Any]) -> None:
        done = []
        c.exec_driver_sql("BEGIN IMMEDIATE")
        revision = self._revision
        for fn, future in batch:
            tx = Tx(c, revision, datetime.now(UTC))
            c.exec_driver_sql("SAVEPOINT s")
            try:
                result = fn(tx)
            except BaseException as error:
                c.exec_driver_sql("ROLLBACK TO s")
                c.exec_driver_sql("RELEASE s")
                done.append((future, None, error))
                continue
            c.exec_driver_sql("RELEASE s")
            if tx.changed:
                revision += 1
            done.append((future, result, None))
        c.exec_driver_sql("COMMIT")
        self._revision = revision
        for future, result, error in done:
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)
        for loop, event in list(self._waiters):
            loop.call_soon_threadsafe(event.set)
