"""Tags of resources, by themselves: the paths below /{plural}/{id}/tags."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from trunkline.api.engine import Call
from trunkline.errors import BadField, NotFound
from trunkline.resources.schema import convert
from trunkline.resources.standard import Standard, clean_tags


class Tags(msgspec.Struct, forbid_unknown_fields=True):
    """The body that replaces all tags, or adds some."""

    tags: list[str]


def replace_all(call: Call, cls: type[Standard], id: str, body: Any) -> list[str]:
    """Gives the resource these tags and no others."""
    given: Tags = convert(body, Tags, what="tags")
    return _store(call, _held(call, cls, id), _clean(given.tags))


def add_some(call: Call, cls: type[Standard], id: str, body: Any) -> list[str]:
    """Adds tags to those that the resource has."""
    given: Tags = convert(body, Tags, what="tags")
    obj = _held(call, cls, id)
    return _store(call, obj, _clean([*obj.tags, *given.tags]))


def add(call: Call, cls: type[Standard], id: str, tag: str) -> None:
    """Adds a tag; one that is there already is no error."""
    obj = _held(call, cls, id)
    _store(call, obj, _clean([*obj.tags, tag]))


def remove(call: Call, cls: type[Standard], id: str, tag: str) -> None:
    """Takes a tag away.

    Raises:
        NotFound: TagNotFound.
    """
    obj = _held(call, cls, id)
    find(obj, tag)
    _store(call, obj, [t for t in obj.tags if t != tag])


def remove_all(call: Call, cls: type[Standard], id: str) -> None:
    """Takes all tags away."""
    _store(call, _held(call, cls, id), [])


def find(obj: Standard, tag: str) -> None:
    """Raises NotFound where the resource has no such tag."""
    if tag not in obj.tags:
        raise NotFound(f"Tag {tag[:80]} could not be found.", type="TagNotFound")


def _held(call: Call, cls: type[Standard], id: str) -> Standard:
    obj = call.get(cls, id)
    call.require(call.engine.rule(cls, "update"), call.engine.target(call.tx, obj))
    return obj


def _store(call: Call, obj: Standard, tags: list[str]) -> list[str]:
    if tags != obj.tags:
        call.save(replace(obj, tags=tags))
    return tags


def _clean(tags: list[str]) -> list[str]:
    try:
        return clean_tags(tags)
    except ValueError as error:
        raise BadField("tags", str(error), type="InvalidInput") from None
