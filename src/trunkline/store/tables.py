"""Tables, derived from the specs of resources; nothing here is written by hand for one resource.

A `Model` joins a resource class and its table: one column an attribute. Scalars are plain columns;
everything else is JSON text, decoded by the type of its field. `id` is the primary key; there is an
index where a field asks for one, refers to another resource, or is ``project_id``; what a spec
declares unique is a unique index (an index, and not a constraint of the table, because an index
can be added to a table that exists in every database).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import operators
from sqlalchemy.sql.operators import OperatorType
from sqlalchemy.types import TypeDecorator, TypeEngine

from trunkline.resources.schema import FieldSpec, R, Resource, Spec, spec_of
from trunkline.store.prepared import Prepared

#: Prefix of the store's own tables, which no kind of resource may have.
PREFIX = "store_"


class Json(TypeDecorator[Any]):
    """A value that is no scalar, as JSON text. None is NULL where the field is nullable.

    Compared with ``==`` and ``in_``, the other side is a value; with ``like`` and what is built on it
    (``contains``, ``startswith`` ...) it is a piece of JSON text.
    """

    impl = sa.Text
    cache_ok = True
    _numbers = itertools.count()

    def __init__(self, annotation: Any = Any, nullable: bool = True) -> None:
        super().__init__()
        #: Tells types apart in SQLAlchemy's cache of statements; annotations need not be hashable.
        self.number = next(self._numbers)
        self._decode = msgspec.json.Decoder(annotation).decode
        self._nullable = nullable

    def coerce_compared_value(self, op: OperatorType | None, value: Any) -> Any:
        """The type of the other side of a comparison."""
        return sa.Text() if op in _TEXT_OPERATORS else self

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], str | None]:
        """Value to column."""
        encode = msgspec.json.encode
        if not self._nullable:
            return lambda value: encode(value).decode()
        return lambda value: None if value is None else encode(value).decode()

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:
        """Column to value."""
        decode = self._decode
        if not self._nullable:
            return decode
        return lambda text: None if text is None else decode(text)


_TEXT_OPERATORS = frozenset(
    operator
    for name, operator in vars(operators).items()
    if name.removeprefix("not_").removesuffix("_op")
    in (
        "like",
        "ilike",
        "contains",
        "icontains",
        "startswith",
        "istartswith",
        "endswith",
        "iendswith",
        "concat",
    )
)

_SCALARS: dict[type, type[TypeEngine[Any]]] = {
    str: sa.Text,
    int: sa.BigInteger,
    bool: sa.Boolean,
    float: sa.Double,
}


class Model(Generic[R]):
    """A resource class with its table, and the way from rows to objects."""

    def __init__(self, cls: type[R], spec: Spec) -> None:
        assert not spec.kind.startswith(PREFIX), f"{spec.kind}: the prefix {PREFIX} is the store's own"
        self.cls = cls
        self.spec = spec
        self.kind = spec.kind
        self.names = tuple(spec.fields)
        self.table = _table(spec)
        self.types = tuple(column.type for column in self.table.columns)
        one = self.table.c.id == sa.bindparam("of_id")
        # Statements are built once: SQLAlchemy then finds what it compiled by the object.
        self.all = sa.select(self.table)
        self.by_ids = self.all.where(self.table.c.id.in_(sa.bindparam("of_ids", expanding=True)))
        self.by_id = Prepared(self.all.where(one), self.types)
        self.insert = Prepared(self.table.insert(), keys=self.names)
        changed: dict[str, Any] = {
            name: sa.bindparam(f"new_{name}", type_=self.table.c[name].type)
            for name in self.names
            if name != "id"
        }
        self.update = Prepared(self.table.update().where(one).values(changed))
        self.delete = Prepared(self.table.delete().where(one))
        self._equal: dict[tuple[tuple[str, bool], ...], tuple[Prepared, Prepared]] = {}

    def build(self, row: Sequence[Any]) -> R:
        """The object that a row of `all` holds."""
        return self.cls(**dict(zip(self.names, row, strict=False)))

    def build_all(self, rows: Iterable[Sequence[Any]]) -> list[R]:
        """As `build`, of many rows."""
        cls, names = self.cls, self.names
        return [cls(**dict(zip(names, row, strict=False))) for row in rows]

    def values(self, obj: R) -> dict[str, Any]:
        """Parameters of `insert`."""
        return dict(zip(self.names, msgspec.structs.astuple(obj), strict=True))

    def changes(self, obj: R) -> dict[str, Any]:
        """Parameters of `update`."""
        values: dict[str, Any] = {f"new_{k}": v for k, v in self.values(obj).items() if k != "id"}
        values["of_id"] = obj.id
        return values

    def column(self, name: str) -> sa.Column[Any]:
        """The column of an attribute.

        Raises:
            AttributeError: the class has no such attribute.
        """
        if name not in self.spec.fields:
            raise AttributeError(f"{self.cls.__name__} has no attribute {name}")
        return self.table.c[name]

    def equal(self, wanted: dict[str, Any]) -> Prepared:
        """A select of the rows whose columns equal the values; to be executed with the values.

        Raises:
            AttributeError: the class has no such attribute.
        """
        return self._equals(wanted)[0]

    def count_equal(self, wanted: dict[str, Any]) -> Prepared:
        """A count of what `equal` selects."""
        return self._equals(wanted)[1]

    def _equals(self, wanted: dict[str, Any]) -> tuple[Prepared, Prepared]:
        key = tuple((name, value is None) for name, value in wanted.items())
        found = self._equal.get(key)
        if found is None:
            select, count = self.all, sa.select(sa.func.count()).select_from(self.table)
            for name, null in key:
                column = self.column(name)
                clause = column.is_(None) if null else column == sa.bindparam(name, type_=column.type)
                select, count = select.where(clause), count.where(clause)
            found = self._equal[key] = Prepared(select, self.types), Prepared(count)
        return found


def _table(spec: Spec) -> sa.Table:
    kind = spec.kind
    table = sa.Table(kind, sa.MetaData(), *(_column(f) for f in spec.fields.values()))
    for f in spec.fields.values():
        if f.name != "id" and (f.flags.index or f.flags.refers or f.name == "project_id"):
            sa.Index(f"ix_{kind}_{f.name}", table.c[f.name])
    for names in spec.unique:
        sa.Index(f"uq_{kind}_{'_'.join(names)}", *(table.c[n] for n in names), unique=True)
    return table


def _column(f: FieldSpec) -> sa.Column[Any]:
    kind = _SCALARS[f.base]() if f.scalar else Json(f.annotation, f.nullable)
    return sa.Column(f.name, kind, nullable=f.nullable, primary_key=f.name == "id")


_MODELS: dict[type, Model[Any]] = {}


def model_of(cls: type[R]) -> Model[R]:
    """The model of a resource class (made at the first call)."""
    model = _MODELS.get(cls)
    if model is None:
        # Two threads may come here at once; clauses of both must be over one table.
        model = _MODELS.setdefault(cls, Model(cls, spec_of(cls)))
    return model


def table_of(cls: type[Resource]) -> sa.Table:
    """The table of a resource class: ``table_of(Port).c.name`` for clauses of `Reader.select`."""
    return model_of(cls).table


_OWN = sa.MetaData()

#: What the store knows of itself: format, schema, version, revision, floor.
META = sa.Table(
    "store_meta",
    _OWN,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)

#: The change log: what each revision did.
CHANGE = sa.Table(
    "store_change",
    _OWN,
    sa.Column("revision", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("op", sa.Text, nullable=False),
    sqlite_with_rowid=False,
)

#: Claims: (scope, value) is unique and has an owner.
CLAIM = sa.Table(
    "store_claim",
    _OWN,
    sa.Column("scope", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, primary_key=True),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Index("ix_store_claim_owner", "owner"),
    sqlite_with_rowid=False,
)


@dataclass(frozen=True)
class Schema:
    """All tables of a store."""

    models: tuple[Model[Any], ...]

    @classmethod
    def of(cls, specs: Iterable[Spec]) -> Schema:
        """The store's own tables, and those of the specs."""
        return cls(tuple(model_of(spec.cls) for spec in specs))

    @property
    def tables(self) -> list[sa.Table]:
        """All of them, each in metadata of its own."""
        return [*_OWN.tables.values(), *(model.table for model in self.models)]

    @cached_property
    def metadata(self) -> sa.MetaData:
        """Copies of all tables in one: for comparisons."""
        metadata = sa.MetaData()
        for table in self.tables:
            table.to_metadata(metadata)
        return metadata

    def lines(self) -> list[str]:
        """One line a column and index: equal where two schemas are equal, whatever the order."""
        lines = []
        for table in self.tables:
            for c in table.columns:
                lines.append(f"{table.name}.{c.name} {type(c.type).__name__} {c.nullable} {c.primary_key}")
            for index in table.indexes:
                columns = ",".join(c.name for c in index.columns)
                lines.append(f"{table.name}({columns}) {index.name} {index.unique}")
        return sorted(lines)
