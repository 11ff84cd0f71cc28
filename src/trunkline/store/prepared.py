"""Statements that are compiled once and handed to the driver as text.

What is executed through SQLAlchemy costs it 30 to 50 us a statement, ten times what SQLite needs for the
row of an id. The statements here are still built by SQLAlchemy, for whatever database, and so are the ways
of values into and out of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import TypeEngine

#: Changes one value on its way; None where it goes as it is.
_Process = Callable[[Any], Any] | None


class Prepared:
    """A statement with named parameters. `run` for rows, `change` for what returns none.

    Args:
        columns: the types of a row's values, where some must be decoded.
        keys: of an insert, the names of its parameters.
    """

    def __init__(
        self,
        statement: sa.Executable,
        columns: Sequence[TypeEngine[Any]] = (),
        keys: Sequence[str] | None = None,
    ) -> None:
        self._statement = statement
        self._columns = columns
        self._keys = keys
        self._compiled: dict[type[Dialect], _Compiled] = {}

    def run(self, connection: Connection, values: Mapping[str, Any]) -> list[Sequence[Any]]:
        """All rows, their values decoded.

        Raises:
            DBAPIError: as SQLAlchemy would raise it.
        """
        compiled = self._for(connection.dialect)
        cursor = compiled.execute(connection, [values])
        try:
            return compiled.rows(cursor.fetchall())
        finally:
            cursor.close()

    def change(self, connection: Connection, *values: Mapping[str, Any]) -> int:
        """Executes it with each of the values. Returns how many rows it changed, of the last.

        Raises:
            DBAPIError: as SQLAlchemy would raise it; an IntegrityError among others.
        """
        cursor = self._for(connection.dialect).execute(connection, values)
        try:
            return int(cursor.rowcount)
        finally:
            cursor.close()

    def _for(self, dialect: Dialect) -> _Compiled:
        compiled = self._compiled.get(type(dialect))
        if compiled is None:
            compiled = _Compiled(self._statement, self._columns, self._keys, dialect)
            self._compiled[type(dialect)] = compiled
        return compiled


class _Compiled:
    def __init__(
        self,
        statement: sa.Executable,
        columns: Sequence[TypeEngine[Any]],
        keys: Sequence[str] | None,
        dialect: Dialect,
    ) -> None:
        compiled = statement.compile(dialect=dialect, column_keys=None if keys is None else list(keys))  # type: ignore[attr-defined]
        assert isinstance(compiled, SQLCompiler)
        self._text = str(compiled)
        self._positional = compiled.positional
        names = compiled.positiontup if compiled.positional else list(compiled.binds)
        self._parameters: list[tuple[str, _Process]] = [
            (name, _bound(compiled.binds[name].type, dialect)) for name in names or ()
        ]
        #: What is in the statement itself, as the 1 of LIMIT 1.
        self._fixed = {name: bind.value for name, bind in compiled.binds.items() if not bind.required}
        decoders = [_decoded(one, dialect) for one in columns]
        self._decoders = [(place, decode) for place, decode in enumerate(decoders) if decode is not None]

    def execute(self, connection: Connection, values: Iterable[Mapping[str, Any]]) -> Any:
        cursor = connection.connection.cursor()
        given: Any = None
        try:
            for one in values:
                given = self._given(one)
                cursor.execute(self._text, given)
        except BaseException as error:
            cursor.close()
            dbapi = connection.dialect.dbapi
            if dbapi is None or not isinstance(error, dbapi.Error):
                raise
            raise DBAPIError.instance(
                self._text, given, error, dbapi.Error, dialect=connection.dialect
            ) from error
        return cursor

    def _given(self, values: Mapping[str, Any]) -> Any:
        if self._fixed:
            values = {**self._fixed, **values}
        if self._positional:
            return [
                values[name] if process is None else process(values[name])
                for name, process in self._parameters
            ]
        return {
            name: values[name] if process is None else process(values[name])
            for name, process in self._parameters
        }

    def rows(self, found: list[Sequence[Any]]) -> list[Sequence[Any]]:
        if not self._decoders:
            return found
        decoded: list[Sequence[Any]] = []
        for row in found:
            values = list(row)
            for place, decode in self._decoders:
                values[place] = decode(values[place])
            decoded.append(values)
        return decoded


def _bound(kind: TypeEngine[Any], dialect: Dialect) -> _Process:
    return kind.dialect_impl(dialect).bind_processor(dialect)


def _decoded(kind: TypeEngine[Any], dialect: Dialect) -> _Process:
    return kind.dialect_impl(dialect).result_processor(dialect, None)
