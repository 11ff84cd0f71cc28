"""List requests: filters, sorting, paging and choice of fields, derived from the spec of a resource."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, and_, false, func, or_

from trunkline.errors import BadField
from trunkline.resources.schema import FieldSpec, Resource, Spec
from trunkline.store import Reader, table_of

#: Makes the clause of a filter from all its values.
Filter = Callable[[Sequence[str]], ColumnElement[bool]]

_TRUE = frozenset({"true", "True", "TRUE", "1", "yes", "on", "t", "y"})
_FALSE = frozenset({"false", "False", "FALSE", "0", "no", "off", "f", "n"})
_SUBSTRING = "_substr"
#: To sort by more, and to go on behind a marker, takes time that grows with their square.
_MOST_KEYS = 10


@dataclass(frozen=True, kw_only=True)
class Query:
    """What a list request asks for, understood and checked."""

    where: tuple[ColumnElement[bool], ...] = ()
    #: (attribute, ascending), without the final tie-breaker.
    sort: tuple[tuple[str, bool], ...] = ()
    limit: int | None = None
    marker: str | None = None
    reverse: bool = False
    #: Wire names to show, empty for all.
    fields: frozenset[str] = field(default_factory=frozenset)
    #: Wire names of the fields that it filters or sorts by.
    asked: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True)
class Page:
    """One page of a list: rendered objects, and whether there is more in either direction."""

    items: list[dict[str, Any]]
    more: bool
    first: str | None
    last: str | None


def parse(
    spec: Spec,
    pairs: Iterable[tuple[str, str]],
    *,
    filters: Mapping[str, Filter] | None = None,
    aliases: Mapping[str, str] | None = None,
    ignore: frozenset[str] = frozenset(),
    max_limit: int | None = None,
    unknown: str = "refuse",
) -> Query:
    """Understands the query string of a list request.

    Values of one filter given several times are alternatives; different filters must all hold.

    Args:
        pairs: the query string, decoded, in order.
        filters: filters of the kind's own, beside the fields.
        aliases: other names of fields, such as tenant_id for project_id.
        ignore: parameters that are somebody else's.
        max_limit: the largest page.
        unknown: "refuse" an unknown filter, or "ignore" it.
    Raises:
        BadField: with the parameter named.
    """
    own, aliases = filters or {}, aliases or {}
    values: dict[str, list[str]] = {}
    sort_keys: list[str] = []
    sort_dirs: list[str] = []
    shown: set[str] = set()
    plain: dict[str, str] = {}
    for raw, value in pairs:
        if "\x00" in value:
            raise BadField(raw.replace("\x00", ""), "it contains a NUL character. Remove it.")
        name = aliases.get(raw, raw)
        if name == "sort_key":
            sort_keys.append(aliases.get(value, value))
        elif name == "sort_dir":
            sort_dirs.append(value)
        elif name == "sort":
            for part in value.split(","):
                key, _, direction = part.partition(":")
                sort_keys.append(aliases.get(key, key))
                sort_dirs.append(direction or "asc")
        elif name == "fields":
            shown.update(v for v in value.split(",") if v)
        elif name in ("limit", "marker", "page_reverse"):
            plain[name] = value
        elif name not in ignore:
            values.setdefault(name, []).append(value)
    where = [
        clause
        for name, given in values.items()
        if (clause := _clause(spec, name, given, own, unknown)) is not None
    ]
    return Query(
        where=tuple(where),
        sort=_sort(spec, sort_keys, sort_dirs),
        limit=_limit(plain.get("limit"), max_limit),
        marker=plain.get("marker") or None,
        reverse=plain.get("page_reverse", "") in _TRUE,
        fields=frozenset(shown),
        asked=frozenset(sort_keys) | {name.removesuffix(_SUBSTRING) for name in values},
    )


def _limit(text: str | None, largest: int | None) -> int | None:
    if text is None or text == "":
        return largest
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise BadField("limit", f"'{text[:40]}' is not a number of items, 0 or more.")
    limit = int(text)
    if limit == 0:
        return largest
    return min(limit, largest) if largest else limit


def _sort(spec: Spec, keys: list[str], directions: list[str]) -> tuple[tuple[str, bool], ...]:
    if len(keys) > _MOST_KEYS:
        raise BadField("sort_key", f"at most {_MOST_KEYS} keys to sort by.")
    if directions and len(directions) != len(keys):
        raise BadField("sort_dir", "the number of sort_dirs does not match the number of sort_keys.")
    result = []
    for key, direction in zip(keys, directions or ["asc"] * len(keys), strict=True):
        found = spec.by_wire.get(key)
        if found is None or not found.flags.sort or not found.scalar or not found.flags.shown:
            raise BadField("sort_key", f"'{key[:80]}' is not an attribute to sort by.")
        if direction not in ("asc", "desc"):
            raise BadField("sort_dir", f"'{direction[:40]}' is not a direction. Use asc or desc.")
        result.append((found.name, direction == "asc"))
    return tuple(result)


def _clause(
    spec: Spec, name: str, given: list[str], own: Mapping[str, Filter], unknown: str
) -> ColumnElement[bool] | None:
    if name in own:
        return own[name](given)
    table = table_of(spec.cls)
    found = spec.by_wire.get(name)
    if found is not None and found.flags.filter and found.flags.shown and found.scalar:
        return any_of(table.c[found.name], [cast(found, v) for v in given], found.nullable)
    if name.endswith(_SUBSTRING):
        found = spec.by_wire.get(name.removesuffix(_SUBSTRING))
        if found is not None and found.base is str and found.flags.filter:
            return or_(*(table.c[found.name].contains(v, autoescape=True) for v in given))
    if unknown == "ignore":
        return None
    raise BadField(name[:80], f"it is not a filter of {spec.plural}. Remove it, or check its spelling.")


def any_of(column: ColumnElement[Any], values: list[Any], nullable: bool) -> ColumnElement[bool]:
    """Whether the column is one of the values; an empty text matches a missing value too."""
    if not values:
        return false()
    clause: ColumnElement[bool] = column == values[0] if len(values) == 1 else column.in_(values)
    if nullable and any(v in ("", None) for v in values):
        clause = or_(clause, column.is_(None))
    return clause


def cast(found: FieldSpec, text: str) -> Any:
    """A filter's text as a value of the field.

    Raises:
        BadField: it is none.
    """
    if found.base is bool:
        if text in _TRUE:
            return True
        if text in _FALSE:
            return False
        raise BadField(found.wire, f"'{text[:40]}' is not a boolean. Use true or false.")
    if found.base in (int, float):
        if found.nullable and text in ("", "None", "null"):
            return None
        try:
            number = int(text) if found.base is int else float(text)
        except ValueError:
            raise BadField(found.wire, f"'{text[:40]}' is not a number.") from None
        if abs(number) >= 2**63:
            raise BadField(found.wire, "the number is out of range (64 bits).")
        return number
    return text


def fetch(
    reader: Reader, spec: Spec, query: Query, *visible: ColumnElement[bool]
) -> tuple[list[Resource], bool]:
    """Reads one page: the objects, and whether there are more behind them.

    Pages hold their place by the sort values of the marker's object, so that what is added or
    removed meanwhile neither repeats nor hides another object.

    Raises:
        BadField: the marker is no object that the caller sees.
    """
    table = table_of(spec.cls)
    keys = [*query.sort]
    if not any(name == "id" for name, _ in keys):
        keys.append(("id", True))
    ordering = []
    for name, ascending in keys:
        column: ColumnElement[Any] = table.c[name]
        found = spec.fields[name]
        if found.nullable:
            column = func.coalesce(column, "" if found.base is str else -1)
        ordering.append((column, ascending != query.reverse))
    where = [*query.where, *visible]
    if query.marker is not None:
        marked = next(iter(reader.select(spec.cls, table.c.id == query.marker, *visible)), None)
        if marked is None:
            raise BadField("marker", f"no {spec.kind} with id '{query.marker[:80]}' was found.")
        place = []
        for name, _ in keys:
            value = getattr(marked, name)
            if value is None:
                value = "" if spec.fields[name].base is str else -1
            place.append(value)
        where.append(_beyond(ordering, place))
    order_by = [column.asc() if ascending else column.desc() for column, ascending in ordering]
    limit = None if query.limit is None else query.limit + 1
    objects: list[Resource] = list(reader.select(spec.cls, *where, order_by=order_by, limit=limit))
    more = query.limit is not None and len(objects) > query.limit
    if more:
        objects.pop()
    if query.reverse:
        objects.reverse()
    return objects, more


def _beyond(ordering: list[tuple[ColumnElement[Any], bool]], place: list[Any]) -> ColumnElement[bool]:
    alternatives = []
    for index, (column, ascending) in enumerate(ordering):
        step = column > place[index] if ascending else column < place[index]
        alternatives.append(and_(*(c == v for (c, _), v in zip(ordering[:index], place, strict=False)), step))
    return or_(*alternatives)
