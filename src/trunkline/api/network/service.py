"""The Network API v2.0: its paths and what each does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from trunkline.api import openapi
from trunkline.api.engine import Call, Engine
from trunkline.api.http import Endpoint, Reply, Request, Service
from trunkline.api.network import dialect, extensions, interfaces, quotas, security_groups, tags
from trunkline.api.query import Query
from trunkline.errors import BadRequest
from trunkline.resources.network import (
    FloatingIP,
    Network,
    Port,
    Router,
    SecurityGroup,
    SecurityGroupRule,
    Subnet,
)
from trunkline.resources.region import Host
from trunkline.resources.schema import Spec, spec_of
from trunkline.resources.standard import Standard
from trunkline.store import Reader, table_of

KINDS: tuple[type[Standard], ...] = (
    Network,
    Subnet,
    Port,
    Router,
    FloatingIP,
    SecurityGroup,
    SecurityGroupRule,
)
#: How many one bulk request may create.
MOST_AT_ONCE = 1000

Handle = Callable[[Request], Awaitable[Reply]]


def path_of(spec: Spec) -> str:
    """Where a kind's collection is: words are joined by hyphens."""
    return f"/v2.0/{spec.plural.replace('_', '-')}"


class Collection:
    """The handlers of one kind."""

    def __init__(self, engine: Engine, cls: type[Standard]) -> None:
        self.engine = engine
        self.cls = cls
        self.spec = spec_of(cls)

    async def index(self, request: Request) -> Reply:
        """Lists what the caller sees."""
        self._may_read(request)
        if self.cls is SecurityGroup:
            await security_groups.ensure_default(self.engine, request.context)
        query: Query = self.engine.query(self.cls, request.query, aliases=dialect.ALIASES)
        page = await self.engine.page(request.context, self.cls, query)
        return Reply(dialect.listing(request, self.spec.plural, query, page))

    async def show(self, request: Request) -> Reply:
        """Shows one."""
        self._may_read(request)
        fields = dialect.shown_fields(request.query)
        item = await self.engine.show(request.context, self.cls, request.path["id"], fields=fields)
        return Reply({self.spec.kind: item})

    async def create(self, request: Request) -> Reply:
        """Creates one, or several under the plural: all or none."""
        body = await request.json()
        kind, plural = self.spec.kind, self.spec.plural
        if isinstance(body, dict) and plural in body and kind not in body:
            bodies = dialect.several(body[plural], kind, plural, MOST_AT_ONCE)
            items = await self.engine.create_many(request.context, self.cls, bodies)
            return Reply({plural: items}, 201)
        if not isinstance(body, dict) or kind not in body:
            raise BadRequest(f"The body must be a JSON object with the key '{kind}' or '{plural}'.")
        item = await self.engine.create(request.context, self.cls, dialect.given(body[kind], kind))
        return Reply({kind: item}, 201)

    async def update(self, request: Request) -> Reply:
        """Changes one."""
        kind = self.spec.kind
        fields = dialect.given(await request.envelope(kind), kind)
        item = await self.engine.update(
            request.context,
            self.cls,
            request.path["id"],
            fields,
            if_revision=dialect.expected_revision(request.headers),
        )
        return Reply({kind: item})

    async def delete(self, request: Request) -> Reply:
        """Deletes one."""
        revision = dialect.expected_revision(request.headers)
        await self.engine.delete(request.context, self.cls, request.path["id"], if_revision=revision)
        return Reply(status=204)

    async def tags(self, request: Request) -> Reply:
        """Lists the tags of one."""
        self._may_read(request)
        item = await self.engine.show(
            request.context, self.cls, request.path["id"], fields=frozenset({"tags"})
        )
        return Reply(item)

    async def replace_tags(self, request: Request) -> Reply:
        """Replaces the tags of one."""
        body = await request.json()
        id = request.path["id"]
        stored = await self._write(request, lambda call: tags.replace_all(call, self.cls, id, body))
        return Reply({"tags": stored})

    async def remove_tags(self, request: Request) -> Reply:
        """Removes all tags of one."""
        await self._write(request, lambda call: tags.remove_all(call, self.cls, request.path["id"]))
        return Reply(status=204)

    async def has_tag(self, request: Request) -> Reply:
        """Says whether one has a tag."""
        self._may_read(request)
        with self.engine.store.read() as reader:
            obj = self.engine.get(reader, request.context, self.cls, request.path["id"])
        tags.find(obj, request.path["tag"])
        return Reply(status=204)

    async def add_tag(self, request: Request) -> Reply:
        """Adds a tag to one."""
        id, tag = request.path["id"], request.path["tag"]
        await self._write(request, lambda call: tags.add(call, self.cls, id, tag))
        return Reply(status=201)

    async def remove_tag(self, request: Request) -> Reply:
        """Removes a tag from one."""
        id, tag = request.path["id"], request.path["tag"]
        await self._write(request, lambda call: tags.remove(call, self.cls, id, tag))
        return Reply(status=204)

    async def _write(self, request: Request, run: Callable[[Call], Any]) -> Any:
        revision = dialect.expected_revision(request.headers)

        def checked(call: Call) -> Any:
            self.engine.check_revision(call.get(self.cls, request.path["id"]), revision)
            return run(call)

        return await self.engine.write(request.context, checked)

    def _may_read(self, request: Request) -> None:
        self.engine.require(
            self.engine.rule(self.cls, "get"),
            request.context,
            {"project_id": request.context.project_id},
        )

    def endpoints(self) -> list[Endpoint]:
        """All of them."""
        kind, path = self.spec.kind, path_of(self.spec)
        one, label = f"{path}/{{id}}", f"{path}/{{id}}/tags"
        words = kind.replace("_", " ")

        def at(method: str, where: str, handler: Handle, summary: str, **more: Any) -> Endpoint:
            return Endpoint(method, where, handler, summary=summary, kind=kind, **more)

        found = [
            at("GET", path, self.index, f"List {self.spec.plural}", parameters=_LIST_PARAMETERS),
            at(
                "POST",
                path,
                self.create,
                f"Create a {words}",
                success=201,
                request=openapi.input_schema(kind, "create", kind),
            ),
            at("GET", one, self.show, f"Show a {words}", parameters=("fields",)),
            at("DELETE", one, self.delete, f"Delete a {words}", success=204),
            at("GET", label, self.tags, f"List the tags of a {words}"),
            at("PUT", label, self.replace_tags, f"Replace the tags of a {words}", request=_TAGS),
            at("DELETE", label, self.remove_tags, f"Remove the tags of a {words}", success=204),
            at("GET", f"{label}/{{tag}}", self.has_tag, f"Ask for a tag of a {words}", success=204),
            at("PUT", f"{label}/{{tag}}", self.add_tag, f"Add a tag to a {words}", success=201),
            at("DELETE", f"{label}/{{tag}}", self.remove_tag, f"Remove a tag of a {words}", success=204),
        ]
        if self.spec.update_input.__struct_fields__:
            schema = openapi.input_schema(kind, "update", kind)
            found.append(at("PUT", one, self.update, f"Change a {words}", request=schema))
        return found


