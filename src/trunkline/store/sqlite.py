"""All that is particular to SQLite, and nothing else; the rest of the store is any database's.

Another database needs the same names: `prepare`, `open_engines`, `tables`, `insert_if_absent`,
`is_storage_failure` and so on.
"""

from __future__ import annotations

import os
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.pool import QueuePool

from trunkline.errors import Unavailable
from trunkline.store.prepared import Prepared

#: How long a writer waits for another process that holds the file (a backup, a shell), in seconds.
BUSY_SECONDS = 10.0

# Result codes (https://sqlite.org/rescode.html) after which the file, and not the statement, is at
# fault: SQLite may have rolled the whole transaction back by itself.
_STORAGE = frozenset(
    (
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOTADB,
    )
)

#: What opening a file raises, SQLAlchemy's errors and the module's own.
ERRORS = (DBAPIError, sqlite3.Error)

_HEADER = b"SQLite format 3\x00"
_UNIQUE = re.compile(r"UNIQUE constraint failed: (?P<columns>.*)")


class CannotOpen(Unavailable):
    """The store cannot be opened; the message names the file, the cause and the remedy."""


def prepare(path: Path) -> None:
    """Sees that there is a file, readable by its owner alone, that may be a database.

    Raises:
        CannotOpen: it cannot be made, or is something else.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # SQLite gives its other files (-wal, -shm) the mode of this one.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        with path.open("rb") as file:
            header = file.read(len(_HEADER))
    except OSError as error:
        raise CannotOpen(
            f"The store {path} cannot be opened: {error.strerror}. Check the path, its owner and its mode."
        ) from error
    if header and header != _HEADER:
        raise not_a_database(path)


def not_a_database(path: Path) -> CannotOpen:
    """The refusal of a file that is something else, or damaged."""
    return CannotOpen(
        f"{path} is not a database, or it is damaged. Move it away, put a backup in its place, "
        "or choose another state folder."
    )


def open_engines(path: Path) -> tuple[Engine, Engine]:
    """The engines of the one writer, and of the readers, for a file that `prepare` passed."""
    writer = _engine(path, "BEGIN IMMEDIATE", pool_size=1, max_overflow=0)
    readers = _engine(path, "BEGIN", pool_size=8, max_overflow=56)

    @sa.event.listens_for(readers, "connect")
    def _(connection: sqlite3.Connection, record: object) -> None:
        connection.execute("PRAGMA query_only = ON")
        connection.execute("PRAGMA cache_size = -2000")

    return writer, readers


def _engine(path: Path, begin: str, *, pool_size: int, max_overflow: int) -> Engine:
    def connect() -> sqlite3.Connection:
        # Without isolation level, the module begins no transactions of its own.
        connection = sqlite3.connect(
            path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=512
        )
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("PRAGMA cache_size = -8000")
        connection.execute("PRAGMA journal_size_limit = 67108864")
        # LIKE as in other databases: tags and names that differ in case are different ones.
        connection.execute("PRAGMA case_sensitive_like = ON")
        return connection

    engine = sa.create_engine(
        "sqlite://",
        creator=connect,
        poolclass=QueuePool,
        pool_size=pool_size,
        max_overflow=max_overflow,
        pool_use_lifo=True,
    )

    statement = Prepared(sa.text(begin))

    @sa.event.listens_for(engine, "begin")
    def _(connection: Connection) -> None:
        statement.change(connection, {})

    return engine


def tables(engine: Engine) -> set[str]:
    """The names of the tables in a file."""
    with engine.connect() as connection:
        return set(sa.inspect(connection).get_table_names())


def use_write_ahead_log(engine: Engine, path: Path) -> None:
    """Turns the write-ahead log on, which stays on in the file.

    Raises:
        CannotOpen: the file system cannot do it.
    """
    with closing(engine.raw_connection()) as connection:
        mode = connection.cursor().execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise CannotOpen(
            f"The file system of {path} has no shared memory, which the store needs. Use a local one."
        )


def explained(error: DBAPIError | sqlite3.Error, path: Path) -> CannotOpen:
    """The refusal that a database error at opening amounts to."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    if _code(error) in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return not_a_database(path)
    return CannotOpen(
        f"The store {path} cannot be opened: {cause}. Check that the disk has room, that the file "
        "is yours, and that no other program holds it."
    )


def remedy(error: DBAPIError) -> str:
    """What to do about a storage failure."""
    if _code(error) == sqlite3.SQLITE_FULL:
        return "Free some room on the disk of the store, then try again."
    if _code(error) == sqlite3.SQLITE_BUSY:
        return "End the program that holds the store's file (a shell, a backup), then try again."
    return "Check the disk of the store and its kernel messages, then try again."


def is_storage_failure(error: DBAPIError) -> bool:
    """Whether the file or the disk is at fault, and not the statement."""
    return _code(error) in _STORAGE


def insert_if_absent(table: sa.Table) -> sa.Insert:
    """An insert that does nothing where there is a row of the same primary key."""
    return insert(table).on_conflict_do_nothing(index_elements=list(table.primary_key.columns))


def violated(error: IntegrityError, table: sa.Table) -> list[str]:
    """The columns of the uniqueness that was violated; empty where it was something else."""
    found = _UNIQUE.search(str(error.orig))
    if found is None:
        return []
    return [name.strip().removeprefix(f"{table.name}.") for name in found["columns"].split(",")]


def _code(error: DBAPIError | sqlite3.Error) -> int:
    cause = error.orig if isinstance(error, DBAPIError) else error
    # The low byte is the primary result code.
    extended: Any = getattr(cause, "sqlite_errorcode", 0)
    return int(extended) & 0xFF
