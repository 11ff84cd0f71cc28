"""The one thread that writes, in groups.

    write(fn) --\
    write(fn) ---> queue --> BEGIN; SAVEPOINT, fn, RELEASE; SAVEPOINT, fn, ...; COMMIT --> callers
    write(fn) --/                         `-- on an exception: ROLLBACK TO, for this caller alone

Waiting for the disk takes most of a small transaction's time. Whoever asks while the disk is
being waited for goes into the next group, and the group waits once.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError

from trunkline.errors import Unavailable
from trunkline.store import sqlite
from trunkline.store.prepared import Prepared
from trunkline.store.reader import Written
from trunkline.store.tables import CHANGE, META
from trunkline.store.tx import Tx

CLOSED = "The store is closed. Try again when the control process is back."

_LOG = logging.getLogger(__name__)

_SET = Prepared(
    META.update().where(META.c.key == sa.bindparam("of_key")).values(value=sa.bindparam("new_value"))
)
_PRUNE = Prepared(CHANGE.delete().where(CHANGE.c.revision <= sa.bindparam("floor")))
_SAVE = Prepared(sa.text("SAVEPOINT job"))
_UNDO = Prepared(sa.text("ROLLBACK TO SAVEPOINT job"))
_KEEP = Prepared(sa.text("RELEASE SAVEPOINT job"))


class Job:
    """A function that waits to be run, and whoever waits for it."""

    def __init__(
        self,
        function: Callable[[Tx], Any],
        future: asyncio.Future[Any] | Future[Any],
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        self.function = function
        self.future = future
        self.loop = loop
        self.result: Any = None
        self.error: Exception | None = None

    def resolve(self) -> None:
        """Tells who waits, in the thread that may."""
        if self.future.done():
            return
        if self.error is None:
            self.future.set_result(self.result)
        elif isinstance(self.error, StopIteration):
            # No future takes this one: it would end a generator instead.
            self.future.set_exception(RuntimeError("the function raised StopIteration"))
        else:
            self.future.set_exception(self.error)


class Writer:
    """Owns the writing connection and the thread. `committed` is called in it, after each commit, with the
    revision and what was changed."""

    def __init__(
        self,
        engine: Engine,
        *,
        revision: int,
        floor: int,
        keep: int,
        group: int,
        committed: Callable[[int, list[Written]], None],
    ) -> None:
        self._engine = engine
        #: Kept from one group to the next; after a failure there is another one.
        self._connection: Connection | None = None
        self._revision = revision
        self._floor = floor
        self._keep = keep
        self._group = group
        self._committed = committed
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    @property
    def closed(self) -> bool:
        """Whether no more jobs are taken."""
        return self._closed

    def put(self, job: Job) -> None:
        """Queues a job.

        Raises:
            Unavailable: the store is closed.
        """
        if threading.current_thread() is self._thread:
            raise RuntimeError("a function that is given to write() must not wait for another one")
        with self._lock:
            if self._closed:
                raise Unavailable(CLOSED)
            self._queue.put(job)

    def close(self) -> None:
        """Runs what is queued, then ends."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        closing = False
        while not closing:
            jobs: list[Job] = []
            job = self._queue.get()
            while job is not None:
                jobs.append(job)
                if len(jobs) == self._group:
                    break
                try:
                    job = self._queue.get_nowait()
                except queue.Empty:
                    break
            else:
                closing = True
            self._serve([job for job in jobs if not job.future.cancelled()])
        self._disconnect()

    def _serve(self, jobs: list[Job]) -> None:
        try:
            revision, floor, written = self._commit(jobs)
        except BaseException as error:  # whatever it is: callers must hear of it, and the thread go on
            expected = isinstance(error, DBAPIError)
            _LOG.error("Of %d writes, nothing is stored: %s", len(jobs), error, exc_info=not expected)
            for job in jobs:
                job.error = _unavailable(error)
            self._disconnect()
        else:
            self._floor = floor
            if revision != self._revision:
                self._revision = revision
                self._committed(revision, written)
        _resolve(jobs)

    def _commit(self, jobs: list[Job]) -> tuple[int, int, list[Written]]:
        """Runs the jobs in one transaction. Returns the new revision, the floor of the log, the changes."""
        revision, floor, written = self._revision, self._floor, list[Written]()
        now = datetime.now(UTC)
        if self._connection is None:
            self._connection = self._engine.connect()
        connection = self._connection
        with connection.begin() as transaction:
            for job in jobs:
                tx = Tx(connection, revision + 1, now)
                if _attempt(connection, job, tx, alone=len(jobs) == 1):
                    revision += 1
                    written += tx.written
            if revision == self._revision:
                # Nothing was changed, or all of it by a job that was alone and failed.
                transaction.rollback()
                return revision, floor, written
            _SET.change(connection, {"of_key": "revision", "new_value": str(revision)})
            # Not at each commit, so that what is deleted at once is worth a statement.
            if revision - floor > self._keep + self._keep // 8:
                floor = revision - self._keep
                _PRUNE.change(connection, {"floor": floor})
                _SET.change(connection, {"of_key": "floor", "new_value": str(floor)})
        return revision, floor, written

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _attempt(connection: Connection, job: Job, tx: Tx, *, alone: bool) -> bool:
    """Runs one job in its savepoint. Returns whether it changed anything.

    Args:
        alone: it needs no savepoint: where it fails, there is nothing else in the transaction.
    Raises:
        DBAPIError: the database failed, and the whole group with it.
    """
    if not alone:
        _SAVE.change(connection, {})
    changed = False
    try:
        job.result = job.function(tx)
        changed = tx.finish()
    except Exception as error:
        job.error = error
    if tx.failure is not None:
        raise tx.failure
    if not alone:
        if job.error is not None:
            _UNDO.change(connection, {})
        _KEEP.change(connection, {})
    return changed and job.error is None


def _unavailable(error: BaseException) -> Unavailable:
    if isinstance(error, DBAPIError):
        reason, remedy = str(error.orig), sqlite.remedy(error)
    else:
        reason, remedy = f"{type(error).__name__}: {error}", "See the log of the control process."
    refusal = Unavailable(f"The store cannot be written ({reason}); nothing was changed. {remedy}")
    refusal.__cause__ = error
    return refusal


def _resolve(jobs: Iterable[Job]) -> None:
    """Resolves each future in its own loop, with one wake-up a loop."""
    loops: dict[asyncio.AbstractEventLoop, list[Job]] = {}
    for job in jobs:
        if job.loop is None:
            job.resolve()
        else:
            loops.setdefault(job.loop, []).append(job)
    for loop, theirs in loops.items():
        try:
            loop.call_soon_threadsafe(_resolve_here, theirs)
        except RuntimeError:
            pass  # The loop is closed: nobody waits there any more.


def _resolve_here(jobs: Iterable[Job]) -> None:
    for job in jobs:
        job.resolve()
