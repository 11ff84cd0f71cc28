"""Bringing a database to the schema that the code wants, without a written migration.

What is there is compared with what is wanted. Nothing there: everything is created. Something
lacking (a table, a column, an index, leave to be NULL): it is added, in one transaction, a new column
with its field's default. Anything else would lose data or refuse what is stored, so it is refused
and the file stays as it was.

A fingerprint of the schema is kept, so that the usual case costs one row read; Alembic, which does the
comparison, is imported only where it differs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from trunkline import __version__
from trunkline.store.sqlite import CannotOpen
from trunkline.store.tables import META, Json, Schema

if TYPE_CHECKING:
    from alembic.operations import Operations
    from alembic.operations.ops import MigrateOperation

#: The format of the store's own tables, and of what is in columns. A change of it needs code here.
FORMAT = 1


def refuse_foreign(there: set[str], path: Path) -> None:
    """Refuses a file with another program's tables, by their names.

    Raises:
        CannotOpen: it is one.
    """
    if there and META.name not in there:
        raise CannotOpen(
            f"{path} is a database, but none of Trunkline. Move it away, or choose another state folder."
        )


def migrate(connection: Connection, schema: Schema, path: Path, *, fresh: bool) -> None:
    """Brings the database to the schema, within the caller's transaction.

    Args:
        path: the file, for messages.
        fresh: whether there is no table yet.
    Raises:
        CannotOpen: not without losing something, or the file is a newer version's.
    """
    fingerprint = hashlib.sha256("\n".join(schema.lines()).encode()).hexdigest()
    if fresh:
        for table in schema.tables:
            table.create(connection, checkfirst=False)
        connection.execute(META.insert(), [{"key": k, "value": "0"} for k in ("revision", "floor")])
    else:
        known = {row.key: row.value for row in connection.execute(sa.select(META))}
        _refuse_newer(path, int(known["format"]) > FORMAT, known["version"])
        if known["schema"] == fingerprint:
            return
        _refuse_newer(path, _numbers(known["version"]) > _numbers(__version__), known["version"])
        _add_what_lacks(connection, schema, path, known["version"])
        connection.execute(META.delete().where(META.c.key.in_(("format", "version", "schema"))))
    mark = {"format": str(FORMAT), "version": __version__, "schema": fingerprint}
    connection.execute(META.insert(), [{"key": k, "value": v} for k, v in mark.items()])


def _refuse_newer(path: Path, newer: bool, version: str) -> None:
    if newer:
        raise CannotOpen(
            f"The store {path} was written by Trunkline {version}, which is newer than this one "
            f"({__version__}). Use that version or a later one; the file was not touched."
        )


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


def _add_what_lacks(connection: Connection, schema: Schema, path: Path, version: str) -> None:
    from alembic.autogenerate import produce_migrations
    from alembic.migration import MigrationContext
    from alembic.operations import Operations

    context = MigrationContext.configure(connection, opts={"compare_server_default": False})
    script = produce_migrations(context, schema.metadata)
    assert script.upgrade_ops is not None
    wanted = list(_flat(script.upgrade_ops.ops))
    defaults = _defaults(schema)
    refused = [text for text in (_objection(op, defaults) for op in wanted) if text]
    if refused:
        raise CannotOpen(
            f"The store {path}, last changed by Trunkline {version}, does not fit this one ({__version__}): "
            f"{'; '.join(refused)}. Use the version that wrote it; the file was not touched."
        )
    operations = Operations(context)
    try:
        for op in wanted:
            _apply(operations, op, defaults)
    except IntegrityError as error:
        raise CannotOpen(
            f"The store {path} cannot be brought to this version ({__version__}): {error.orig}. "
            f"Use Trunkline {version} to remove what is there twice; the file was not touched."
        ) from error


def _flat(ops: Iterable[MigrateOperation]) -> Iterator[MigrateOperation]:
    from alembic.operations.ops import OpContainer

    for op in ops:
        if isinstance(op, OpContainer):
            yield from _flat(op.ops)
        else:
            yield op


def _objection(op: MigrateOperation, defaults: dict[tuple[str, str], Any]) -> str:
    """Why an operation is refused, or ""."""
    from alembic.operations import ops

    match op:
        case ops.CreateTableOp() | ops.CreateIndexOp():
            return ""
        case ops.AddColumnOp():
            if op.column.nullable or (op.table_name, op.column.name) in defaults:
                return ""
            return f"{op.table_name}.{op.column.name} is new, and its field has no default"
        case ops.DropIndexOp():
            return f"the uniqueness {op.index_name} is no more" if op.to_index().unique else ""
        case ops.AlterColumnOp():
            name = f"{op.table_name}.{op.column_name}"
            if op.modify_type is not None:
                return f"the type of {name} is {op.existing_type} there and {op.modify_type} here"
            return "" if op.modify_nullable else f"{name} may be empty there and must not be here"
        case ops.DropTableOp():
            return f"the table {op.table_name} is not known here"
        case ops.DropColumnOp():
            return f"{op.table_name}.{op.column_name} is not known here"
        case _:
            return " ".join(str(part) for part in op.to_diff_tuple())


def _apply(operations: Operations, op: MigrateOperation, defaults: dict[tuple[str, str], Any]) -> None:
    from alembic.operations import ops

    match op:
        case ops.AddColumnOp():
            operations.add_column(
                op.table_name, _with_default(op.column, defaults.get((op.table_name, op.column.name)))
            )
        case ops.AlterColumnOp():
            # SQLite changes a column by copying its table.
            with operations.batch_alter_table(op.table_name) as batch:
                batch.alter_column(op.column_name, nullable=True, existing_type=op.existing_type)
        case _:
            operations.invoke(op)


def _with_default(column: sa.Column[Any], value: Any) -> sa.Column[Any]:
    default: Any = None
    if value is None:
        pass
    elif isinstance(column.type, Json):
        default = msgspec.json.encode(value).decode()
    elif isinstance(column.type, sa.Boolean):
        default = sa.true() if value else sa.false()
    elif isinstance(column.type, sa.Text):
        default = value
    else:
        default = sa.text(repr(value))
    return sa.Column(column.name, column.type, nullable=column.nullable, server_default=default)


def _defaults(schema: Schema) -> dict[tuple[str, str], Any]:
    """The default of each field that has one, by table and column."""
    found: dict[tuple[str, str], Any] = {}
    for model in schema.models:
        for info in msgspec.structs.fields(model.cls):
            if info.default is not msgspec.NODEFAULT:
                found[model.kind, info.name] = info.default
            elif info.default_factory is not msgspec.NODEFAULT:
                found[model.kind, info.name] = info.default_factory()
    return found
