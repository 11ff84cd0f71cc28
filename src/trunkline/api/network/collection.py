"""The collections of the Network API: list, show, create, change, delete and tags, for every kind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, cast

from trunkline.api import openapi
from trunkline.api.context import Context
from trunkline.api.engine import Call, Engine
from trunkline.api.http import Endpoint, Reply, Request, only
from trunkline.api.network import dialect, firewall_defaults, security_groups, tags
from trunkline.api.query import Query
from trunkline.errors import BadRequest
from trunkline.resources.network import (
    FirewallGroup,
    SecurityGroup,
)
from trunkline.resources.schema import Resource, Spec, spec_of
from trunkline.resources.standard import Standard

#: How many one bulk request may create.
MOST_AT_ONCE = 1000

#: What stands around a resource in a body, where it is not its kind.
ENVELOPES = {"network_flavor": "flavor", "qos_policy": "policy"}
#: What is before the plural in a path, and where else tags are: Neutron has those of policies beside /qos.
_FOLDERS = {
    "firewall_group": "fwaas/",
    "firewall_policy": "fwaas/",
    "firewall_rule": "fwaas/",
    "local_ip": "",
    "log": "log/",
    "metering_label": "metering/",
    "metering_label_rule": "metering/",
    "ndp_proxy": "",
    "network_segment_range": "",
    "qos_policy": "qos/",
    "service_profile": "",
    "tap_mirror": "taas/",
}
#: Kinds in a folder whose words are joined by hyphens all the same.
_HYPHENS_TOO = frozenset({"metering_label", "metering_label_rule"})
_TAGS_TOO = {"qos_policy": ("/v2.0/policies",)}
#: Kinds of which every project has one from the beginning: made when somebody looks.
_DEFAULTS: Mapping[type[Resource], Callable[[Engine, Context, Iterable[str]], Awaitable[None]]] = {
    FirewallGroup: firewall_defaults.ensure_default,
    SecurityGroup: security_groups.ensure_default,
}

Handle = Callable[[Request], Awaitable[Reply]]


def path_of(spec: Spec) -> str:
    """Where a kind's collection is: words are joined by hyphens."""
    # The words of what came in later days are joined by underscores.
    later = spec.kind in _FOLDERS and spec.kind not in _HYPHENS_TOO
    plural = spec.plural if later else spec.plural.replace("_", "-")
    return f"/v2.0/{_FOLDERS.get(spec.kind, '')}{plural}"


