"""Collections of the Identity API: create, list, show, change and delete, the same for every kind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from trunkline.api.context import Context
from trunkline.api.engine import Engine
from trunkline.api.http import Endpoint, Reply, Request
from trunkline.api.identity.login import Logins
from trunkline.api.identity.passwords import Passwords
from trunkline.api.identity.sessions import Sessions
from trunkline.api.openapi import input_schema
from trunkline.errors import BadRequest, NotFound
from trunkline.resources.identity import Project
from trunkline.resources.schema import Resource, spec_of
from trunkline.store import Reader

#: The domain of what is created by somebody whose token names none.
DEFAULT_DOMAIN = "default"


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What the endpoints work with."""

    engine: Engine
    sessions: Sessions
    logins: Logins
    passwords: Passwords


#: Changes the body of a create or update request, inside the envelope, before it is validated.
Prepare = Callable[[Parts, Request, dict[str, Any]], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Collection:
    """One kind at one path."""

    kind: type[Resource]
    #: "/users"; under /v3
    path: str
    prepare: Prepare | None = None
    #: (context, query) -> the query that is carried out, after the access rule for it holds.
    narrow: Callable[[Parts, Context, list[tuple[str, str]]], list[tuple[str, str]]] | None = None
    #: What the access rules call an object, where it is not its kind: they are get_<this>, update_<this> ...
    called: Callable[[Any], str] | None = None


def root(request: Request) -> str:
    """The URL of version 3 as the client reached it."""
    return f"{request.base_url}/v3"


def linked(request: Request, path: str, item: dict[str, Any]) -> dict[str, Any]:
    """A rendered object with the link to itself."""
    item["links"] = {"self": f"{root(request)}{path}/{item['id']}"}
    return item


def listed(
    request: Request, plural: str, items: Sequence[Any], following: str | None = None
) -> dict[str, Any]:
    """The envelope of a list. `following` is the URL of the next page."""
    here = f"{request.base_url}{request.url_path}"
    query = urlencode(request.query)
    return {
        plural: list(items),
        "links": {"self": f"{here}?{query}" if query else here, "previous": None, "next": following},
    }


def render(parts: Parts, reader: Reader, request: Request, path: str, objects: Sequence[Any]) -> list[Any]:
    """Objects of one kind as they are shown, with links."""
    return [linked(request, path, item) for item in parts.engine.render(reader, request.context, objects)]


async def body_of(request: Request, kind: str) -> dict[str, Any]:
    """The object in the envelope of a request; raises BadRequest where it is none."""
    body = await request.envelope(kind)
    if not isinstance(body, dict):
        raise BadRequest(f"'{kind}' must be a JSON object.")
    return dict(body)


def found(reader: Reader, kind: type[Any], id: str) -> Any:
    """The object of an id, raises NotFound where there is none."""
    obj = reader.get(kind, id)
    if obj is None:
        name = spec_of(kind).kind
        raise NotFound(f"Could not find {name}: {id[:255]}.", type=f"{name}NotFound")
    return obj


def endpoints(parts: Parts, collection: Collection) -> list[Endpoint]:
    """The endpoints of a collection."""
    handlers = _Handlers(parts, collection)
    spec = handlers.spec
    kind = spec.kind
    path = f"/v3{collection.path}"
    filters = [f.wire for f in spec.fields.values() if f.flags.shown and f.flags.filter and f.scalar]
    return [
        Endpoint(
            "POST",
            path,
            handlers.create,
            summary=f"Create a {kind}",
            kind=kind,
            request=input_schema(kind, "create", kind),
            success=201,
        ),
        Endpoint(
            "GET",
            path,
            handlers.index,
            summary=f"List {spec.plural}",
            kind=kind,
            parameters=[*filters, "limit", "marker", "sort_key", "sort_dir"],
        ),
        Endpoint("GET", f"{path}/{{id}}", handlers.show, summary=f"Show a {kind}", kind=kind),
        Endpoint(
            "PATCH",
            f"{path}/{{id}}",
            handlers.update,
            summary=f"Change a {kind}",
            kind=kind,
            request=input_schema(kind, "update", kind),
        ),
        Endpoint(
            "DELETE", f"{path}/{{id}}", handlers.delete, summary=f"Delete a {kind}", kind=kind, success=204
        ),
    ]


class _Handlers:
    def __init__(self, parts: Parts, collection: Collection) -> None:
        self.parts = parts
        self.engine = parts.engine
        self.collection = collection
        self.kind = collection.kind
        self.spec = spec_of(collection.kind)

    async def create(self, request: Request) -> Reply:
        body = await body_of(request, self.spec.kind)
        if "domain_id" in self.spec.fields and self.spec.fields["domain_id"].flags.create:
            self._choose_domain(request.context, body)
        if self.collection.prepare is not None:
            await self.collection.prepare(self.parts, request, body)
        item = await self.engine.create(request.context, self.kind, body)
        return Reply({self.spec.kind: linked(request, self.collection.path, item)}, 201)

    async def index(self, request: Request) -> Reply:
        context = request.context
        pairs = [self._plain(name, value) for name, value in request.query if name != "fields"]
        given = dict(pairs)
        target = {"target.domain_id": given.get("domain_id") or context.domain_id}
        target["target.domain.id"] = given.get("id") or context.domain_id
        self.engine.require(f"identity:list_{self.spec.plural}", context, target)
        if self.collection.narrow is not None:
            pairs = self.collection.narrow(self.parts, context, pairs)
        elif "domain_id" in self.spec.fields and context.domain_id and not given.get("domain_id"):
            pairs.append(("domain_id", context.domain_id))
        query = self.engine.query(self.kind, pairs, unknown="ignore")
        page = await self.engine.page(context, self.kind, query)
        items = [linked(request, self.collection.path, item) for item in page.items]
        following = None
        if page.more and page.last is not None:
            rest = [(name, value) for name, value in request.query if name != "marker"]
            following = f"{request.base_url}{request.url_path}?{urlencode([*rest, ('marker', page.last)])}"
        return Reply(listed(request, self.spec.plural, items, following))

    async def show(self, request: Request) -> Reply:
        def run(reader: Reader) -> dict[str, Any]:
            obj = self._there(reader, request, "get")
            return self.engine.render(reader, request.context, [obj])[0]

        item = await self.engine.read(run)
        return Reply({self.spec.kind: linked(request, self.collection.path, item)})

    async def update(self, request: Request) -> Reply:
        body = await body_of(request, self.spec.kind)
        await self.engine.read(lambda reader: self._unchanged(reader, request, body))
        if self.collection.prepare is not None:
            await self.collection.prepare(self.parts, request, body)
        item = await self.engine.update(request.context, self.kind, request.path["id"], body)
        return Reply({self.spec.kind: linked(request, self.collection.path, item)})

    async def delete(self, request: Request) -> Reply:
        await self.engine.read(lambda reader: self._there(reader, request, "delete"))
        await self.engine.delete(request.context, self.kind, request.path["id"])
        return Reply(status=204)

    def _there(self, reader: Reader, request: Request, verb: str) -> Resource:
        """The object, for those who may. To others, what is not there looks like what is."""
        obj: Resource | None = reader.get(self.kind, request.path["id"])
        target: Mapping[str, Any] = {} if obj is None else self.engine.target(reader, obj)
        called = self.spec.kind
        if obj is not None and self.collection.called is not None:
            called = self.collection.called(obj)
        self.engine.require(f"identity:{verb}_{called}", request.context, target)
        return obj if obj is not None else found(reader, self.kind, request.path["id"])

    def _unchanged(self, reader: Reader, request: Request, body: dict[str, Any]) -> None:
        """Clients send back what they were shown: what cannot be changed may stand there as it is."""
        obj = self._there(reader, request, "update")
        for name in list(body):
            field = self.spec.by_wire.get(name)
            if field is None or field.flags.update or not field.flags.shown:
                continue
            if body[name] == getattr(obj, field.name):
                del body[name]

    def _choose_domain(self, context: Context, body: dict[str, Any]) -> None:
        if self.spec.fields["domain_id"].nullable or body.get("domain_id") is not None:
            return
        body["domain_id"] = context.domain_id or context.project_domain_id or DEFAULT_DOMAIN
        parent_id = body.get("parent_id")
        if isinstance(parent_id, str):
            with self.engine.store.read() as reader:
                parent = reader.get(Project, parent_id)
                body["domain_id"] = parent.domain_id if parent else parent_id

    def _plain(self, name: str, value: str) -> tuple[str, str]:
        """A boolean filter without a value asks for true."""
        field = self.spec.by_wire.get(name)
        return (name, "true") if field is not None and field.base is bool and not value else (name, value)
