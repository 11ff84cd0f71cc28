"""OpenAPI documents of the services, derived from their endpoints and from the specs of resources.

OpenAPI 3.1.0; JSON Schema 2020-12 as msgspec writes it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Set
from functools import cache, partial
from typing import Any

import msgspec

from trunkline.api.http import Endpoint, Service
from trunkline.resources.schema import Spec, spec_of

_PARAMETER = re.compile(r"{(\w+)(?::\w+)?}")
_REF = "#/components/schemas/{name}"
#: Services whose resources stand under their names, with their fields as the classes have them.
ENVELOPED = frozenset({"identity", "network", "appliance", "load-balancer"})
#: Services whose replies differ by the microversion that a request asks for.
VERSIONED = frozenset({"compute"})


class Later(Mapping[str, Any]):
    """A schema that is made when somebody looks at it: most processes never show one."""

    def __init__(self, make: Callable[[], Mapping[str, Any]]) -> None:
        self._make: Callable[[], Mapping[str, Any]] | None = make
        self._made: Mapping[str, Any] = {}

    def __getitem__(self, key: str) -> Any:
        return self._schema()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._schema())

    def __len__(self) -> int:
        return len(self._schema())

    def __bool__(self) -> bool:
        return True

    def _schema(self) -> Mapping[str, Any]:
        if self._make is not None:
            self._made, self._make = self._make(), None
        return self._made


def input_schema(kind: str, verb: str, envelope: str | None = None) -> Mapping[str, Any]:
    """The JSON schema of a create or an update request.

    Args:
        verb: "create" or "update".
        envelope: the key under which the resource stands, or None for a flat body.
    """
    return Later(partial(_request_schema, kind, verb, envelope))


def _request_schema(kind: str, verb: str, envelope: str | None) -> Mapping[str, Any]:
    inner = _input_schema(kind, verb)
    if verb == "create":
        needed = [f.wire for f in spec_of(kind).fields.values() if f.flags.required]
        if needed:
            inner = {**inner, "required": needed}
    return inner if envelope is None else _enveloped(inner, envelope)


def _enveloped(inner: Mapping[str, Any], envelope: str) -> Mapping[str, Any]:
    return {"type": "object", "properties": {envelope: inner}, "required": [envelope]}


@cache
def _input_schema(kind: str, verb: str) -> dict[str, Any]:
    spec = spec_of(kind)
    shape = spec.create_input if verb == "create" else spec.update_input
    schema = msgspec.json.schema(shape)
    definitions = schema.get("$defs", {})
    own: dict[str, Any] = _inlined(schema, definitions)
    for field in spec.fields.values():
        text = spec.field_docs.get(field.name)
        if text and field.wire in own.get("properties", {}):
            own["properties"][field.wire] = {**own["properties"][field.wire], "description": text}
    return own


def shape_schema(shape: Any, envelope: str | None = None) -> Mapping[str, Any]:
    """The JSON schema of a body that is no resource, as a msgspec type has it."""
    return Later(partial(_shape_schema, shape, envelope))


def _shape_schema(shape: Any, envelope: str | None) -> Mapping[str, Any]:
    schema = msgspec.json.schema(shape)
    inner: Mapping[str, Any] = _inlined(schema, schema.get("$defs", {}))
    return inner if envelope is None else _enveloped(inner, envelope)


def _inlined(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """The schema with its references replaced by what they name."""
    if isinstance(schema, Mapping):
        if "$ref" in schema:
            return _inlined(definitions[schema["$ref"].rsplit("/", 1)[-1]], definitions)
        kept = {k: v for k, v in schema.items() if k not in ("$defs", "default", "properties")}
        inlined = {k: _inlined(v, definitions) for k, v in kept.items()}
        if "properties" in schema:  # Its keys are names of fields, whatever they are.
            inlined["properties"] = {n: _inlined(v, definitions) for n, v in schema["properties"].items()}
        return inlined
    if isinstance(schema, list):
        return [_inlined(v, definitions) for v in schema]
    return schema


def output_schema(spec: Spec) -> dict[str, Any]:
    """The JSON schema of a resource as it is shown."""
    shown = [f for f in spec.fields.values() if f.flags.shown]
    shape = msgspec.defstruct(
        spec.cls.__name__,
        [(f.name, str | None if f.flags.as_text else f.annotation) for f in shown],
        rename={f.name: f.wire for f in shown if f.name != f.wire} or None,
        module=spec.cls.__module__,
    )
    schema = msgspec.json.schema(shape)
    own: dict[str, Any] = _inlined(schema, schema.get("$defs", {}))
    own.pop("required", None)
    for field in shown:
        text = spec.field_docs.get(field.name)
        if text:
            own["properties"][field.wire] = {**own["properties"][field.wire], "description": text}
    return own


def document(service: Service, version: str) -> dict[str, Any]:
    """The whole document of a service."""
    paths: dict[str, dict[str, Any]] = {}
    kinds: set[str] = set()
    singles = {e.path for e in service.endpoints if e.method == "GET" and e.path.endswith("/{id}")}
    for endpoint in service.endpoints:
        path = _PARAMETER.sub(r"{\1}", endpoint.path) or "/"
        operation = _operation(endpoint, _success(service, endpoint, singles))
        paths.setdefault(path, {})[endpoint.method.lower()] = operation
        if endpoint.kind:
            kinds.add(endpoint.kind)
    return {
        "openapi": "3.1.0",
        "info": {"title": f"Trunkline {service.name} API", "version": version},
        "servers": [{"url": service.prefix}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "apiKey", "in": "header", "name": "X-Auth-Token"}},
            "schemas": {kind: output_schema(spec_of(kind)) for kind in sorted(kinds)},
        },
    }


def _success(service: Service, endpoint: Endpoint, singles: Set[str]) -> Mapping[str, Any]:
    """The successful replies by status."""
    if service.name in VERSIONED:
        return {"2XX": {"description": "Success; status and body are those of the microversion asked for"}}
    success: dict[str, Any] = {"description": "Success"}
    silent = endpoint.success in (202, 204) or (endpoint.success == 201 and endpoint.request is None)
    if not silent and endpoint.method != "HEAD":
        shown = _shown(endpoint, singles) if service.name in ENVELOPED else {"type": "object"}
        success["content"] = {"application/json": {"schema": shown}}
    others = {str(status): {"description": "Success, and nothing to show"} for status in endpoint.also}
    return {str(endpoint.success): success, **others}


def _shown(endpoint: Endpoint, singles: Set[str]) -> Mapping[str, Any]:
    """The schema of a successful reply: the resource, or a list of it, under its name."""
    if not endpoint.kind:
        return {"type": "object"}
    spec, reference = spec_of(endpoint.kind), {"$ref": _REF.format(name=endpoint.kind)}
    name = endpoint.envelope or spec.kind
    one = {"type": "object", "properties": {name: reference}, "required": [name]}
    several = {"type": "array", "items": reference}
    many = {"type": "object", "properties": {spec.plural: several}, "required": [spec.plural]}
    if endpoint.path in singles:
        return one
    if f"{endpoint.path}/{{id}}" in singles:
        return many if endpoint.method == "GET" else {"anyOf": [one, many]}
    return {"type": "object"}


def _operation(endpoint: Endpoint, success: Mapping[str, Any]) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PARAMETER.findall(endpoint.path)
    ]
    parameters += [
        {"name": name, "in": "query", "required": False, "schema": {"type": "string"}}
        for name in endpoint.parameters
    ]
    operation: dict[str, Any] = {
        "summary": endpoint.summary or f"{endpoint.method} {endpoint.path}",
        "parameters": parameters,
        "responses": {
            **success,
            "4XX": {
                "description": "The request is refused; the body says which field, and what to do",
                "content": {"application/json": {"schema": {"type": "object"}}},
            },
        },
    }
    if endpoint.kind:
        operation["tags"] = [endpoint.kind]
    if endpoint.token:
        operation["security"] = [{"token": []}]
    if endpoint.request is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _plain(endpoint.request)}},
        }
    return operation


def _plain(schema: Any) -> Any:
    """The schema of dictionaries and lists alone."""
    if isinstance(schema, Mapping):
        return {key: _plain(value) for key, value in schema.items()}
    return [_plain(value) for value in schema] if isinstance(schema, list | tuple) else schema
