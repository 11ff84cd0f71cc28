"""JSON schemas of the Compute API's request bodies, for its OpenAPI document.

The names of fields are those of the shapes that handlers read; where a shape says `Any`, because clients
of this API write numbers as text and the like, its schema is in the tables here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from trunkline.api.compute import (
    actions,
    aggregates,
    attachments,
    details,
    flavors,
    groups,
    keypairs,
    quotas,
    requests,
    services,
)
from trunkline.api.compute.networking import NetworkItem
from trunkline.api.http import Endpoint
from trunkline.api.openapi import shape_schema
from trunkline.resources.compute import MAX_INT

Schema = Mapping[str, Any]

_TEXT: Schema = {"type": "string", "maxLength": 255}
_NAME: Schema = {"type": "string", "minLength": 1, "maxLength": 255}
_BOOLEAN: Schema = {"type": ["boolean", "string"]}
_NONE: Schema = {"type": "null"}
_LABELS: Schema = {"type": "object", "additionalProperties": _TEXT}
_TAGS: Schema = {
    "type": "array",
    "maxItems": 50,
    "items": {"type": "string", "minLength": 1, "maxLength": 60},
}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, _NONE]}


def _whole(low: int, high: int = MAX_INT) -> Schema:
    return {"type": "integer", "minimum": low, "maximum": high}


def _object(required: Iterable[str] = (), **properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _shape(shape: type, **known: Schema) -> Schema:
    """The schema of a shape, with those of its fields that it leaves open."""
    schema = shape_schema(shape)
    properties = dict(schema["properties"])
    for name, inner in known.items():
        assert properties.get(name) == {}, f"{name} is no field of {shape} that is open"
        properties[name] = inner
    return {**schema, "properties": properties}


_NETWORKS: Schema = {
    "anyOf": [
        {"type": "array", "maxItems": 64, "items": shape_schema(NetworkItem)},
        {"enum": ["auto", "none"]},
        _NONE,
    ]
}
_ABOUT: Mapping[str, Schema] = {
    "OS-DCF:diskConfig": {"enum": ["AUTO", "MANUAL"]},
    "accessIPv4": _or_null(_TEXT),
    "accessIPv6": _or_null(_TEXT),
    "description": _or_null(_TEXT),
    "hostname": _NAME,
    "name": _NAME,
}
_UPDATE = _shape(requests.UpdateBody, **_ABOUT)
_GIVEN: Mapping[str, Schema] = {
    **_ABOUT,
    "adminPass": _or_null(_TEXT),
    "metadata": _LABELS,
    "user_data": _or_null({"type": "string", "maxLength": requests.USER_DATA}),
    "trusted_image_certificates": _or_null({"type": "array", "items": _TEXT}),
    "personality": {"type": "array"},
}
_SERVER = _shape(
    requests.ServerBody,
    **_GIVEN,
    flavorRef={"type": ["string", "integer"]},
    imageRef=_TEXT,
    networks=_NETWORKS,
    availability_zone=_NAME,
    block_device_mapping={"type": "array"},
    block_device_mapping_v2={"type": "array", "items": {"type": "object"}},
    config_drive=_BOOLEAN,
    key_name=_NAME,
    min_count=_whole(1, requests.MOST_AT_ONCE),
    max_count=_whole(1, requests.MOST_AT_ONCE),
    return_reservation_id=_BOOLEAN,
    security_groups={"type": "array", "items": _object(["name"], name=_NAME)},
    tags=_TAGS,
    host=_NAME,
    hypervisor_hostname=_NAME,
)
_REBUILD = _shape(
    requests.RebuildBody, **_GIVEN, imageRef=_TEXT, preserve_ephemeral=_BOOLEAN, key_name=_or_null(_NAME)
)
_BY_NAME = _object(["name"], name=_NAME)
_ACTION_BODIES: Mapping[str, Schema] = {
    "reboot": _object(["type"], type={"enum": ["SOFT", "HARD"]}),
    "rebuild": _REBUILD,
    "lock": _or_null(_object(locked_reason=_TEXT)),
    "rescue": _or_null(_object(adminPass=_TEXT, rescue_image_ref=_TEXT)),
    "createImage": _object(["name"], name=_NAME, metadata=_LABELS),
    "createBackup": _object(
        ["name", "backup_type", "rotation"],
        name=_NAME,
        backup_type=_TEXT,
        rotation={"type": ["integer", "string"]},
        metadata=_LABELS,
    ),
    "resize": _object(
        ["flavorRef"],
        flavorRef={"type": ["string", "integer"]},
        **{"OS-DCF:diskConfig": {"enum": ["AUTO", "MANUAL"]}},
    ),
    "migrate": _or_null(_object(host=_or_null(_NAME))),
    "unshelve": _or_null(_object(availability_zone=_or_null(_NAME), host=_NAME)),
    "os-migrateLive": _object(
        ["host", "block_migration"],
        host=_or_null(_NAME),
        block_migration={"type": ["boolean", "string"]},
        disk_over_commit=_BOOLEAN,
        force=_BOOLEAN,
    ),
    "os-resetState": _object(["state"], state={"enum": ["active", "error"]}),
    "addSecurityGroup": _BY_NAME,
    "removeSecurityGroup": _BY_NAME,
    "addFixedIp": _object(["networkId"], networkId=_TEXT),
    "removeFixedIp": _object(["address"], address=_TEXT),
    "os-getConsoleOutput": _or_null(_object(length={"type": ["integer", "string", "null"]})),
}
_ACTION: Schema = {
    "type": "object",
    "minProperties": 1,
    "maxProperties": 1,
    "properties": {
        name: _ACTION_BODIES.get(name, _NONE) for name in (*actions.ACTIONS, "os-getConsoleOutput")
    },
    "additionalProperties": False,
}
_LIMITS = {name: _whole(-1) for name in quotas.DEFAULTS}
_FLAVOR = _shape(
    flavors.Create,
    name=_NAME,
    vcpus=_whole(1),
    ram=_whole(1),
    disk=_whole(0),
    swap=_whole(0),
    **{"rxtx_factor": {"type": ["number", "string"]}, "OS-FLV-EXT-DATA:ephemeral": _whole(0)},
    **{"os-flavor-access:is_public": _BOOLEAN},
)
_ACCESS = shape_schema(flavors.Access)
_SPEC: Schema = {"type": ["string", "number", "boolean"], "maxLength": 255}
_HINTS: Schema = {"type": "object", "properties": {"group": _TEXT}}
_SERVICE: Schema = {
    "anyOf": [
        _shape(services.SetService, forced_down=_or_null(_BOOLEAN)),
        _shape(services.PatchService, forced_down=_or_null(_BOOLEAN)),
    ]
}

_ONE = "/v2.1/servers/{id}"
_FLAVOR_PATH, _AGGREGATE_PATH = "/v2.1/flavors/{id}", "/v2.1/os-aggregates/{id}"
#: (method, path) -> body.
BODIES: Mapping[tuple[str, str], Schema] = {
    ("POST", "/v2.1/servers"): {
        "type": "object",
        "properties": {"server": _SERVER, "os:scheduler_hints": _HINTS, "OS-SCH-HNT:scheduler_hints": _HINTS},
        "required": ["server"],
        "additionalProperties": False,
    },
    ("PUT", _ONE): _object(["server"], server=_UPDATE),
    ("POST", f"{_ONE}/action"): _ACTION,
    ("POST", f"{_ONE}/migrations/{{migration}}/action"): _object(["force_complete"], force_complete=_NONE),
    ("POST", f"{_ONE}/os-interface"): _object(interfaceAttachment=shape_schema(attachments.Attach)),
    ("POST", f"{_ONE}/os-volume_attachments"): {"type": "object"},
    ("PUT", f"{_ONE}/os-volume_attachments/{{volume}}"): {"type": "object"},
    ("PUT", f"{_ONE}/metadata"): _object(["metadata"], metadata=_LABELS),
    ("POST", f"{_ONE}/metadata"): _object(["metadata"], metadata=_LABELS),
    ("PUT", f"{_ONE}/metadata/{{key}}"): _object(["meta"], meta=_LABELS),
    ("PUT", f"{_ONE}/tags"): _object(["tags"], tags=_TAGS),
    ("POST", f"{_ONE}/remote-consoles"): {"type": "object"},
    ("POST", "/v2.1/os-server-external-events"): _object(
        ["events"], events={"type": "array", "minItems": 1, "items": shape_schema(details.Event)}
    ),
    ("POST", "/v2.1/flavors"): _object(["flavor"], flavor=_FLAVOR),
    ("PUT", _FLAVOR_PATH): _object(["flavor"], flavor=shape_schema(flavors.Update)),
    ("POST", f"{_FLAVOR_PATH}/action"): _object(addTenantAccess=_ACCESS, removeTenantAccess=_ACCESS),
    ("POST", f"{_FLAVOR_PATH}/os-extra_specs"): _object(
        ["extra_specs"], extra_specs={"type": "object", "additionalProperties": _SPEC}
    ),
    ("PUT", f"{_FLAVOR_PATH}/os-extra_specs/{{key}}"): {
        "type": "object",
        "maxProperties": 1,
        "additionalProperties": _SPEC,
    },
    ("POST", "/v2.1/os-keypairs"): _object(["keypair"], keypair=_shape(keypairs.Create, name=_NAME)),
    ("POST", "/v2.1/os-server-groups"): _object(
        ["server_group"], server_group=_shape(groups.Create, name=_NAME)
    ),
    ("PUT", "/v2.1/os-services/{id}"): _SERVICE,
    ("POST", "/v2.1/os-aggregates"): _object(["aggregate"], aggregate=_shape(aggregates.Create, name=_NAME)),
    ("PUT", _AGGREGATE_PATH): _object(["aggregate"], aggregate=_shape(aggregates.Update, name=_NAME)),
    ("POST", f"{_AGGREGATE_PATH}/action"): _object(
        add_host=_shape(aggregates.HostOf, host=_NAME),
        remove_host=_shape(aggregates.HostOf, host=_NAME),
        set_metadata=shape_schema(aggregates.SetMetadata),
    ),
    ("PUT", "/v2.1/os-quota-sets/{project}"): _object(
        ["quota_set"], quota_set=_object(force=_BOOLEAN, tenant_id=_TEXT, **_LIMITS)
    ),
    ("PUT", "/v2.1/os-quota-class-sets/{name}"): _object(
        ["quota_class_set"], quota_class_set=_object(**_LIMITS)
    ),
}


def described(endpoints: Iterable[Endpoint]) -> list[Endpoint]:
    """The endpoints, each with the schema of its body."""
    return [replace(e, request=e.request or BODIES.get((e.method, e.path))) for e in endpoints]