class Collection:
    """The handlers of one kind."""

    def __init__(self, engine: Engine, cls: type[Resource]) -> None:
        self.engine = engine
        self.cls = cls
        self.spec = spec_of(cls)
        #: The same, of a kind that has tags: the paths of tags exist for no other.
        self.tagged = cast("type[Standard]", cls)
        self.one = ENVELOPES.get(self.spec.kind, self.spec.kind)

    async def index(self, request: Request) -> Reply:
        """Lists what the caller sees."""
        self._may_read(request)
        if ensure := _DEFAULTS.get(self.cls):
            asked = (value for name, value in request.query if name in ("project_id", "tenant_id"))
            await ensure(self.engine, request.context, asked)
        query: Query = self.engine.query(
            self.cls, request.query, context=request.context, aliases=dialect.ALIASES
        )
        page = await self.engine.page(request.context, self.cls, query)
        return Reply(dialect.listing(request, self.spec.plural, query, page))

    async def show(self, request: Request) -> Reply:
        """Shows one."""
        self._may_read(request)
        fields = dialect.shown_fields(request.query)
        item = await self.engine.show(request.context, self.cls, request.path["id"], fields=fields)
        return Reply({self.one: item})

    async def create(self, request: Request) -> Reply:
        """Creates one, or several under the plural: all or none."""
        body = await request.json()
        kind, plural = self.one, self.spec.plural
        if isinstance(body, dict) and plural in body and kind not in body:
            only(body, plural)
            bodies = dialect.several(body[plural], kind, plural, MOST_AT_ONCE)
            items = await self.engine.create_many(request.context, self.cls, bodies)
            return Reply({plural: items}, 201)
        if not isinstance(body, dict) or kind not in body:
            raise BadRequest(f"The body must be a JSON object with the key '{kind}' or '{plural}'.")
        only(body, kind)
        item = await self.engine.create(request.context, self.cls, dialect.given(body[kind], kind))
        return Reply({kind: item}, 201)

    async def update(self, request: Request) -> Reply:
        """Changes one."""
        fields = dialect.given(await request.envelope(self.one), self.one)
        item = await self.engine.update(
            request.context,
            self.cls,
            request.path["id"],
            fields,
            if_revision=dialect.expected_revision(request.headers),
        )
        return Reply({self.one: item})

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
        stored = await self._write(request, lambda call: tags.replace_all(call, self.tagged, id, body))
        return Reply({"tags": stored})

    async def add_tags(self, request: Request) -> Reply:
        """Adds tags to those of one."""
        body = await request.json()
        id = request.path["id"]
        stored = await self._write(request, lambda call: tags.add_some(call, self.tagged, id, body))
        return Reply({"tags": stored}, status=201)

    async def remove_tags(self, request: Request) -> Reply:
        """Removes all tags of one."""
        await self._write(request, lambda call: tags.remove_all(call, self.tagged, request.path["id"]))
        return Reply(status=204)

    async def has_tag(self, request: Request) -> Reply:
        """Says whether one has a tag."""
        self._may_read(request)
        with self.engine.store.read() as reader:
            obj = self.engine.get(reader, request.context, self.tagged, request.path["id"])
        tags.find(obj, request.path["tag"])
        return Reply(status=204)

    async def add_tag(self, request: Request) -> Reply:
        """Adds a tag to one."""
        id, tag = request.path["id"], request.path["tag"]
        await self._write(request, lambda call: tags.add(call, self.tagged, id, tag))
        return Reply(status=201)

    async def remove_tag(self, request: Request) -> Reply:
        """Removes a tag from one."""
        id, tag = request.path["id"], request.path["tag"]
        await self._write(request, lambda call: tags.remove(call, self.tagged, id, tag))
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
            return Endpoint(method, where, handler, summary=summary, kind=kind, envelope=self.one, **more)

        found = [at("GET", path, self.index, f"List {self.spec.plural}", parameters=LIST_PARAMETERS)]
        if self.spec.create_input.__struct_fields__:
            schema = openapi.input_schema(kind, "create", self.one)
            found.append(at("POST", path, self.create, f"Create a {words}", success=201, request=schema))
        found += [
            at("GET", one, self.show, f"Show a {words}", parameters=("fields",)),
            at("DELETE", one, self.delete, f"Delete a {words}", success=204),
        ]
        places = (label, *(f"{more}/{{id}}/tags" for more in _TAGS_TOO.get(kind, ())))
        for where in places if "tags" in self.spec.fields else ():
            found += [
                at("GET", where, self.tags, f"List the tags of a {words}"),
                at("PUT", where, self.replace_tags, f"Replace the tags of a {words}", request=_TAGS),
                at("POST", where, self.add_tags, f"Add tags to a {words}", success=201, request=_TAGS),
                at("DELETE", where, self.remove_tags, f"Remove the tags of a {words}", success=204),
                at("GET", f"{where}/{{tag}}", self.has_tag, f"Ask for a tag of a {words}", success=204),
                at("PUT", f"{where}/{{tag}}", self.add_tag, f"Add a tag to a {words}", success=201),
                at("DELETE", f"{where}/{{tag}}", self.remove_tag, f"Remove a tag of a {words}", success=204),
            ]
        if self.spec.update_input.__struct_fields__:
            schema = openapi.input_schema(kind, "update", self.one)
            found.append(at("PUT", one, self.update, f"Change a {words}", request=schema))
        return found


LIST_PARAMETERS = ("limit", "marker", "page_reverse", "sort_key", "sort_dir", "fields")
_TAGS = openapi.shape_schema(tags.Tags)
