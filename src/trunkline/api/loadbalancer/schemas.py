"""Bodies of requests as the OpenAPI document shows them, with what may stand inside."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from trunkline.api import openapi
from trunkline.api.loadbalancer import quotas
from trunkline.api.loadbalancer.dialect import envelope
from trunkline.resources.loadbalancer import (
    HealthMonitor,
    L7Policy,
    L7Rule,
    Listener,
    LoadBalancer,
    Member,
    Pool,
)
from trunkline.resources.schema import Resource, spec_of

#: What stands inside of a kind: several of another, or one.
_INSIDE: Mapping[type[Resource], Mapping[str, tuple[type[Resource], bool]]] = {
    LoadBalancer: {"listeners": (Listener, True), "pools": (Pool, True)},
    Listener: {"default_pool": (Pool, False), "l7policies": (L7Policy, True)},
    Pool: {"members": (Member, True), "healthmonitor": (HealthMonitor, False)},
    L7Policy: {"redirect_pool": (Pool, False), "rules": (L7Rule, True)},
}


def create(cls: type[Resource]) -> Mapping[str, Any]:
    """The body of a request for a new one."""
    return openapi.Later(partial(_create, cls))


def _create(cls: type[Resource]) -> Mapping[str, Any]:
    name = envelope(cls)
    return {"type": "object", "properties": {name: _shape(cls)}, "required": [name]}


def _shape(cls: type[Resource]) -> dict[str, Any]:
    shape = dict(openapi.input_schema(spec_of(cls).kind, "create"))
    properties = dict(shape.get("properties", {}))
    for name, (inner, several) in _INSIDE.get(cls, {}).items():
        below = _shape(inner)
        below.pop("required", None)  # What is inside is told by where it stands, or by a name alone.
        properties[name] = {"type": "array", "items": below} if several else below
    if cls is Pool:
        properties["listener_id"] = {
            "type": "string",
            "description": "The listener whose default pool it is.",
        }
    return {**shape, "properties": properties}


def _members() -> Mapping[str, Any]:
    several = {"type": "array", "items": _shape(Member)}
    return {"type": "object", "properties": {"members": several}, "required": ["members"]}


MEMBERS = openapi.Later(_members)
QUOTA = quotas.SCHEMA