_LIST_PARAMETERS = ("limit", "marker", "page_reverse", "sort_key", "sort_dir", "fields")
_TAGS = openapi.shape_schema(tags.Tags)


class Verbs:
    """What is no create, read, update or delete of a resource."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    async def add_interface(self, request: Request) -> Reply:
        """Attach a router to a subnet"""
        body, id = await request.json(), request.path["id"]
        leg = await self.engine.write(request.context, lambda call: interfaces.add(call, id, body))
        return Reply(leg)

    async def remove_interface(self, request: Request) -> Reply:
        """Detach a router from a subnet"""
        body, id = await request.json(), request.path["id"]
        leg = await self.engine.write(request.context, lambda call: interfaces.remove(call, id, body))
        return Reply(leg)

    async def add_routes(self, request: Request) -> Reply:
        """Add routes to a router"""
        return await self._routes(request, interfaces.add_routes)

    async def remove_routes(self, request: Request) -> Reply:
        """Remove routes of a router"""
        return await self._routes(request, interfaces.remove_routes)

    async def _routes(self, request: Request, change: Callable[[Call, str, Any], Router]) -> Reply:
        body = await request.envelope("router")

        def run(call: Call) -> dict[str, Any]:
            router = change(call, request.path["id"], body)
            return self.engine.render(call.tx, call.context, [router])[0]

        return Reply({"router": await self.engine.write(request.context, run)})

    async def pools(self, request: Request) -> Reply:
        """List what floating IPs are taken from"""
        own = {"project_id": request.context.project_id}
        self.engine.require("get_floatingip_pool", request.context, own)

        def run(reader: Reader) -> list[dict[str, Any]]:
            networks = table_of(Network)
            seen = self.engine.visible(request.context, Network)
            external = reader.select(Network, networks.c.external.is_(True), *seen)
            return [
                {
                    "subnet_id": subnet.id,
                    "subnet_name": subnet.name,
                    "tenant_id": subnet.project_id,
                    "project_id": subnet.project_id,
                    "network_id": subnet.network_id,
                    "cidr": subnet.cidr,
                }
                for network in external
                for subnet in reader.find(Subnet, network_id=network.id, ip_version=4)
            ]

        return Reply({"floatingip_pools": await self.engine.read(run)})

    async def zones(self, request: Request) -> Reply:
        """List the availability zones"""
        self.engine.require("get_availability_zone", request.context, {})

        def run(reader: Reader) -> list[dict[str, str]]:
            zones: dict[str, bool] = {}
            for host in reader.select(Host):
                zones[host.zone] = zones.get(host.zone, False) or (host.enabled and host.alive)
            return [
                {"name": name, "resource": resource, "state": "available" if well else "unavailable"}
                for name, well in sorted(zones.items())
                for resource in ("network", "router")
            ]

        return Reply({"availability_zones": await self.engine.read(run)})

    async def extensions(self, request: Request) -> Reply:
        """List what is offered beside the core"""
        return Reply({"extensions": extensions.entries()})

    async def extension(self, request: Request) -> Reply:
        """Show one extension"""
        found = extensions.entry(request.path["alias"])
        if found is None:
            raise dialect.no_such(f"Extension {request.path['alias'][:80]}")
        return Reply({"extension": found})

    async def versions(self, request: Request) -> Reply:
        """List the versions of the API"""
        link = {"rel": "self", "href": f"{request.base_url}/v2.0/"}
        return Reply({"versions": [{"id": "v2.0", "status": "CURRENT", "links": [link]}]})

    async def root(self, request: Request) -> Reply:
        """List the kinds of resources"""
        resources = []
        for cls in KINDS:
            spec = spec_of(cls)
            link = {"rel": "self", "href": f"{request.base_url}{path_of(spec)}"}
            resources.append({"name": spec.kind, "collection": spec.plural, "links": [link]})
        return Reply({"resources": resources})

    # Quotas.

    async def all_quotas(self, request: Request) -> Reply:
        """List the limits that were set"""
        self.engine.require("get_quota", request.context, {})
        return Reply({"quotas": await self.engine.read(quotas.everything)})

    async def show_quota(self, request: Request) -> Reply:
        """Show the limits of a project"""
        project = request.path["project"]
        if project in ("tenant", "project"):
            return Reply({project: {f"{project}_id": request.context.project_id}})
        self._may_see(request, project)
        return Reply({"quota": await self.engine.read(lambda reader: quotas.of(reader, project))})

    async def default_quota(self, request: Request) -> Reply:
        """Show the limits of a project for which none were set"""
        self._may_see(request, request.path["project"])
        return Reply({"quota": quotas.defaults()})

    async def quota_details(self, request: Request) -> Reply:
        """Show limits and use of a project"""
        project = request.path["project"]
        self._may_see(request, project)
        return Reply({"quota": await self.engine.read(lambda reader: quotas.details(reader, project))})

    async def change_quota(self, request: Request) -> Reply:
        """Set limits of a project"""
        project = request.path["project"]
        body = await request.envelope("quota")
        self.engine.require("update_quota", request.context, {"project_id": project})
        changed = await self.engine.write(request.context, lambda call: quotas.change(call.tx, project, body))
        return Reply({"quota": changed})

    async def reset_quota(self, request: Request) -> Reply:
        """Give a project the default limits again"""
        project = request.path["project"]
        self.engine.require("delete_quota", request.context, {"project_id": project})
        await self.engine.write(request.context, lambda call: quotas.reset(call.tx, project))
        return Reply(status=204)

    def _may_see(self, request: Request, project: str) -> None:
        if project != request.context.project_id:
            self.engine.require("get_quota", request.context, {"project_id": project})

    def endpoints(self) -> list[Endpoint]:
        """All of them."""

        def at(method: str, path: str, handler: Handle, **more: Any) -> Endpoint:
            return Endpoint(method, path, handler, summary=(handler.__doc__ or "").strip(), **more)

        router, quota = "/v2.0/routers/{id}", "/v2.0/quotas/{project}"
        leg = openapi.shape_schema(interfaces.Interface)
        routes = openapi.shape_schema(interfaces.RouteChange, "router")
        return [
            at("GET", "", self.versions, token=False),
            at("GET", "/", self.versions, token=False),
            at("GET", "/v2.0", self.root),
            at("GET", "/v2.0/", self.root),
            at("GET", "/v2.0/extensions", self.extensions),
            at("GET", "/v2.0/extensions/{alias}", self.extension),
            at("PUT", f"{router}/add_router_interface", self.add_interface, kind="router", request=leg),
            at("PUT", f"{router}/remove_router_interface", self.remove_interface, kind="router", request=leg),
            at("PUT", f"{router}/add_extraroutes", self.add_routes, kind="router", request=routes),
            at("PUT", f"{router}/remove_extraroutes", self.remove_routes, kind="router", request=routes),
            at("GET", "/v2.0/floatingip_pools", self.pools),
            at("GET", "/v2.0/floatingip-pools", self.pools),
            at("GET", "/v2.0/availability_zones", self.zones),
            at("GET", "/v2.0/quotas", self.all_quotas),
            at("GET", quota, self.show_quota),
            at("PUT", quota, self.change_quota, request=quotas.SCHEMA),
            at("DELETE", quota, self.reset_quota, success=204),
            at("GET", f"{quota}/default", self.default_quota),
            at("GET", f"{quota}/details", self.quota_details),
        ]


def service(engine: Engine) -> Service:
    """The Network API."""
    endpoints = [endpoint for cls in KINDS for endpoint in Collection(engine, cls).endpoints()]
    return Service(
        name="network",
        prefix="/network",
        endpoints=[*endpoints, *Verbs(engine).endpoints()],
        error=dialect.error,
    )
