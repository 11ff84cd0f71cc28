"""PATCH of an image: JSON patch, in the two dialects of it that the Image API takes.

v2.1 (RFC 6902)   [{"op": "replace", "path": "/name", "value": "x"}]
v2.0              [{"replace": "/name", "value": "x"}]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from trunkline.api.image.schemas import property_value
from trunkline.errors import BadField, BadRequest, Conflict, Forbidden
from trunkline.resources.image import Image
from trunkline.resources.schema import refuse_unstorable, spec_of

V21 = "application/openstack-images-v2.1-json-patch"
V20 = "application/openstack-images-v2.0-json-patch"

#: Shown names that no patch touches.
READ_ONLY = frozenset(
    {
        "id", "status", "checksum", "os_hash_algo", "os_hash_value", "size", "virtual_size", "created_at",
        "updated_at", "self", "file", "schema", "direct_url", "locations", "stores", "members", "deleted",
        "deleted_at",
    }
)  # fmt: skip

_OPERATIONS = ("add", "replace", "remove")


@dataclass(frozen=True)
class Change:
    """One operation."""

    op: Literal["add", "replace", "remove"]
    name: str
    value: Any = None


#: What names of properties begin with that are the service's own.
_RESERVED = "os_glance_"


def refuse_reserved(name: str) -> None:
    """Refuses the names that are not a client's to set.

    Raises:
        Forbidden: it is one.
    """
    if name in READ_ONLY:
        raise Forbidden(f"Attribute '{name}' is read-only.")
    if name.startswith(_RESERVED):
        raise Forbidden(f"Attribute '{name[:80]}' is reserved.")


def parse(body: Any, media_type: str) -> list[Change]:
    """Understands a patch.

    Raises:
        BadRequest, BadField: it is malformed.
        Forbidden: it names an attribute that is read-only.
    """
    if not isinstance(body, list):
        raise BadRequest("The body of a patch must be a JSON array of operations.")
    if len(body) > 1000:
        raise BadRequest("The patch has more than 1000 operations. Split it.")
    refuse_unstorable(body)
    return [_change(item, index, media_type) for index, item in enumerate(body)]


def _change(item: Any, index: int, media_type: str) -> Change:
    where = f"operation {index}"
    if not isinstance(item, dict):
        raise BadField(where, "it must be a JSON object.")
    if media_type == V20:
        ops = [op for op in _OPERATIONS if op in item]
        if len(ops) != 1:
            raise BadField(where, f"it must have exactly one of the keys {', '.join(_OPERATIONS)}.")
        op: Any = ops[0]
        path = item[op]
    else:
        op, path = item.get("op"), item.get("path")
        if op not in _OPERATIONS:
            raise BadField(f"{where}.op", f"it must be one of {', '.join(_OPERATIONS)}.")
    name = _pointer(path, where)
    refuse_reserved(name)
    if op == "remove":
        return Change("remove", name)
    if "value" not in item:
        raise BadField(f"{where}.value", "it is required.")
    return Change(op, name, item["value"])


def _pointer(path: Any, where: str) -> str:
    """The name in a JSON pointer (RFC 6901) of one step."""
    if not isinstance(path, str) or not path.startswith("/") or len(path) < 2:
        raise BadField(f"{where}.path", "it must be a JSON pointer to an attribute, as /name.")
    if "/" in path[1:]:
        raise BadField(f"{where}.path", f"'{path[:80]}' points inside an attribute. Replace it as a whole.")
    name = path[1:].replace("~1", "/").replace("~0", "~")
    if len(name) > 255:
        raise BadField(f"{where}.path", "the name of a property has at most 255 characters.")
    return name


def apply(image: Image, changes: list[Change]) -> dict[str, Any]:
    """The values that an update of the image gets, by attribute name; checked.

    Raises:
        BadField: a value is refused.
        Conflict: a property is replaced or removed that is not there.
        Forbidden: a field is removed, which only properties can be.
    """
    spec = spec_of(Image)
    fields: dict[str, Any] = {}
    properties = dict(image.properties)
    for change in changes:
        known = spec.by_wire.get(change.name)
        if known is not None and known.flags.shown:
            if change.op == "remove":
                raise Forbidden(f"Property {change.name} may not be removed.")
            fields[change.name] = change.value
            continue
        if change.op != "add" and change.name not in properties:
            raise Conflict(f"Property {change.name} does not exist.")
        if change.op == "remove":
            del properties[change.name]
        else:
            properties[change.name] = property_value(change.name, change.value)
    values = spec.parse_update(fields)
    limit_properties(properties)
    if properties != image.properties:
        values["properties"] = properties
    return values


def limit_properties(properties: Mapping[str, str]) -> None:
    """Refuses more properties than an image may have."""
    if len(properties) > 128:
        raise BadField("properties", "an image has at most 128 properties.")
