"""A copy of some tables of a database, kept by update notifications."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trunkline.devices.ovsdb.jsonrpc import ProtocolError
from trunkline.devices.ovsdb.schema import Column, Schema

#: A row by column; what a value looks like, `Column` says. A row never changes: a new one replaces it.
Row = Mapping[str, Any]
#: Called with table, UUID, the old row (None: inserted) and the new one (None: deleted).
Listener = Callable[[str, str, Row | None, Row | None], None]


class Replica:
    """The tables and columns asked for, as far as the schema has them; the others are empty."""

    def __init__(
        self, schema: Schema, wanted: Mapping[str, Sequence[str] | None], listener: Listener | None
    ) -> None:
        self.schema = schema
        self.tables: dict[str, dict[str, Row]] = {name: {} for name in wanted}
        self.columns: dict[str, dict[str, Column]] = {}
        self._listener = listener
        for name, columns in wanted.items():
            if (table := schema.tables.get(name)) is not None:
                names = table.columns if columns is None else columns
                self.columns[name] = {c: table.columns[c] for c in names if c in table.columns}
        self._blank = {
            name: {column.name: column.default() for column in columns.values()}
            for name, columns in self.columns.items()
        }

    def requests(self) -> dict[str, list[dict[str, Any]]]:
        """The <monitor-requests> for it (RFC 7047, section 4.1.5)."""
        return {table: [{"columns": list(columns)}] for table, columns in self.columns.items()}

    def replace(self, updates: Any, *, style: int) -> None:
        """Takes `updates` as the whole content: what they do not mention is gone."""
        before, self.tables = self.tables, {name: {} for name in self.tables}
        listener, self._listener = self._listener, None
        try:
            self.update(updates, style=style)
        finally:
            self._listener = listener
        if listener is None:
            return
        for table, rows in self.tables.items():
            old = before[table]
            for uuid in [uuid for uuid in old if uuid not in rows]:
                listener(table, uuid, old[uuid], None)
            for uuid, row in rows.items():
                if old.get(uuid) != row:
                    listener(table, uuid, old.get(uuid), row)

    def update(self, updates: Any, *, style: int) -> bool:
        """Applies <table-updates> (style 1) or <table-updates2> (style 2); says whether there were any.

        Raises:
            ProtocolError: they do not fit the schema, or the rows that are here.
        """
        changed = False
        try:
            for table, rows in updates.items():
                for uuid, change in rows.items():
                    changed = True
                    old = self.tables[table].get(uuid)
                    if style == 1:
                        new = self._whole(table, change["new"]) if "new" in change else None
                    else:
                        new = self._changed(table, old, change)
                    self._set(table, uuid, old, new)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ProtocolError(f"an update that does not fit: {error!r}") from None
        return changed

    def _whole(self, table: str, data: Mapping[str, Any]) -> Row:
        columns = self.columns[table]
        return self._blank[table] | {name: columns[name].decode(value) for name, value in data.items()}

    def _changed(self, table: str, old: Row | None, change: Mapping[str, Any]) -> Row | None:
        if "delete" in change:
            return None
        if "modify" not in change:
            return self._whole(table, change["insert"] if "insert" in change else change["initial"])
        if old is None:
            raise ValueError("a change of a row that is not there")
        columns = self.columns[table]
        diff = change["modify"].items()
        return {**old, **{name: columns[name].patched(old[name], value) for name, value in diff}}

    def _set(self, table: str, uuid: str, old: Row | None, new: Row | None) -> None:
        if new is None:
            self.tables[table].pop(uuid, None)
        else:
            self.tables[table][uuid] = new
        if self._listener is not None:
            self._listener(table, uuid, old, new)
