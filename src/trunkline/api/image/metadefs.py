"""Definitions of metadata: namespaces of properties, objects and tags, for tools that show forms.

The cloud keeps them and does nothing by them. A namespace holds four collections, which all work alike:

    properties       a property that a thing may carry: a JSON schema
    objects          several properties under one name
    tags             a word
    resource_types   a kind of thing that the namespace is for

Source: the OpenStack Image Service's metadata definitions API, v2.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec.structs import replace

from trunkline.api.engine import Call, Engine
from trunkline.api.http import Endpoint, Reply, Request
from trunkline.errors import BadField, Conflict, Forbidden, NotFound
from trunkline.resources.image import MetadefNamespace
from trunkline.resources.schema import convert, refuse_unstorable
from trunkline.store import Reader, table_of

NAMESPACES = "/v2/metadefs/namespaces"
#: What metadata can be about: kinds of things of the services that there are.
RESOURCE_TYPES = ("OS::Glance::Image", "OS::Nova::Flavor", "OS::Nova::Server", "OS::Nova::Aggregate")
_TYPES = ("array", "boolean", "integer", "number", "object", "string")
#: Entries of a collection, and bytes of one as JSON.
MOST_ENTRIES, MOST_BYTES = 500, 16384


class NamespaceBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of a create or an update request."""

    namespace: str
    display_name: str | None = None
    description: str | None = None
    visibility: str = "private"
    protected: bool = False
    owner: str | None = None


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
    if given["type"] not in _TYPES:
        raise BadField("type", f"it must be one of {', '.join(_TYPES)}.")


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


