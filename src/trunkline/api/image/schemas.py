"""The JSON schemas that the Image API serves, derived from the resource."""

from __future__ import annotations

from functools import cache
from typing import Any

from trunkline.errors import BadField
from trunkline.resources.image import (
    CONTAINER_FORMATS,
    DISK_FORMATS,
    MEMBER_STATUSES,
    VISIBILITIES,
    Image,
)
from trunkline.resources.schema import FieldSpec, spec_of

_TYPES = {str: "string", int: "integer", bool: "boolean", float: "number"}
_STATUSES = ("queued", "saving", "uploading", "importing", "active", "deactivated")
_CHOICES = {
    "disk_format": DISK_FORMATS,
    "container_format": CONTAINER_FORMATS,
    "visibility": VISIBILITIES,
    "status": _STATUSES,
}
_LINK = {"type": "string", "readOnly": True, "description": "A URL, relative to the service."}


def property_value(name: str, value: Any) -> str:
    """A property's value: a text.

    Raises:
        BadField: it is none, or too long.
    """
    if not isinstance(value, str):
        raise BadField(name[:255], "the value of a property must be a string.")
    if len(value.encode()) > 65535:
        raise BadField(name[:255], "the value of a property has at most 65535 bytes.")
    return value


@cache
def image_schema() -> dict[str, Any]:
    """The schema of an image."""
    spec = spec_of(Image)
    shown = {
        f.wire: _field(f, spec.field_docs.get(f.name, "")) for f in spec.fields.values() if f.flags.shown
    }
    return {
        "name": "image",
        "properties": {
            **shown,
            "tags": {
                "type": "array",
                "items": {"type": "string", "maxLength": 255},
                "description": "Words to find it by.",
            },
            "self": _LINK,
            "file": _LINK,
            "schema": _LINK,
        },
        "additionalProperties": {"type": "string"},
        "links": [
            {"rel": "self", "href": "{self}"},
            {"rel": "enclosure", "href": "{file}"},
            {"rel": "describedby", "href": "{schema}"},
        ],
    }


def _field(found: FieldSpec, doc: str) -> dict[str, Any]:
    kind = _TYPES.get(found.base) or ("array" if found.name == "tags" else "string")
    schema: dict[str, Any] = {"type": ["null", kind] if found.nullable else kind, "description": doc}
    if found.name in _CHOICES:
        schema["enum"] = [*([None] if found.nullable else []), *_CHOICES[found.name]]
    if not found.flags.update:
        schema["readOnly"] = True
    return schema


@cache
def member_schema() -> dict[str, Any]:
    """The schema of an image's member."""
    text = {"type": "string"}
    return {
        "name": "member",
        "properties": {
            "image_id": {**text, "description": "The image."},
            "member_id": {**text, "description": "The project that it is shared with."},
            "status": {**text, "enum": list(MEMBER_STATUSES), "description": "What the project made of it."},
            "created_at": {**text, "description": "When it was shared."},
            "updated_at": {**text, "description": "When it was last changed."},
            "schema": {**text, "readOnly": True},
        },
    }


def collection(name: str, of: dict[str, Any]) -> dict[str, Any]:
    """The schema of a list of something."""
    link = {"type": "string"}
    return {
        "name": name,
        "properties": {
            name: {"type": "array", "items": of},
            "first": link,
            "next": link,
            "schema": link,
        },
        "links": [
            {"rel": "first", "href": "{first}"},
            {"rel": "next", "href": "{next}"},
            {"rel": "describedby", "href": "{schema}"},
        ],
    }


@cache
def metadef_schemas(fields: tuple[str, ...], types: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """The schemas of what namespaces of definitions are and hold, by the last part of their paths.

    Args:
        fields: the names of a namespace's fields.
        types: the types that a property can have.
    """
    text, name = {"type": "string"}, {"type": "string", "maxLength": 80}
    namespace: dict[str, Any] = {**dict.fromkeys(fields, text), "protected": {"type": "boolean"}}
    prefixed = {"name": name, "prefix": name, "properties_target": name}
    shapes: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
        ("namespace", "namespaces", "", namespace),
        ("object", "objects", "", {"name": name, "description": text, "properties": {"type": "object"}}),
        ("property", "properties", "", {"name": name, "title": name, "type": {"enum": list(types)}}),
        ("tag", "tags", "", {"name": name}),
        ("resource_type", "resource_types", "_association", prefixed),
    )
    found: dict[str, dict[str, Any]] = {}
    for one, many, suffix, shape in shapes:
        listed = f"{one}{suffix}s" if suffix else many
        found[one] = {"name": f"{one}{suffix}", "properties": shape}
        found[many] = collection(listed, found[one])
    return found
