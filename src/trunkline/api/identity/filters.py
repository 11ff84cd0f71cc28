"""Filters of Keystone's lists that are none of equality: parts of names, and tags."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from sqlalchemy import ColumnElement, or_

from trunkline.api.query import Filter
from trunkline.resources.schema import Resource
from trunkline.store import table_of


def matching(kind: type[Resource], column: str) -> dict[str, Filter]:
    """The inexact filters of Keystone's lists: name__contains, name__istartswith ..."""

    def make(shape: str, fold: bool) -> Filter:
        def clause(values: Sequence[str]) -> ColumnElement[bool]:
            found = table_of(kind).c[column]
            name = f"i{shape}" if fold else shape
            return or_(*(getattr(found, name)(value, autoescape=True) for value in values))

        return clause

    return {
        f"{column}__{'i' if fold else ''}{shape}": make(shape, fold)
        for shape in ("contains", "startswith", "endswith")
        for fold in (False, True)
    }


def tagged(kind: type[Resource]) -> dict[str, Filter]:
    """tags: all of them; tags-any: one of them; not-tags, not-tags-any: not so."""

    def has(values: Sequence[str]) -> list[ColumnElement[bool]]:
        column = table_of(kind).c["tags"]
        words = [word for value in values for word in value.split(",")]
        return [column.contains(msgspec.json.encode(word).decode(), autoescape=True) for word in words]

    def every(values: Sequence[str]) -> ColumnElement[bool]:
        first, *rest = has(values)
        for clause in rest:
            first = first & clause
        return first

    def some(values: Sequence[str]) -> ColumnElement[bool]:
        return or_(*has(values))

    return {
        "tags": every,
        "tags-any": some,
        "not-tags": lambda values: ~every(values),
        "not-tags-any": lambda values: ~some(values),
    }