class NamespaceApi:
    """The handlers of namespaces."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def find(self, reader: Reader, request: Request, name: str = "") -> MetadefNamespace:
        """The namespace of the path.

        Raises:
            NotFound: it is not there, or not visible.
        """
        name = name or request.path["namespace"]
        table = table_of(MetadefNamespace)
        visible = self.engine.visible(request.context, MetadefNamespace)
        for found in reader.select(MetadefNamespace, table.c.namespace == name, *visible):
            return found
        raise self.engine.missing(MetadefNamespace, name)

    async def list(self, request: Request) -> Reply:
        """The namespaces that the caller sees."""
        self.engine.require("get_metadef_namespaces", request.context, _own(request))
        page = await self.engine.page(
            request.context, MetadefNamespace, self.engine.query(MetadefNamespace, request.query)
        )
        shown = [{**item, **_links(item["namespace"])} for item in page.items]
        for item in shown:
            del item["id"]
        body = {"namespaces": shown, "first": NAMESPACES, "schema": "/v2/schemas/metadefs/namespaces"}
        if page.more and page.last:
            body["next"] = f"{NAMESPACES}?marker={page.last}"
        return Reply(body)

    async def show(self, request: Request) -> Reply:
        """One namespace with all that it holds."""
        self.engine.require("get_metadef_namespace", request.context, _own(request))
        return Reply(await self.engine.read(lambda reader: _whole(self.find(reader, request))))

    async def create(self, request: Request) -> Reply:
        """Creates a namespace."""
        given = _namespace(await request.json())

        def run(call: Call) -> dict[str, Any]:
            call.require("add_metadef_namespace", _own(request))
            if call.tx.find(MetadefNamespace, namespace=given.namespace):
                raise Conflict(f"Metadata definition namespace {given.namespace} already exists.")
            made = MetadefNamespace(
                id=str(uuid.uuid4()),
                namespace=given.namespace,
                display_name=given.display_name,
                description=given.description,
                visibility=given.visibility,
                protected=given.protected,
                project_id=given.owner or call.context.project_id,
            )
            return _render(call.add(made))

        shown = await self.engine.write(request.context, run)
        return Reply(shown, 201, {"location": f"{request.base_url}{shown['self']}"})

    async def update(self, request: Request) -> Reply:
        """Changes a namespace; its name too."""
        given = _namespace(await request.json())

        def run(call: Call) -> dict[str, Any]:
            old = self.find(call.tx, request)
            call.require("modify_metadef_namespace", {"project_id": old.project_id})
            if given.namespace != old.namespace and call.tx.find(MetadefNamespace, namespace=given.namespace):
                raise Conflict(f"Metadata definition namespace {given.namespace} already exists.")
            new = replace(
                old,
                namespace=given.namespace,
                display_name=given.display_name,
                description=given.description,
                visibility=given.visibility,
                protected=given.protected,
                project_id=given.owner or old.project_id,
            )
            return _render(call.save(new))

        return Reply(await self.engine.write(request.context, run))

    async def delete(self, request: Request) -> Reply:
        """Deletes a namespace with all that it holds."""

        def run(call: Call) -> None:
            found = self.find(call.tx, request)
            call.require("delete_metadef_namespace", {"project_id": found.project_id})
            if found.protected:
                raise Forbidden(f"Metadata definition namespace {found.namespace} is protected.")
            call.drop(found)

        await self.engine.write(request.context, run)
        return Reply(status=204)

    async def resource_types(self, request: Request) -> Reply:
        """What metadata can be about."""
        self.engine.require("list_metadef_resource_types", request.context, _own(request))
        return Reply({"resource_types": [{"name": name} for name in RESOURCE_TYPES]})


class CollectionApi:
    """The handlers of one collection of a namespace."""

    def __init__(self, engine: Engine, collection: Collection) -> None:
        self.engine = engine
        self.collection = collection
        self.namespaces = NamespaceApi(engine)

    async def list(self, request: Request) -> Reply:
        """The entries."""
        self.engine.require("get_metadef_namespace", request.context, _own(request))
        found = await self.engine.read(lambda reader: self._entries(reader, request))
        name = self.collection.name
        if name == "properties":
            return Reply({name: found})
        return Reply({self.collection.listed or name: list(found.values())})

    async def show(self, request: Request) -> Reply:
        """One entry."""
        self.engine.require("get_metadef_namespace", request.context, _own(request))
        found = await self.engine.read(lambda reader: self._entries(reader, request))
        return Reply(self._entry(found, request))

    async def create(self, request: Request) -> Reply:
        """Adds an entry."""
        definition = self._checked(await request.json(), request)
        return Reply(await self._put(request, definition, None), 201)

    async def create_named(self, request: Request) -> Reply:
        """Adds an entry that is no more than its name."""
        definition = self._checked({"name": request.path["name"]}, request)
        return Reply(await self._put(request, definition, None), 201)

    async def replace_all(self, request: Request) -> Reply:
        """Makes these the entries, and no others."""
        body = await request.json()
        given = body.get(self.collection.name) if isinstance(body, dict) else None
        if not isinstance(given, list) or len(given) > MOST_ENTRIES:
            raise BadField(self.collection.name, f"it must be a list of up to {MOST_ENTRIES} entries.")
        fresh = {definition["name"]: definition for definition in (self._checked(g, request) for g in given)}
        if len(fresh) < len(given):
            raise Conflict("An entry is given twice.")

        def change(old: dict[str, Any], now: str) -> dict[str, Any]:
            return {name: self._stamped(definition, now) for name, definition in fresh.items()}

        entries = await self._change(request, change)
        return Reply({self.collection.name: list(entries.values())}, 201)

    async def update(self, request: Request) -> Reply:
        """Changes an entry; its name too."""
        definition = self._checked(await request.json(), request)
        return Reply(await self._put(request, definition, request.path["name"]))

    async def delete(self, request: Request) -> Reply:
        """Removes an entry."""

        def change(old: dict[str, Any], now: str) -> dict[str, Any]:
            self._entry(old, request)
            return {name: entry for name, entry in old.items() if name != request.path["name"]}

        await self._change(request, change)
        return Reply(status=204)

    async def delete_all(self, request: Request) -> Reply:
        """Removes all entries."""
        await self._change(request, lambda old, now: {})
        return Reply(status=204)

    async def _put(
        self, request: Request, definition: dict[str, Any], old_name: str | None
    ) -> dict[str, Any]:
        name = definition["name"]

        def change(old: dict[str, Any], now: str) -> dict[str, Any]:
            created = now
            if old_name is not None:
                created = self._entry(old, request).get("created_at", now)
            if name in old and name != old_name:
                raise Conflict(f"{name} is in the {self.collection.name} of the namespace already.")
            if len(old) >= MOST_ENTRIES and old_name is None:
                raise Conflict(f"A namespace holds at most {MOST_ENTRIES} {self.collection.name}.")
            kept = {n: entry for n, entry in old.items() if n != old_name}
            fresh = self._stamped(definition, now)
            if self.collection.timed:
                fresh["created_at"] = created
            return {**kept, name: fresh}

        return dict((await self._change(request, change))[name])

    async def _change(
        self, request: Request, change: Callable[[dict[str, Any], str], dict[str, Any]]
    ) -> dict[str, Any]:
        def run(call: Call) -> dict[str, Any]:
            found = self.namespaces.find(call.tx, request)
            call.require("modify_metadef_namespace", {"project_id": found.project_id})
            entries = change(found.content.get(self.collection.name, {}), call.now)
            call.save(replace(found, content={**found.content, self.collection.name: entries}))
            return entries

        return await self.engine.write(request.context, run)

    def _entries(self, reader: Reader, request: Request) -> dict[str, Any]:
        return dict(self.namespaces.find(reader, request).content.get(self.collection.name, {}))

    def _entry(self, entries: Mapping[str, Any], request: Request) -> dict[str, Any]:
        name = request.path["name"]
        if name not in entries:
            raise NotFound(f"{name[:80]} is not in the {self.collection.name} of the namespace.")
        return dict(entries[name])

    def _checked(self, given: Any, request: Request) -> dict[str, Any]:
        if not isinstance(given, dict):
            raise BadField(self.collection.name, "an entry must be a JSON object.")
        refuse_unstorable(given)
        given = {k: v for k, v in given.items() if k not in ("self", "schema", "created_at", "updated_at")}
        name = given.get("name")
        if not isinstance(name, str) or not 1 <= len(name) <= 80 or not name.isprintable():
            raise BadField("name", "it is a text of 1 to 80 printable characters.")
        if len(msgspec.json.encode(given)) > MOST_BYTES:
            raise BadField(self.collection.name, f"an entry has at most {MOST_BYTES} bytes.")
        self.collection.check(given)
        return dict(given)

    def _stamped(self, definition: dict[str, Any], now: str) -> dict[str, Any]:
        times = {"created_at": now, "updated_at": now} if self.collection.timed else {}
        return {**definition, **times}


def _namespace(body: Any) -> NamespaceBody:
    given: NamespaceBody = convert(body, NamespaceBody, what="namespace")
    name = given.namespace
    if not 1 <= len(name) <= 80 or not name.isprintable() or "/" in name:
        raise BadField("namespace", "it is a text of 1 to 80 printable characters, without a slash.")
    if given.visibility not in ("public", "private"):
        raise BadField("visibility", "it must be public or private.")
    for field, most in (("display_name", 80), ("description", 500), ("owner", 255)):
        text = getattr(given, field)
        if text is not None and len(text) > most:
            raise BadField(field, f"it is a text of up to {most} characters.")
    return given


def _own(request: Request) -> dict[str, Any]:
    return {"project_id": request.context.project_id}


def _links(name: str) -> dict[str, str]:
    return {"self": f"{NAMESPACES}/{name}", "schema": "/v2/schemas/metadefs/namespace"}


def _render(found: MetadefNamespace) -> dict[str, Any]:
    shown = {
        "namespace": found.namespace,
        "display_name": found.display_name,
        "description": found.description,
        "visibility": found.visibility,
        "protected": found.protected,
        "owner": found.project_id,
        "created_at": found.created_at,
        "updated_at": found.updated_at,
        **_links(found.namespace),
    }
    return {name: value for name, value in shown.items() if value is not None}


def _whole(found: MetadefNamespace) -> dict[str, Any]:
    content = found.content
    return {
        **_render(found),
        "resource_type_associations": list(content.get("resource_types", {}).values()),
        "properties": content.get("properties", {}),
        "objects": list(content.get("objects", {}).values()),
        "tags": list(content.get("tags", {}).values()),
    }


def endpoints(engine: Engine) -> list[Endpoint]:
    """The paths of metadata definitions."""

    def at(method: str, path: str, handler: Any, success: int = 200) -> Endpoint:
        summary = (handler.__doc__ or "").strip().splitlines()[0]
        return Endpoint(method, path, handler, summary=summary, success=success, kind="metadef_namespace")

    api, one = NamespaceApi(engine), f"{NAMESPACES}/{{namespace}}"
    result = [
        at("GET", "/v2/metadefs/resource_types", api.resource_types),
        at("GET", NAMESPACES, api.list),
        at("POST", NAMESPACES, api.create, 201),
        at("GET", one, api.show),
        at("PUT", one, api.update),
        at("DELETE", one, api.delete, 204),
    ]
    for collection in (PROPERTIES, OBJECTS, TAGS, ASSOCIATIONS):
        part = CollectionApi(engine, collection)
        many, entry = f"{one}/{collection.name}", f"{one}/{collection.name}/{{name}}"
        words = collection is TAGS
        result += [
            at("GET", many, part.list),
            at("POST", many, part.replace_all if words else part.create, 201),
            at("DELETE", many, part.delete_all, 204),
            at("DELETE", entry, part.delete, 204),
        ]
        if collection is not ASSOCIATIONS:
            result += [at("GET", entry, part.show), at("PUT", entry, part.update)]
        if words:
            result.append(at("POST", entry, part.create_named, 201))
    return result
