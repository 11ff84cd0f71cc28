"""The operations of a transaction (RFC 7047, section 5.2), and how a transaction fails."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from trunkline.devices.ovsdb.schema import Schema
from trunkline.errors import Unavailable

Operation = dict[str, Any]
#: Column, function (``==``, ``includes`` ...), value.
Clause = tuple[str, str, Any]

#: Errors that tell nothing about the transaction itself: the database could not commit it then, or
#: does not know whether it did. Repeating it, after another look at the replica, is right.
_PASSING = frozenset({"try again", "cluster error", "canceled", "not leader", "unknown database"})


class TransactError(Exception):
    """The database refused a transaction; nothing of it was done.

    `error` and `details` are the database's words (RFC 7047, section 4.1.3), `index` and
    `operation` tell which one failed; None where it was the commit.
    """

    def __init__(
        self, error: str, details: str, index: int | None, operation: Mapping[str, Any] | None
    ) -> None:
        place = "at commit" if operation is None else f"in operation {index} on {operation.get('table', '?')}"
        super().__init__(f"{error} {place}: {details}")
        self.error = error
        self.details = details
        self.index = index
        self.operation = operation


class Operations:
    """Builds operations, with Python's values encoded by the schema.

    `where` is the UUID of a row, or clauses that must all hold. Every method raises ValueError
    for tables, columns and values that do not fit the schema.
    """

    def __init__(self, schema: Schema) -> None:
        self._schema = schema

    def insert(self, table: str, row: Mapping[str, Any], place: str | None = None) -> Operation:
        """A new row, which the transaction's other operations can refer to as `place`.

        That is the UUID that it shall have (an extension of Open vSwitch 2.13, ovsdb-server(7)), or a name
        for this transaction: of letters, digits and underscores, with no digit first.
        """
        operation: Operation = {"op": "insert", "table": table, "row": self._row(table, row)}
        if place is not None:
            operation["uuid" if "-" in place else "uuid-name"] = place
        return operation

    def update(self, table: str, where: str | Iterable[Clause], row: Mapping[str, Any]) -> Operation:
        """Sets the columns in `row`."""
        return {
            "op": "update",
            "table": table,
            "where": self._where(table, where),
            "row": self._row(table, row),
        }

    def delete(self, table: str, where: str | Iterable[Clause]) -> Operation:
        """Removes rows."""
        return {"op": "delete", "table": table, "where": self._where(table, where)}

    def mutate(
        self, table: str, where: str | Iterable[Clause], mutations: Iterable[tuple[str, str, Any]]
    ) -> Operation:
        """Changes values by (column, mutator, argument), as ("ports", "insert", [uuid])."""
        changes = [
            [name, mutator, self._schema.column(table, name).encode_mutation(mutator, value)]
            for name, mutator, value in mutations
        ]
        return {"op": "mutate", "table": table, "where": self._where(table, where), "mutations": changes}

    def wait(
        self,
        table: str,
        where: str | Iterable[Clause],
        rows: Sequence[Mapping[str, Any]],
        *,
        columns: Sequence[str],
        until: str = "==",
        timeout: int = 0,
    ) -> Operation:
        """Goes on when the rows found have (or, until ``!=``, have not) these values; `timeout` in ms."""
        return {
            "op": "wait",
            "table": table,
            "where": self._where(table, where),
            "columns": list(columns),
            "until": until,
            "rows": [self._row(table, row) for row in rows],
            "timeout": timeout,
        }

    def select(
        self, table: str, where: str | Iterable[Clause], columns: Sequence[str] | None = None
    ) -> Operation:
        """Reads rows; they come back in the form of the wire."""
        operation: Operation = {"op": "select", "table": table, "where": self._where(table, where)}
        if columns is not None:
            operation["columns"] = list(columns)
        return operation

    def _row(self, table: str, row: Mapping[str, Any]) -> dict[str, Any]:
        encoded = {}
        for name, value in row.items():
            column = self._schema.column(table, name)
            try:
                encoded[name] = column.encode(value)
            except (ValueError, TypeError, AttributeError) as error:
                raise ValueError(f"{table}.{name}: {error}") from None
        return encoded

    def _where(self, table: str, where: str | Iterable[Clause]) -> list[Any]:
        if isinstance(where, str):
            return [["_uuid", "==", self._schema.column(table, "_uuid").encode(where)]]
        return [[name, function, self._schema.column(table, name).encode(v)] for name, function, v in where]


def check(results: Any, operations: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The results of a transaction, one an operation.

    Raises:
        TransactError: one says that it failed.
        Unavailable: the database could not commit it just now, or does not know whether it did.
    """
    if not isinstance(results, list):
        raise Unavailable("the database gave no result")
    for index, result in enumerate(results):
        if result is None or "error" not in result:
            continue
        error, details = str(result["error"]), str(result.get("details", ""))
        commit = index >= len(operations)
        if error in _PASSING or (commit and error == "timed out"):
            raise Unavailable(f"the database could not commit: {error} {details}".rstrip())
        raise TransactError(error, details, None if commit else index, None if commit else operations[index])
    return [result or {} for result in results]
