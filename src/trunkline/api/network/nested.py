"""Collections inside of a resource: /v2.0/floatingips/{floatingip_id}/port_forwardings.

As the collections of `collection`, but for tags. Who does not see the parent sees none of its children,
and a child is found below its own parent alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from trunkline.api import openapi
from trunkline.api.engine import Call, Engine
from trunkline.api.http import Endpoint, Reply, Request, only
from trunkline.api.network import dialect
from trunkline.api.network.collection import LIST_PARAMETERS, MOST_AT_ONCE, Handle, path_of
from trunkline.errors import BadRequest
from trunkline.resources.schema import Resource, spec_of
from trunkline.store import Reader, table_of


class Nested:
    """The handlers of one kind below another one.

    Args:
        parent: the kind that it is below.
        field: the attribute of `cls` that holds the parent's id; no client gives it but by the path.
    """

    def __init__(self, engine: Engine, cls: type[Resource], parent: type[Resource], field: str) -> None:
        self.engine = engine
        self.cls, self.parent, self.field = cls, parent, field
        self.spec = spec_of(cls)

    def _parent_of(self, reader: Reader, request: Request) -> Resource:
        id = request.path[f"{spec_of(self.parent).kind}_id"]
        return self.engine.get(reader, request.context, self.parent, id)

    def _child_of(self, reader: Reader, request: Request) -> Resource:
        parent = self._parent_of(reader, request)
        found = self.engine.get(reader, request.context, self.cls, request.path["id"])
        if getattr(found, self.field) != parent.id:
            raise self.engine.missing(self.cls, request.path["id"])
        return found

    async def index(self, request: Request) -> Reply:
        """Lists those of one parent."""
        self._may_read(request)
        with self.engine.store.read() as reader:
            parent = self._parent_of(reader, request)
        query = self.engine.query(self.cls, request.query)
        mine = table_of(self.cls).c[self.field] == parent.id
        page = await self.engine.page(request.context, self.cls, replace(query, where=(*query.where, mine)))
        return Reply(dialect.listing(request, self.spec.plural, query, page))

    async def show(self, request: Request) -> Reply:
        """Shows one."""
        self._may_read(request)
        fields = dialect.shown_fields(request.query)
        with self.engine.store.read() as reader:
            found = self._child_of(reader, request)
            return Reply({self.spec.kind: self.engine.render(reader, request.context, [found], fields)[0]})

    async def create(self, request: Request) -> Reply:
        """Creates one, or several under the plural: all or none."""
        body = await request.json()
        kind, plural = self.spec.kind, self.spec.plural
        if isinstance(body, dict) and plural in body and kind not in body:
            only(body, plural)
            items = await self._create(request, dialect.several(body[plural], kind, plural, MOST_AT_ONCE))
            return Reply({plural: items}, 201)
        if not isinstance(body, dict) or kind not in body:
            raise BadRequest(f"The body must be a JSON object with the key '{kind}' or '{plural}'.")
        only(body, kind)
        (item,) = await self._create(request, [dialect.given(body[kind], kind)])
        return Reply({kind: item}, 201)

    async def _create(self, request: Request, bodies: Sequence[Any]) -> list[dict[str, Any]]:
        values = [self.spec.parse_create(body, lax=self.engine.stages_of(self.cls).lax) for body in bodies]

        def run(call: Call) -> list[dict[str, Any]]:
            parent = self._parent_of(call.tx, request)
            made = [call.create(self.cls, {**each, self.field: parent.id}) for each in values]
            return self.engine.render(call.tx, call.context, made)

        return await self.engine.write(request.context, run)

    async def update(self, request: Request) -> Reply:
        """Changes one."""
        kind = self.spec.kind
        given = dialect.given(await request.envelope(kind), kind)
        values = self.spec.parse_update(given, lax=self.engine.stages_of(self.cls).lax)

        def run(call: Call) -> dict[str, Any]:
            changed = call.update(self._child_of(call.tx, request), values)
            return self.engine.render(call.tx, call.context, [changed])[0]

        return Reply({kind: await self.engine.write(request.context, run)})

    async def delete(self, request: Request) -> Reply:
        """Deletes one."""
        await self.engine.write(request.context, lambda call: call.delete(self._child_of(call.tx, request)))
        return Reply(status=204)

    def _may_read(self, request: Request) -> None:
        own = {"project_id": request.context.project_id}
        self.engine.require(self.engine.rule(self.cls, "get"), request.context, own)

    def endpoints(self) -> list[Endpoint]:
        """All of them."""
        kind, parent = self.spec.kind, spec_of(self.parent)
        path = f"{path_of(parent)}/{{{parent.kind}_id}}/{self.spec.plural}"
        one, words = f"{path}/{{id}}", kind.replace("_", " ")

        def at(method: str, where: str, handler: Handle, summary: str, **more: Any) -> Endpoint:
            return Endpoint(method, where, handler, summary=summary, kind=kind, **more)

        new, changed = (openapi.input_schema(kind, verb, kind) for verb in ("create", "update"))
        return [
            at("GET", path, self.index, f"List {self.spec.plural}", parameters=LIST_PARAMETERS),
            at("POST", path, self.create, f"Create a {words}", success=201, request=new),
            at("GET", one, self.show, f"Show a {words}", parameters=("fields",)),
            at("PUT", one, self.update, f"Change a {words}", request=changed),
            at("DELETE", one, self.delete, f"Delete a {words}", success=204),
        ]
