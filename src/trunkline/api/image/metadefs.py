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
from typing import Any

import msgspec
from msgspec.structs import replace

from trunkline.api.engine import Call, Engine
from trunkline.api.http import Endpoint, Reply, Request
from trunkline.api.image.metadef_parts import (
    ASSOCIATIONS,
    COLLECTIONS,
    MOST_ENTRIES,
    TAGS,
    TYPES,
    Collection,
    checked,
    held,
    stamped,
)
from trunkline.api.image.schemas import metadef_schemas
from trunkline.errors import BadField, Conflict, Forbidden, NotFound
from trunkline.resources.image import MetadefNamespace
from trunkline.resources.schema import convert
from trunkline.store import Reader, table_of

NAMESPACES = "/v2/metadefs/namespaces"
#: What metadata can be about: kinds of things of the services that there are.
RESOURCE_TYPES = ("OS::Glance::Image", "OS::Nova::Flavor", "OS::Nova::Server")


class NamespaceBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of a create or an update request."""

    namespace: str
    display_name: str | None = None
    description: str | None = None
    visibility: str = "private"
    protected: bool = False
    owner: str | None = None


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
        # Links are made of the name: a reply has all fields, whichever are asked for.
        asked = [(name, value) for name, value in request.query if name != "fields"]
        query = self.engine.query(MetadefNamespace, asked)
        page = await self.engine.page(request.context, MetadefNamespace, query)
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
        body = await request.json()
        found = held(body)
        given = _namespace(body)

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
                content={
                    part.name: {name: stamped(part, entry, call.now) for name, entry in entries.items()}
                    for part, entries in found
                },
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

    async def schema(self, request: Request) -> Reply:
        """The schema of a namespace, of what it holds, or of a list of them."""
        name = request.path["name"]
        found = metadef_schemas(tuple(NamespaceBody.__struct_fields__), TYPES)
        if name not in found:
            raise NotFound(f"There is no schema of metadefs/{name[:80]}.")
        return Reply(found[name])

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
        definition = checked(self.collection, await request.json())
        return Reply(await self._put(request, definition, None), 201)

    async def create_named(self, request: Request) -> Reply:
        """Adds an entry that is no more than its name."""
        definition = checked(self.collection, {"name": request.path["tag"]})
        return Reply(await self._put(request, definition, None), 201)

    async def replace_all(self, request: Request) -> Reply:
        """Makes these the entries, and no others."""
        body = await request.json()
        given = body.get(self.collection.name) if isinstance(body, dict) else None
        if not isinstance(given, list) or len(given) > MOST_ENTRIES:
            raise BadField(self.collection.name, f"it must be a list of up to {MOST_ENTRIES} entries.")
        if unknown := next((key for key in body if key != self.collection.name), None):
            raise BadField(unknown[:80], "it is unknown. Leave it out.")
        fresh = {
            definition["name"]: definition for definition in (checked(self.collection, g) for g in given)
        }
        if len(fresh) < len(given):
            raise Conflict("An entry is given twice.")

        def change(old: dict[str, Any], now: str) -> dict[str, Any]:
            return {name: stamped(self.collection, definition, now) for name, definition in fresh.items()}

        entries = await self._change(request, change)
        return Reply({self.collection.name: list(entries.values())}, 201)

    async def update(self, request: Request) -> Reply:
        """Changes an entry; its name too."""
        definition = checked(self.collection, await request.json())
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
            fresh = stamped(self.collection, definition, now)
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
        at("GET", "/v2/schemas/metadefs/{name}", api.schema),
        at("GET", NAMESPACES, api.list),
        at("POST", NAMESPACES, api.create, 201),
        at("GET", one, api.show),
        at("PUT", one, api.update),
        at("DELETE", one, api.delete, 204),
    ]
    for collection in COLLECTIONS:
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
            result.append(at("POST", f"{many}/{{tag}}", part.create_named, 201))
    return result
