"""Schemas of OVSDB, and the values of their columns (RFC 7047, sections 3.2 and 5.1)."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from trunkline.persistent import changed_set

#: What ``"unlimited"`` means as a number.
UNLIMITED = sys.maxsize

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ATOMS: dict[str, tuple[type, ...]] = {
    "integer": (int,),
    "real": (int, float),
    "boolean": (bool,),
    "string": (str,),
}
_DEFAULTS: dict[str, Any] = {
    "integer": 0,
    "real": 0.0,
    "boolean": False,
    "string": "",
    "uuid": "00000000-0000-0000-0000-000000000000",
}


def is_uuid(text: str) -> bool:
    """Whether `text` is a UUID in its normal form; a named UUID never is."""
    return _UUID.fullmatch(text) is not None


def _atom(type: str, value: Any) -> Any:
    """Decodes an atom (RFC 7047, section 5.1).

    Raises:
        ValueError: it is none of that type.
    """
    if type == "uuid":
        if isinstance(value, list) and len(value) == 2 and value[0] == "uuid" and isinstance(value[1], str):
            return value[1]
    elif isinstance(value, _ATOMS[type]) and (type == "boolean" or not isinstance(value, bool)):
        return value
    raise ValueError(f"{value!r} is no {type}")


def _encoded(type: str, value: Any) -> Any:
    if type == "uuid":
        return ["uuid" if is_uuid(value) else "named-uuid", value]
    if isinstance(value, _ATOMS[type]) and (type == "boolean" or not isinstance(value, bool)):
        return value
    raise ValueError(f"{value!r} is no {type}")


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its type, and how its values look in Python.

    ====================  ==========================================================
    exactly one           int, float, bool, str; the UUID of a row is a str
    at most one           the same, or None
    any other set         frozenset
    a map                 dict
    ====================  ==========================================================

    Where a value is written, any iterable does for a set, and a str that is no UUID stands for
    the row that is inserted under that name in the same transaction.
    """

    name: str
    key: str
    value: str | None = None
    min: int = 1
    max: int = 1
    #: The table that the key, or the value of a map, refers to.
    key_table: str | None = None
    value_table: str | None = None
    mutable: bool = True

    @property
    def scalar(self) -> bool:
        """Whether it holds one atom, or at most one."""
        return self.value is None and self.max == 1

    def default(self) -> Any:
        """What the column holds in a row that does not mention it (RFC 7047, section 5.2.1)."""
        if self.value is not None:
            return {_DEFAULTS[self.key]: _DEFAULTS[self.value]} if self.min else {}
        if self.max == 1:
            return _DEFAULTS[self.key] if self.min else None
        return frozenset((_DEFAULTS[self.key],)) if self.min else frozenset()

    def decode(self, data: Any) -> Any:
        """The value of a <value> of the wire (RFC 7047, section 5.1).

        Raises:
            ValueError: it is none of the column's type.
        """
        if self.value is not None:
            return {_atom(self.key, k): _atom(self.value, v) for k, v in _items(data, "map")}
        if isinstance(data, list) and data and data[0] == "set":
            atoms = frozenset(_atom(self.key, item) for item in _items(data, "set"))
        else:
            atom = _atom(self.key, data)
            return atom if self.max == 1 else frozenset((atom,))
        if self.max != 1:
            return atoms
        if len(atoms) > 1 or len(atoms) < self.min:
            raise ValueError(f"{data!r} has {len(atoms)} values")
        return next(iter(atoms), None)

    def encode(self, value: Any) -> Any:
        """A value in the form of the wire.

        Raises:
            ValueError: it is none of the column's type.
        """
        if self.value is not None:
            return self._encode_map(value)
        if self.max == 1:
            return ["set", []] if value is None and not self.min else _encoded(self.key, value)
        return self._encode_set(value)

    def _encode_map(self, value: Mapping[Any, Any]) -> Any:
        assert self.value is not None
        return ["map", [[_encoded(self.key, k), _encoded(self.value, v)] for k, v in value.items()]]

    def _encode_set(self, value: Iterable[Any]) -> Any:
        if isinstance(value, str):
            raise ValueError(f"{value!r} is no set")
        return ["set", [_encoded(self.key, atom) for atom in value]]

    def encode_mutation(self, mutator: str, value: Any) -> Any:
        """The argument of a mutation (RFC 7047, section 5.1): a number, a set, a map, or keys to delete.

        Raises:
            ValueError: it is none of the column's type.
        """
        if mutator not in ("insert", "delete"):
            return _encoded(self.key, value)
        if self.value is not None and isinstance(value, Mapping):
            return self._encode_map(value)
        return self._encode_set(value)

    def patched(self, old: Any, diff: Any) -> Any:
        """The value that `old` became, given the difference of an update2 (ovsdb-server(7), 4.1.14).

        Raises:
            ValueError: it is none of the column's type.
        """
        change = self.decode(diff)
        if self.max == 1:
            return change
        if self.value is None:
            return changed_set(old, change)
        new = dict(old)
        for key, value in change.items():
            if key in new and new[key] == value:
                del new[key]
            else:
                new[key] = value
        return new


