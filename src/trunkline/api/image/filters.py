"""The query string of an image list, understood."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Text, and_, cast, func

from trunkline.api import query as queries
from trunkline.api.context import Context
from trunkline.api.engine import Engine
from trunkline.api.image.behaviour import listed
from trunkline.errors import BadField
from trunkline.resources.image import MEMBER_STATUSES, VISIBILITIES, Image
from trunkline.resources.schema import spec_of
from trunkline.store import table_of

#: Images a page, unless the client says.
DEFAULT_LIMIT = 25
MAX_LIMIT = 1000

_OWN = frozenset({"visibility", "member_status", "tag", "size_min", "size_max"})
_PAGING = frozenset({"limit", "marker", "sort_key", "sort_dir", "sort"})
#: Fields whose filter may be a list: in:one,two.
_IN = frozenset({"name", "id", "status", "container_format", "disk_format"})
_TIMES = frozenset({"created_at", "updated_at"})
_COMPARISONS = ("gt", "gte", "lt", "lte", "eq", "neq")
_NUMBER = re.compile(r"[0-9]{1,18}")


def parse(engine: Engine, context: Context, pairs: Sequence[tuple[str, str]]) -> queries.Query:
    """Understands the query string of an image list.

    Raises:
        BadField: with the parameter named.
    """
    spec = spec_of(Image)
    where: list[ColumnElement[bool]] = []
    plain: list[tuple[str, str]] = []
    own: dict[str, list[str]] = {}
    for name, value in pairs:
        if "\x00" in value or "\x00" in name:
            raise BadField(name.replace("\x00", ""), "it contains a NUL character. Remove it.")
        known = spec.by_wire.get(name)
        if name in _OWN:
            own.setdefault(name, []).append(value)
        elif name in _PAGING:
            plain.append((name, value))
        elif name in _TIMES:
            where.append(_time(name, value))
        elif name in _IN and value.startswith("in:"):
            where.append(table_of(Image).c[name].in_(_list(name, value[3:])))
        elif known is not None and known.flags.shown:
            plain.append((name, value))
        else:
            where.append(_property(name, value))
    if not any(name == "os_hidden" for name, _ in plain):
        plain.append(("os_hidden", "false"))
    where += _own(context, own)
    query = engine.query(Image, _sorted(plain), max_limit=MAX_LIMIT)
    limit = _limit(dict(plain).get("limit"))
    return replace(query, where=(*query.where, *where), limit=limit)


def _limit(text: str | None) -> int:
    if text is None:
        return DEFAULT_LIMIT
    if not _NUMBER.fullmatch(text):
        raise BadField("limit", f"'{text[:40]}' is not a number of images, 0 or more.")
    return min(int(text), MAX_LIMIT)


def _sorted(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The pairs with every sort key given its direction; the newest first where none is given."""
    keys = [v for n, v in pairs if n == "sort_key"]
    directions = [v for n, v in pairs if n == "sort_dir"]
    joined = [v for n, v in pairs if n == "sort"]
    rest = [(n, v) for n, v in pairs if n not in ("sort_key", "sort_dir", "sort")]
    if joined and (keys or directions):
        raise BadField("sort", "it excludes sort_key and sort_dir. Use one form.")
    if joined:
        for part in ",".join(joined).split(","):
            key, _, direction = part.strip().partition(":")
            keys.append(key.strip())
            directions.append(direction.strip() or "desc")
    elif len(directions) <= 1:
        keys = keys or ["created_at"]
        directions = (directions or ["desc"]) * len(keys)
    rest.append(("sort", ",".join(f"{k}:{d}" for k, d in zip(keys, directions, strict=False))))
    if len(directions) != len(keys):
        raise BadField("sort_dir", "give one direction, or one for each sort_key.")
    if "id" not in keys:
        rest[-1] = ("sort", f"{rest[-1][1]},id:desc")
    return rest


def _own(context: Context, given: dict[str, list[str]]) -> list[ColumnElement[bool]]:
    images = table_of(Image)
    visibility = given.get("visibility", [""])[-1] or None
    if visibility is not None and visibility not in (*VISIBILITIES, "all"):
        raise BadField("visibility", f"it must be one of {', '.join(VISIBILITIES)} or all.")
    status = given.get("member_status", ["accepted"])[-1]
    if status not in (*MEMBER_STATUSES, "all"):
        raise BadField("member_status", f"it must be one of {', '.join(MEMBER_STATUSES)} or all.")
    clauses = listed(context, visibility, status)
    for tag in given.get("tag", []):
        clauses.append(_contains(images.c.tags, tag))
    for name, compare in (("size_min", "__ge__"), ("size_max", "__le__")):
        for value in given.get(name, []):
            if not _NUMBER.fullmatch(value):
                raise BadField(name, f"'{value[:40]}' is not a number of bytes, 0 or more.")
            clauses.append(getattr(images.c.size, compare)(int(value)))
    return clauses


def _contains(column: ColumnElement[Any], text: str) -> ColumnElement[bool]:
    """Whether a column with a JSON array of texts contains one."""
    return cast(column, Text).contains(msgspec.json.encode(text).decode(), autoescape=True)


def _property(name: str, value: str) -> ColumnElement[bool]:
    """Whether a property has a value; by the path as SQL's own JSON functions write it."""
    column = table_of(Image).c.properties
    entry = msgspec.json.encode({name: value}).decode()[1:-1]
    text = cast(column, Text)
    return and_(func.length(text) > 2, text.contains(entry, autoescape=True))


def _list(name: str, text: str) -> list[str]:
    """The values of in:one,"two, three"."""
    if text.count('"') % 2:
        raise BadField(name, "a quotation mark is not closed.")
    values = [value for row in csv.reader([text]) for value in row if value]
    if not values:
        raise BadField(name, "the list after in: is empty.")
    return values


def _time(name: str, value: str) -> ColumnElement[bool]:
    operator, colon, text = value.partition(":")
    if operator not in _COMPARISONS or not colon:
        operator, text = "eq", value
    try:
        when = datetime.fromisoformat(text)
        if when.tzinfo is not None:
            when = when.astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadField(name, f"'{value[:80]}' is not a time. Write it as gte:2026-11-21T04:00:00Z.") from None
    wanted = when.strftime("%Y-%m-%dT%H:%M:%SZ")
    column = table_of(Image).c[name]
    return {
        "gt": column > wanted,
        "gte": column >= wanted,
        "lt": column < wanted,
        "lte": column <= wanted,
        "eq": column == wanted,
        "neq": column != wanted,
    }[operator]
