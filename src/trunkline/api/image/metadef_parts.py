"""What a namespace of metadata definitions holds: four collections of definitions, each with its check."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from trunkline.errors import BadField
from trunkline.resources.schema import refuse_unstorable

#: The types that a property can have.
TYPES = ("array", "boolean", "integer", "number", "object", "string")
#: Entries of a collection, and bytes of one as JSON.
MOST_ENTRIES, MOST_BYTES = 500, 16384
#: What replies add to an entry, and clients send back.
_ADDED = frozenset({"self", "schema", "created_at", "updated_at"})


@dataclass(frozen=True)
class Collection:
    """One of the collections of a namespace."""

    name: str
    #: Checks a definition, given its name.
    check: Callable[[Mapping[str, Any]], None]
    #: The key that lists have, where it is not the name.
    listed: str = ""
    #: Whether entries have times.
    timed: bool = True


def _check_property(given: Mapping[str, Any]) -> None:
    for key in ("title", "type"):
        if key not in given:
            raise BadField(key, "it is required.")
    if not isinstance(given["title"], str) or len(given["title"]) > 80:
        raise BadField("title", "it is a text of up to 80 characters.")
    if given["type"] not in TYPES:
        raise BadField("type", f"it must be one of {', '.join(TYPES)}.")


def _check_object(given: Mapping[str, Any]) -> None:
    properties = given.get("properties", {})
    if not isinstance(properties, dict):
        raise BadField("properties", "it must be a JSON object of properties.")
    if set(given) - {"name", "description", "required", "properties"}:
        unknown = min(set(given) - {"name", "description", "required", "properties"})
        raise BadField(unknown[:80], "Unrecognized attribute. Remove it, or check its spelling.")


def _check_tag(given: Mapping[str, Any]) -> None:
    if set(given) - {"name"}:
        raise BadField(min(set(given) - {"name"})[:80], "Unrecognized attribute. Remove it.")


def _check_resource_type(given: Mapping[str, Any]) -> None:
    for key, value in given.items():
        if key not in ("name", "prefix", "properties_target"):
            raise BadField(key[:80], "Unrecognized attribute. Remove it, or check its spelling.")
        if not isinstance(value, str) or len(value) > 80:
            raise BadField(key, "it is a text of up to 80 characters.")


PROPERTIES = Collection("properties", _check_property, timed=False)
OBJECTS = Collection("objects", _check_object)
TAGS = Collection("tags", _check_tag)
ASSOCIATIONS = Collection("resource_types", _check_resource_type, "resource_type_associations")
COLLECTIONS = (PROPERTIES, OBJECTS, TAGS, ASSOCIATIONS)


def checked(part: Collection, given: Any) -> dict[str, Any]:
    """An entry of a collection, from a request.

    Raises:
        BadField: it is refused.
    """
    if not isinstance(given, dict):
        raise BadField(part.name, "an entry must be a JSON object.")
    refuse_unstorable(given)
    given = {str(k): v for k, v in given.items() if k not in _ADDED}
    name = given.get("name")
    if not isinstance(name, str) or not 1 <= len(name) <= 80 or not name.isprintable():
        raise BadField("name", "it is a text of 1 to 80 printable characters.")
    if len(msgspec.json.encode(given)) > MOST_BYTES:
        raise BadField(part.name, f"an entry has at most {MOST_BYTES} bytes.")
    part.check(given)
    return dict(given)


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
