"""The store: opened once by the process that owns a cloud's data."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from trunkline.errors import Unavailable
from trunkline.resources.schema import Spec
from trunkline.resources.schema import specs as declared
from trunkline.store import sqlite
from trunkline.store.feed import Feed
from trunkline.store.lock import Lock
from trunkline.store.migrate import migrate, refuse_foreign
from trunkline.store.reader import Reader, Written
from trunkline.store.tables import META, Schema
from trunkline.store.tx import Tx
from trunkline.store.writer import CLOSED, Job, Writer

T = TypeVar("T")


class Store:
    """Resources, claims and the log of their changes, in one database file.

    It owns the file, the files beside it (``-wal``, ``-shm``, ``.lock``) and one thread. What `write`
    returned from is on the disk. Any thread and any event loop may use it.
    """

    def __init__(self, writer: Writer, readers: Engine, feed: Feed, resources: ExitStack) -> None:
        self._writer = writer
        self._readers = readers
        self._feed = feed
        self._resources = resources

    @classmethod
    def open(
        cls, path: Path, *, specs: Iterable[Spec] | None = None, keep: int = 20_000, group: int = 64
    ) -> Store:
        """Opens a store, makes it where there is none, and brings it to the schema of this version.

        Args:
            path: the file; folders above it are made.
            specs: the kinds of resource that it holds, by default all that are declared by now.
            keep: how many revisions the change log goes back, at least.
            group: how many writes are committed together, at most.
        Raises:
            CannotOpen: it is in use, no database, or of another version; says which, and the remedy.
        """
        schema = Schema.of(declared().values() if specs is None else specs)
        with ExitStack() as resources:
            sqlite.prepare(path)
            resources.callback(Lock(path).release)
            engine, readers = sqlite.open_engines(path)
            resources.callback(engine.dispose)
            resources.callback(readers.dispose)
            try:
                there = sqlite.tables(engine)
                refuse_foreign(there, path)
                sqlite.use_write_ahead_log(engine, path)
                with engine.begin() as connection:
                    migrate(connection, schema, path, fresh=not there)
                with engine.begin() as connection:
                    known = {row.key: row.value for row in connection.execute(sa.select(META))}
            except sqlite.ERRORS as error:
                raise sqlite.explained(error, path) from error
            feed = Feed(int(known["revision"]))
            writer = Writer(
                engine,
                revision=feed.revision,
                floor=int(known["floor"]),
                keep=keep,
                group=group,
                committed=feed.publish,
            )
            return cls(writer, readers, feed, resources.pop_all())

    def close(self) -> None:
        """Runs the writes that are queued, refuses new ones, and gives up the file."""
        self._writer.close()
        self._feed.close()
        self._resources.close()

    @property
    def revision(self) -> int:
        """The newest revision: each write that changed something spent one."""
        return self._feed.revision

    def newest(self, kinds: Iterable[str]) -> int:
        """The newest revision that changed a resource of these kinds; no I/O.

        Of changes before the store was opened it knows nothing: the revision at that time stands for them.
        """
        return self._feed.newest(kinds)

    def recent(self, after: int) -> tuple[int, list[Written]] | None:
        """The newest revision, and what was changed after a revision; no I/O.

        Returns: None where that is too long ago, or before the store was opened: `Reader.changes` may know.
        """
        return self._feed.recent(after)

    async def changed(self, after: int) -> int:
        """Waits for a revision newer than `after`, and returns the newest.

        Raises:
            Unavailable: the store was closed.
        """
        return await self._feed.changed(after)

    async def write(self, function: Callable[[Tx], T]) -> T:
        """Runs a function in the writer, and returns what it returned once it is on the disk.

        The function runs in another thread, alone, and may not wait for anything. If it raises, what it did
        is undone and the exception is raised here; others of its group are not touched.

        Raises:
            Unavailable: the disk is full, or fails; nothing was changed. Or the store is closed.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._writer.put(Job(function, future, loop))
        return await future

    def write_sync(self, function: Callable[[Tx], T]) -> T:
        """As `write`, for a caller without event loop."""
        future: Future[T] = Future()
        self._writer.put(Job(function, future, None))
        return future.result()

    @contextmanager
    def read(self) -> Iterator[Reader]:
        """A snapshot: what was committed when it began, whatever is committed meanwhile.

        Raises:
            Unavailable: too many are open at once, or the disk fails. Or the store is closed.
        """
        if self._writer.closed:
            raise Unavailable(CLOSED)
        try:
            connection = self._readers.connect()
        except (DBAPIError, PoolTimeout) as error:
            raise Unavailable(f"The store cannot be read just now ({error}). Try again.") from error
        with connection, connection.begin():
            yield Reader.snapshot(connection)
