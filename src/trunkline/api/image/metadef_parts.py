"""What a namespace of metadata definitions holds: four collections of definitions, each with its check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from trunkline.errors import BadField
from trunkline.resources.schema import convert

#: The types that a property can have.
TYPES = ("array", "boolean", "integer", "number", "object", "string")
Title = Annotated[str, Meta(min_length=1, max_length=80)]
Text = Annotated[str, Meta(max_length=1024)]
Words = Annotated[list[Title], Meta(max_length=100)]
#: Entries of a collection, and bytes of one as JSON.
MOST_ENTRIES, MOST_BYTES = 500, 16384
#: What replies add to an entry, and clients send back.
_ADDED = frozenset({"self", "schema", "created_at", "updated_at"})


@dataclass(frozen=True)
class Collection:
    """One of the collections of a namespace."""

    name: str
    #: What an entry looks like.
    shape: type[msgspec.Struct]
    #: The key that lists have, where it is not the name.
    listed: str = ""
    #: Whether entries have times.
    timed: bool = True


class Definition(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A property without its name: the part of JSON Schema that definitions are written in."""

    title: Title
    type: Literal["array", "boolean", "integer", "number", "object", "string"]
    description: Text | UnsetType = UNSET
    operators: Words | UnsetType = UNSET
    required: Words | UnsetType = UNSET
    minimum: float | int | UnsetType = UNSET
    maximum: float | int | UnsetType = UNSET
    minLength: int | UnsetType = UNSET
    maxLength: int | UnsetType = UNSET
    pattern: Text | UnsetType = UNSET
    uniqueItems: bool | UnsetType = UNSET
    minItems: int | UnsetType = UNSET
    maxItems: int | UnsetType = UNSET
    additionalItems: bool | UnsetType = UNSET
    items: dict[str, Any] | UnsetType = UNSET
    enum: list[Any] | UnsetType = UNSET
    default: Any | UnsetType = UNSET
    readonly: bool | UnsetType = UNSET


class Property(Definition, kw_only=True, forbid_unknown_fields=True):
    """A property that a thing may carry."""

    name: Title


class Thing(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An object: several properties under one name."""

    name: Title
    description: Text | UnsetType = UNSET
    required: Words | UnsetType = UNSET
    properties: dict[Title, Definition] | UnsetType = UNSET


class Tag(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A word."""

    name: Title


class Association(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A kind of thing that a namespace is for."""

    name: Title
    prefix: Title | UnsetType = UNSET
    properties_target: Title | UnsetType = UNSET


PROPERTIES = Collection("properties", Property, timed=False)
OBJECTS = Collection("objects", Thing)
TAGS = Collection("tags", Tag)
ASSOCIATIONS = Collection("resource_types", Association, "resource_type_associations")
COLLECTIONS = (PROPERTIES, OBJECTS, TAGS, ASSOCIATIONS)


def checked(part: Collection, given: Any) -> dict[str, Any]:
    """An entry of a collection, from a request.

    Raises:
        BadField: it is refused.
    """
    if not isinstance(given, dict):
        raise BadField(part.name, "an entry must be a JSON object.")
    fields: dict[str, Any] = {str(k): v for k, v in given.items() if k not in _ADDED}
    entry = convert(fields, part.shape, what="entry")
    if not entry.name.isprintable():
        raise BadField("name", "it has characters that cannot be printed. Remove them.")
    if len(msgspec.json.encode(fields)) > MOST_BYTES:
        largest = max(fields, key=lambda key: len(msgspec.json.encode(fields[key])))
        raise BadField(largest[:80], f"an entry has at most {MOST_BYTES} bytes. Make it shorter.")
    return fields


def stamped(part: Collection, definition: dict[str, Any], now: str) -> dict[str, Any]:
    """An entry with its times, where the collection has them."""
    times = {"created_at": now, "updated_at": now} if part.timed else {}
    return {**definition, **times}


def held(body: Any) -> list[tuple[Collection, dict[str, dict[str, Any]]]]:
    """What a create request says that the namespace holds; it is taken out of the body."""
    found = []
    for part in COLLECTIONS:
        key = part.listed or part.name
        given = body.pop(key, None) if isinstance(body, dict) else None
        if given is None:
            continue
        if part is PROPERTIES and isinstance(given, dict):
            # Properties stand under their names.
            given = [{"name": n, **each} if isinstance(each, dict) else each for n, each in given.items()]
        if not isinstance(given, list) or len(given) > MOST_ENTRIES:
            raise BadField(key, f"it must be a list of up to {MOST_ENTRIES} entries.")
        entries = {entry["name"]: entry for entry in (checked(part, each) for each in given)}
        found.append((part, entries))
    return found