def _items(data: Any, tag: str) -> list[Any]:
    if isinstance(data, list) and len(data) == 2 and data[0] == tag and isinstance(data[1], list):
        return data[1]
    raise ValueError(f"{data!r} is no {tag}")


@dataclass(frozen=True, slots=True)
class Table:
    """A table: its columns by name, without ``_uuid`` and ``_version``."""

    name: str
    columns: Mapping[str, Column]
    #: Whether its rows live without being referred to.
    is_root: bool = False
    indexes: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Schema:
    """The schema of a database."""

    name: str
    version: str
    tables: Mapping[str, Table]

    def column(self, table: str, column: str) -> Column:
        """A column, ``_uuid`` too.

        Raises:
            ValueError: there is none of that name.
        """
        found = self.tables.get(table)
        if found is None:
            raise ValueError(f"database {self.name} has no table {table}")
        if column == "_uuid":
            return _ROW_ID
        if column not in found.columns:
            raise ValueError(f"table {table} of database {self.name} has no column {column}")
        return found.columns[column]

    @classmethod
    def parse(cls, data: Any) -> Schema:
        """Reads a <database-schema> (RFC 7047, section 3.2).

        Raises:
            ValueError: it is none.
        """
        try:
            tables = {name: _table(name, table) for name, table in data["tables"].items()}
            return cls(name=str(data["name"]), version=str(data.get("version", "")), tables=tables)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a database schema: {error!r}") from None


_ROW_ID = Column("_uuid", "uuid", mutable=False)


def _table(name: str, data: Mapping[str, Any]) -> Table:
    columns = {column: _column(column, described) for column, described in data["columns"].items()}
    indexes = tuple(tuple(index) for index in data.get("indexes", ()))
    return Table(name, columns, is_root=bool(data.get("isRoot", False)), indexes=indexes)


def _column(name: str, data: Mapping[str, Any]) -> Column:
    given = data["type"]
    described: Mapping[str, Any] = {"key": given} if isinstance(given, str) else given
    key, key_table = _base(described["key"])
    value, value_table = _base(described["value"]) if "value" in described else (None, None)
    maximum = described.get("max", 1)
    return Column(
        name=name,
        key=key,
        value=value,
        min=int(described.get("min", 1)),
        max=UNLIMITED if maximum == "unlimited" else int(maximum),
        key_table=key_table,
        value_table=value_table,
        mutable=bool(data.get("mutable", True)),
    )


def _base(data: Any) -> tuple[str, str | None]:
    type, table = (data, None) if isinstance(data, str) else (data["type"], data.get("refTable"))
    if type not in _DEFAULTS:
        raise ValueError(f"{type!r} is no atomic type")
    return type, table
